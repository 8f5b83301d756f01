// @ts-check
// The messages below a schedule plot: in the user's language, with a button where one click does what they advise.

import { isLinked } from "../common/graph.mjs";
import { say } from "../common/text.mjs";
import { labelOf, setWidgets, widgetOf } from "../common/widgets.mjs";

export const row = (level, text) => ({ level, text });

/** Warnings, errors and notes of a report. @param {any} report see nodes/editor/payloads.py @param {any} node */
export function reportRows(report, node) {
  const rows = [...report.warnings.map((each) => advice(each, "warning", node)), ...report.notes.map((each) => advice(each, "note", node))];
  const told = rows.some(({ level }) => level === "note");
  if (node.comfyClass === "DDIMSchedule" && isLinked(node, "model") && !told) rows.push(row("note", say("plot.model_linked")));
  return rows;
}

function advice({ code, values, text, level, apply }, usual, node) {
  const told = row(level ?? usual, say(`messages.${code}`, values, text));
  return canApply(node, apply) ? { ...told, action: action(node, apply) } : told;
}

/** Whether the node has all the widgets, and none takes its value from a link. */
const canApply = (node, apply) =>
  Object.keys(apply ?? {}).length > 0 && Object.keys(apply).every((name) => widgetOf(node, name) && !isLinked(node, name));

function action(node, apply) {
  const settings = Object.entries(apply).map(([name, value]) => `${labelOf(node, name)}: ${value}`).join(", ");
  return { label: say("plot.apply"), title: say("plot.about_apply", { settings }), run: () => setWidgets(node, apply) };
}
