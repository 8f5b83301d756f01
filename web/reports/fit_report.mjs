// @ts-check
// The report of fitted timesteps: where they are and how near they come to a long run, beside other plans of as many
// steps; and the list to copy into DDIM Schedule. The numbers come from the node.

import { addPanel, chain, fitNode, widenNode } from "../common/node_panel.mjs";
import { html, messages, naturalHeight, panel, svg } from "../common/panel.mjs";
import { say } from "../common/text.mjs";
import { figure } from "../common/words.mjs";

export const FIT = "ddim_fit_report";
const EMPTY_HEIGHT = 44;
const FRAME = 20; // pixels that the editor leaves free around a panel; no part of this one stretches
const WIDTH = 380;
const SAID_FOR = 2000; // ms that the button says whether it has copied

/** Put the report on the node that fits steps. */
export function attachFit(node) {
  if (node.comfyClass !== "DDIMFitSteps" || typeof node.addDOMWidget !== "function") return;
  const element = panel("fit", say("fit.title"));
  element.append(html("output", { class: "ddim-readout" }, say("fit.empty")));
  let height = EMPTY_HEIGHT;
  addPanel(node, FIT, element, () => height, 600);
  widenNode(node, WIDTH);
  node.ddimFit = (report) => {
    element.replaceChildren(...contents(report));
    requestAnimationFrame(() => {
      height = naturalHeight(element, FRAME, null);
      element.style.minHeight = `${height - 20}px`;
      fitNode(node);
    });
  };
  chain(node, "onExecuted", (output) => showFit(node, output));
}

/** Show a run's report. */
export function showFit(node, output) {
  const report = output?.ddim_fit?.[0];
  if (report) node.ddimFit?.(report);
}

function contents(report) {
  const head = html("header", { class: "ddim-head" }, say("fit.head", { steps: report.steps, images: report.images, grid: report.grid }));
  const cells = ["plan", "where", "error", "error_fitted_to"].map((name) =>
    html("th", { scope: "col", title: say(`fit.about_${name}`), ...(name === "error" ? { colspan: 2 } : {}) }, say(`fit.${name}`)));
  const table = html("table", { class: "ddim-errors ddim-plans" }, html("caption", {}, say("fit.caption", { grid: report.grid })),
    html("thead", {}, html("tr", {}, ...cells)),
    html("tbody", {}, ...report.schedules.map((plan) => row(plan, report.num_train_timesteps))));
  const sentence = (level) => ({ code, values, text }) => ({ level, text: say(`messages.${code}`, values, text) });
  const gain = report.gain === null ? [] : [{ level: "note", text: say("fit.gain", { gain: figure(report.gain) }) }];
  return [head, table, listToCopy(report.list),
    messages([...report.warnings.map(sentence("warning")), ...gain, ...report.notes.map(sentence("note"))])];
}

function row(plan, levels) {
  const bar = html("span", { class: "ddim-bar", style: `width:${(100 * plan.share).toFixed(1)}%` });
  return html("tr", { class: `ddim-plan-${plan.name}` }, html("th", { scope: "row" }, say(`fit.plan_${plan.name}`, {}, plan.name)),
    html("td", { class: "ddim-where", title: plan.index.join(", ") }, strip(plan.index, levels)),
    html("td", { class: "ddim-bars", "aria-hidden": "true" }, bar),
    html("td", { class: "ddim-number" }, figure(plan.error)), html("td", { class: "ddim-number ddim-faint" }, figure(plan.error_fitted_to)));
}

/** One mark for each timestep, from noise on the left to the picture on the right. */
function strip(index, levels) {
  const marks = index.map((t) => {
    const x = 1 - t / Math.max(levels - 1, 1);
    return svg("line", { x1: x, x2: x, y1: 0, y2: 1 });
  });
  const box = { class: "ddim-strip", viewBox: "0 0 1 1", preserveAspectRatio: "none", role: "img", "aria-label": index.join(", ") };
  return svg("svg", box, svg("line", { class: "ddim-axis", x1: 0, x2: 1, y1: 0.5, y2: 0.5 }), ...marks);
}

function listToCopy(list) {
  const shown = html("code", { class: "ddim-list" }, list);
  const button = html("button", { type: "button", title: say("fit.about_copy") }, say("fit.copy"));
  button.addEventListener("click", async () => {
    const done = await copied(list, shown);
    button.textContent = say(done ? "fit.copied" : "fit.not_copied");
    setTimeout(() => { button.textContent = say("fit.copy"); }, SAID_FOR);
  });
  return html("div", { class: "ddim-copy" }, shown, button);
}

/** Copy a text. Pages that are not served from this machine or by HTTPS have no clipboard: there the shown text is selected and copied. */
async function copied(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection()?.selectAllChildren(shown);
    return document.execCommand("copy");
  }
}
