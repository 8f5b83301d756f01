// @ts-check
// Messages of the pack as rows of a panel: in the user's language, with a button where one click does what they advise.

import { isLinked } from "./graph.mjs";
import { say } from "./text.mjs";
import { labelOf, setWidgets, widgetOf } from "./widgets.mjs";

/** A row of `messages` without a button. */
export const row = (level, text) => ({ level, text });

/**
 * A message of the pack as a row of `messages`.
 * @param {{code: string, values: Record<string, any>, text: string, level?: string, apply?: Record<string, any>}} message
 * @param {string} usual its level if it has none
 * @param {any} node the node whose widgets `apply` sets
 */
export function advice({ code, values, text, level, apply }, usual, node) {
  const told = row(level ?? usual, say(`messages.${code}`, values, text));
  return canApply(node, apply) ? { ...told, action: action(node, apply) } : told;
}

/** Whether the node has all the widgets, and none takes its value from a link. */
const canApply = (node, apply) =>
  Object.keys(apply ?? {}).length > 0 && Object.keys(apply).every((name) => widgetOf(node, name) && !isLinked(node, name));

function action(node, apply) {
  const settings = Object.entries(apply).map(([name, value]) => `${labelOf(node, name)}: ${value}`).join(", ");
  return { label: say("advice.apply"), title: say("advice.about_apply", { settings }), run: () => setWidgets(node, apply) };
}
