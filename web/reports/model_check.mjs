// @ts-check
// What a MODEL predicts and what to set, line by line.

import { addPanel, chain, fitNode } from "../common/node_panel.mjs";
import { html, messages, naturalHeight, panel } from "../common/panel.mjs";
import { say } from "../common/text.mjs";

export const CHECK = "ddim_model_check_report";
const EMPTY_HEIGHT = 44;

/** Put the report on a node that checks a MODEL. */
export function attachCheck(node) {
  if (node.comfyClass !== "DDIMCheckModel" || typeof node.addDOMWidget !== "function") return;
  const element = panel("check", say("check.title"));
  element.append(html("output", { class: "ddim-readout" }, say("check.empty")));
  let height = EMPTY_HEIGHT;
  addPanel(node, CHECK, element, () => height, 600);
  node.ddimCheck = (report) => {
    const [head, ...rest] = report.lines;
    element.replaceChildren(html("header", { class: "ddim-head" }, head), messages(rest.map((text) => ({ level: "note", text }))));
    requestAnimationFrame(() => {
      height = naturalHeight(element, 0, null);
      element.style.minHeight = `${height - 20}px`;
      fitNode(node);
    });
  };
  chain(node, "onExecuted", (output) => showCheck(node, output));
}

/** Show a run's report. */
export function showCheck(node, output) {
  const report = output?.ddim_model_check?.[0];
  if (report) node.ddimCheck?.(report);
}
