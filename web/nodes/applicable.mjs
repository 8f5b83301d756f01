// @ts-check
// Widgets without effect are greyed out. The nodes declare when an input counts: `ddim_applies`, by another input's values,
// and `ddim_unless_linked`, by links. Uses no DOM and no translated text.

/**
 * Why an input has no effect now, or null if it has.
 * @param {{ddim_applies?: Record<string, any[]>, ddim_unless_linked?: string[]}} options what the node declares about the input
 * @param {(name: string) => any} valueOf value of an input; undefined if it is only known in a run
 * @param {(name: string) => boolean} linked whether an input has a link
 * @returns {{kind: "linked" | "other_value", input: string, values: any[]} | null}
 */
export function withoutEffect(options, valueOf, linked) {
  const taken = (options.ddim_unless_linked ?? []).find(linked);
  if (taken !== undefined) return { kind: "linked", input: taken, values: [] };
  for (const [input, values] of Object.entries(options.ddim_applies ?? {})) {
    const value = valueOf(input);
    if (value !== undefined && !values.includes(value)) return { kind: "other_value", input, values };
  }
  return null;
}
