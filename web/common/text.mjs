// @ts-check
// Texts of the panels, from the pack's locales/<language>/main.json under the key "ddim".

import { getJson, locale } from "../comfy.mjs";
import { fill, pick } from "./words.mjs";

/** @type {Record<string, any>} */
let catalogue = {};

/** Load all languages once; if that fails, the keys themselves are shown. */
export async function loadText() {
  catalogue = await getJson("/i18n").catch(() => ({}));
}

/**
 * @param {string} key e.g. "plot.summary"
 * @param {Record<string, string | number>} [values] values of the placeholders in braces
 * @param {string} [fallback] English text to use if the key is missing
 */
export function say(key, values = {}, fallback = key) {
  return fill(pick(catalogue, locale(), key) ?? fallback, values);
}
