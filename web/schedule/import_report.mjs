// @ts-check
// How an import interpreted each key of a scheduler_config.json, as a collapsible table.

import { html } from "../common/panel.mjs";
import { say } from "../common/text.mjs";
import { importRows } from "./import_rows.mjs";

/** @param {any} report the core's import report */
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
