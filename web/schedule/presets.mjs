// @ts-check
// The menu of presets in the head of DDIM Schedule's plot. The table of values is the pack's, see nodes/schedules/presets.py.

import { getJson } from "../comfy.mjs";
import { html } from "../common/panel.mjs";
import { say } from "../common/text.mjs";
import { setWidgets, widgetOf } from "../common/widgets.mjs";
import { matching } from "./matching.mjs";

/** @type {Promise<import("./matching.mjs").Preset[]> | null} */
let asked = null;

/** @returns {Promise<import("./matching.mjs").Preset[]>} the presets; none if the server has none */
const presets = () => (asked ??= getJson("/ddim/presets").then(({ presets: found }) => found ?? []).catch(() => []));

/** Create the menu of a node, and `update()` to mark the preset that the node's values are. It stays hidden if there are no presets. */
export function presetMenu(node) {
  const select = html("select", { class: "ddim-presets", "aria-label": say("presets.label"), title: say("presets.about"), hidden: "" });
  /** @type {import("./matching.mjs").Preset[]} */
  let known = [];
  const update = () => {
    const name = matching(known, (input) => widgetOf(node, input)?.value, select.value)?.name ?? "";
    if (select.value !== name) select.value = name;
  };
  presets().then((found) => {
    known = found;
    const choices = found.map(({ name, title }) => html("option", { value: name }, say(`presets.${name}`, {}, title)));
    select.append(html("option", { value: "", disabled: "" }, say("presets.choose")), ...choices);
    select.hidden = found.length === 0;
    update();
  });
  select.addEventListener("change", () => {
    const chosen = known.find(({ name }) => name === select.value);
    if (!chosen) return;
    node.ddimMore?.(false);
    setWidgets(node, chosen.inputs);
  });
  return { select, update };
}
