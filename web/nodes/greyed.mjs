// @ts-check
// Greys out the widgets that have no effect now, and says why in their tooltip.

import { isLinked, linkedValue } from "../common/graph.mjs";
import { say } from "../common/text.mjs";
import { declaredInputs, labelOf, widgetOf } from "../common/widgets.mjs";
import { withoutEffect } from "./applicable.mjs";

/** What `updateGreyed` needs to know of a node: its inputs that do not always count. */
export const conditionalInputs = (node) =>
  declaredInputs(node).filter(([, [, options = {}]]) => options.ddim_applies || options.ddim_unless_linked);

/** @param {any} node @param {[string, any[]][]} inputs see `conditionalInputs` */
export function updateGreyed(node, inputs) {
  let changed = false;
  for (const [name, [, options]] of inputs) {
    const widget = widgetOf(node, name);
    if (!widget) continue;
    const reason = withoutEffect(options, (input) => valueOf(node, input), (input) => isLinked(node, input));
    const disabled = reason !== null;
    if (Boolean(widget.disabled) === disabled) continue;
    widget.disabled = disabled;
    widget.tooltip = reason ? sentence(node, reason) : undefined;
    changed = true;
  }
  if (changed) node.setDirtyCanvas?.(true, true);
}

function valueOf(node, name) {
  const { linked, value } = linkedValue(node, name);
  return linked ? value : widgetOf(node, name)?.value;
}

const sentence = (node, { kind, input, values }) =>
  say(kind === "linked" ? "nodes.unused_linked" : "nodes.unused_value", { input: labelOf(node, input), values: values.join(", ") });
