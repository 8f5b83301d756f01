// @ts-check
// Which preset a node's values are. Uses no DOM and no translated text.

import { closeTo } from "../common/words.mjs";

/** @typedef {{name: string, title: string, inputs: Record<string, any>}} Preset */

/** The preset with these values, or undefined; of several, the one that sets the most. @param {Preset[]} known */
export function matching(known, valueOf) {
  const same = ({ inputs }) => Object.entries(inputs).every(([name, value]) => closeTo(valueOf(name), value));
  const size = ({ inputs }) => Object.keys(inputs).length;
  return known.filter(same).sort((one, other) => size(other) - size(one))[0];
}
