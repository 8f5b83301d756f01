// @ts-check
// Formatting of text and numbers. Uses no state and no DOM.

/** Fill the placeholders of a text such as "{t} of {n}". @param {string} text @param {Record<string, string | number>} values */
export const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));

/**
 * Look up a text in a catalogue `{language: {ddim: {...}}}`: in the language, its base language, or English.
 * @returns {string | undefined}
 */
export function pick(catalogue, language, key) {
  for (const candidate of [language, String(language).split("-")[0], "en"]) {
    const found = key.split(".").reduce((branch, part) => branch?.[part], catalogue[candidate]?.ddim);
    if (typeof found === "string") return found;
  }
  return undefined;
}

const ID = /(?<![(（\w])[a-z][a-z0-9]*(?:_[a-z0-9]+)+(?![\w=])/g;

/** Put the label that a node shows before each id of an input in a text. @param {string} text @param {Record<string, string>} labels by id */
export const withLabels = (text, labels) => text.replace(ID, (id) => (labels[id] ? `${labels[id]} (${id})` : id));

/**
 * The labels of inputs that are not just their ids, from a language's definitions of nodes.
 * @param {Record<string, {inputs?: Record<string, {name?: string}>}>} nodes
 * @returns {Record<string, string>}
 */
export function labelsOfInputs(nodes) {
  const named = Object.values(nodes).flatMap(({ inputs = {} }) => Object.entries(inputs));
  const plain = (text) => text.toLowerCase().replaceAll(" ", "_");
  const told = named.filter(([id, { name = id }]) => plain(name) !== id && !ALSO_VALUES.has(id)).map(([id, { name }]) => [id, name]);
  return Object.fromEntries(told.reverse()); // the first of one id counts
}

const ALSO_VALUES = new Set(["variance_noise"]); // ids that are also values of another input

/** Format with four significant digits; very small and very large numbers with a power of ten. @param {number | null | undefined} value */
export function figure(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size < 1e-3 || size >= 1e5 ? value.toExponential(2).replace("e+", "e") : String(Number(value.toPrecision(4)));
}

/** Format the SNR from the core's log-SNR, in which null stands for zero or infinity. */
export function snr(logSnr, alphaBar) {
  if (logSnr === null) return alphaBar >= 0.5 ? "∞" : "0";
  return figure(Math.exp(logSnr));
}

/** Format a log-SNR of the core, in which null stands for no signal or no noise. */
export function logarithm(logSnr, alphaBar) {
  if (logSnr === null) return alphaBar >= 0.5 ? "∞" : "−∞";
  return figure(logSnr).replace("-", "−");
}

/** Whether two values of a widget are the same; the editor rounds numbers. */
export const closeTo = (one, other) =>
  typeof one === "number" && typeof other === "number" ? Math.abs(one - other) <= 1e-9 * Math.max(1, Math.abs(other)) : one === other;
