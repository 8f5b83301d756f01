// @ts-check
// Which preset a node's values are. Uses no DOM and no translated text.

import { closeTo } from "../common/words.mjs";

/** @typedef {{name: string, title: string, inputs: Record<string, any>}} Preset */

/**
 * The preset with these values, or undefined; of several, the one that was chosen, or else the one that sets the most.
 * @param {Preset[]} known
 * @param {(name: string) => any} valueOf value of an input
 * @param {string} [chosen] name of a preset
 */
export function matching(known, valueOf, chosen = "") {
  const same = ({ inputs }) => Object.entries(inputs).every(([name, value]) => closeTo(valueOf(name), value));
  const size = ({ inputs }) => Object.keys(inputs).length;
  const found = known.filter(same).sort((one, other) => size(other) - size(one));
  return found.find(({ name }) => name === chosen) ?? found[0];
}
