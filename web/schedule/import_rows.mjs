// @ts-check
// The rows of an import report, most important first. Uses no DOM and no translated text.

const value = (given) => (given === null ? "null" : typeof given === "object" ? JSON.stringify(given) : String(given));

/** @returns {{kind: string, key: string, text: string}[]} */
export function importRows(report) {
  const rows = (kind, entries, text) => Object.entries(entries ?? {}).map(([key, given]) => ({ kind, key, text: text(given) }));
  return [
    ...rows("used", report.used, value).filter(({ key }) => !(key in (report.overridden ?? {}))),
    ...rows("mapped", report.mapped, (given) => `${value(given.source_value)} → ${given.setting} = ${value(given.value)}`),
    ...rows("overridden", report.overridden, value).map((row) => ({ ...row, text: `${row.text} → ${value(report.config?.[row.key])}` })),
    ...rows("defaulted", report.defaulted, value),
    ...rows("ignored", report.ignored, value),
  ];
}

/** Whether a parsed JSON file is a scheduler configuration rather than a workflow or a prompt. */
export function isSchedulerConfig(given) {
  if (given === null || typeof given !== "object" || Array.isArray(given)) return false;
  if ("nodes" in given || "last_node_id" in given) return false;
  const named = typeof given._class_name === "string" && /Schedul/.test(given._class_name);
  const keys = ["num_train_timesteps", "beta_schedule", "beta_start", "beta_end", "prediction_type", "timestep_spacing",
    "trained_betas"].filter((key) => key in given && (given[key] === null || typeof given[key] !== "object" || key === "trained_betas"));
  return named || keys.length >= 2;
}
