// @ts-check
// What the import of a scheduler_config.json took, mapped, replaced and passed over, as a table that can be folded.

import { html } from "./panel.mjs";
import { say } from "./text.mjs";
import { importRows } from "./import_rows.mjs";

/** @param {any} report what the core's import says, key by key */
export function importReport(report) {
  const title = say("import.title", { from: report.source_class || say("import.unnamed"), used: Object.keys(report.used ?? {}).length });
  const details = html("details", { class: "ddim-import" }, html("summary", {}, title));
  details.append(html("ul", { class: "ddim-import-notes" }, ...(report.notes ?? []).map((note) => html("li", {}, note))));
  const table = html("table", {});
  for (const { kind, key, text } of importRows(report)) {
    table.append(html("tr", { class: `ddim-import-${kind}` }, html("th", { scope: "row" }, key),
      html("td", {}, say(`import.${kind}`)), html("td", {}, text)));
  }
  details.append(table);
  return details;
}
