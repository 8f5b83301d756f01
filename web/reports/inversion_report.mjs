// @ts-check
// The round-trip error of each image of an inversion, as numbers and bars.

import { addPanel, chain, fitNode, widenNode } from "../common/node_panel.mjs";
import { html, messages, naturalHeight, panel } from "../common/panel.mjs";
import { say } from "../common/text.mjs";
import { figure } from "../common/words.mjs";

export const INVERSION = "ddim_inversion_report";
const EMPTY_HEIGHT = 44;
const MAX_ROWS = 16;
const WIDTH = 320;

/** Put the report on an inversion node. */
export function attachInversion(node) {
  if (node.comfyClass !== "DDIMInvert" || typeof node.addDOMWidget !== "function") return;
  const element = panel("inversion", say("inversion.title"));
  element.append(html("output", { class: "ddim-readout" }, say("inversion.empty")));
  let height = EMPTY_HEIGHT;
  addPanel(node, INVERSION, element, () => height, 600);
  widenNode(node, WIDTH);
  node.ddimInversion = (report) => {
    element.replaceChildren(...contents(report));
    requestAnimationFrame(() => {
      height = naturalHeight(element, 0, null);
      element.style.minHeight = `${height - 20}px`;
      fitNode(node);
    });
  };
  chain(node, "onExecuted", (output) => showInversion(node, output));
}

/** Show a run's report. */
export function showInversion(node, output) {
  const report = output?.ddim_inversion?.[0];
  if (report) node.ddimInversion?.(report);
}

function contents(report) {
  const { method, images, round_trip_error: errors, share = [], verdict } = report;
  const head = html("header", { class: "ddim-head" }, say("inversion.head", { method, images }));
  const rows = errors.slice(0, MAX_ROWS).map((error, i) => row(i, error, share[i]));
  const table = html("table", { class: "ddim-errors" }, html("caption", {}, say("inversion.caption")), ...rows);
  const scrolled = html("div", { class: "ddim-scroll", tabindex: 0 }, table); // a batch must not push other nodes away
  const more = errors.length - rows.length;
  const worst = errors.includes(null) ? null : Math.max(...errors);
  const notes = [
    ...(more > 0 ? [say("inversion.more", { more, worst: figure(worst) })] : []),
    ...(report.notes ?? []).map((note) => say(`inversion.after_${method}`, {}, note)),
  ];
  const judged = verdict ? [{ level: verdict === "far" ? "warning" : "note", text: say(`inversion.${verdict}`) }] : [];
  return [head, scrolled, messages([...judged, ...notes.map((text) => ({ level: "note", text }))])];
}

/** @param {number} [share] length of the bar, by the node: 0 for an image that comes back exactly */
function row(index, error, share = 0) {
  const bar = html("span", { class: "ddim-bar", style: `width:${(100 * share).toFixed(1)}%` });
  return html("tr", {}, html("th", { scope: "row" }, say("inversion.image", { number: index + 1 })),
    html("td", { class: "ddim-bars", "aria-hidden": "true" }, bar), html("td", { class: "ddim-number" }, figure(error)));
}
