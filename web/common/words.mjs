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
