// @ts-check
// Texts of the panels, from the pack's locales/<language>/main.json under the key "ddim".

import { getJson, locale } from "../comfy.mjs";
import { fill, labelsOfInputs, pick, withLabels } from "./words.mjs";

/** @type {Record<string, any>} */
let catalogue = {};
/** Labels of inputs by language and id. @type {Record<string, Record<string, string>>} */
let labels = {};

/** Load all languages once; if that fails, the keys themselves are shown. */
export async function loadText() {
  catalogue = await getJson("/i18n").catch(() => ({}));
  labels = {};
}

/**
 * A text in the user's language, in which inputs are called as the nodes label them.
 * @param {string} key e.g. "plot.summary"
 * @param {Record<string, string | number>} [values] values of the placeholders in braces
 * @param {string} [fallback] English text to use if the key is missing
 */
export function say(key, values = {}, fallback = key) {
  return withLabels(fill(pick(catalogue, locale(), key) ?? fallback, values), labelsIn(locale()));
}

function labelsIn(language) {
  const ours = Object.entries(catalogue[language]?.nodeDefs ?? {}).filter(([node]) => node.startsWith("DDIM"));
  return (labels[language] ??= labelsOfInputs(Object.fromEntries(ours)));
}
