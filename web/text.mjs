// @ts-check
// Words of the panels, from the pack's locales/<language>/main.json under the key "ddim".

import { getJson, locale } from "./comfy.mjs";
import { fill, pick } from "./words.mjs";

/** @type {Record<string, any>} */
let catalogue = {};

/** Read all languages once; without them the keys themselves are shown. */
export async function loadText() {
  catalogue = await getJson("/i18n").catch(() => ({}));
}

/**
 * @param {string} key e.g. "plot.summary"
 * @param {Record<string, string | number>} [values] for the places in braces
 * @param {string} [fallback] in English, where a key may be new
 */
export function say(key, values = {}, fallback = key) {
  return fill(pick(catalogue, locale(), key) ?? fallback, values);
}
