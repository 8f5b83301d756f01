// @ts-check
// Short nodes on the canvas: the advanced inputs are folded away behind a button, as Nodes 2.0 does by itself. Both renderers
// share the node's `showAdvanced`, which the editor saves with the workflow. Folded inputs keep their values, also in prompts.

import { setting } from "../comfy.mjs";
import { graphChanged, isLinked } from "../common/graph.mjs";
import { say } from "../common/text.mjs";
import { declaredInputs, hasDefault, widgetOf } from "../common/widgets.mjs";

const BUTTON = "more_settings";
const AWAY = -1e6; // of the node: a socket follows its widget, and would be drawn over the first one when a link is dragged
const NO_ROW = () => [0, -4]; // -4: the editor adds a gap of 4 below each row
const ALWAYS = "Comfy.Node.AlwaysShowAdvancedWidgets";

/** The node's advanced inputs. */
export const advancedInputs = (node) => declaredInputs(node).filter(([, [, options = {}]]) => options.advanced);

/** Put the button on a node and fold the advanced inputs. @param {any} node @param {[string, any[]][]} inputs see `advancedInputs` */
export function attachMore(node, inputs) {
  const options = { serialize: false, canvasOnly: true };
  const button = node.addWidget("button", BUTTON, null, () => flip(node, inputs), options);
  button.serialize = false; // not in the saved workflow
  updateMore(node, inputs);
  node.setSize([node.size[0], node.computeSize()[1]]);
}

/** Show the inputs that are to be seen: all, or those with a link. */
export function updateMore(node, inputs) {
  const always = setting(ALWAYS, false);
  const open = Boolean(node.showAdvanced) || always;
  for (const [name] of inputs) show(widgetOf(node, name), open || isLinked(node, name));
  const button = widgetOf(node, BUTTON);
  show(button, !always);
  const label = buttonText(node, inputs, open);
  if (!button || button.label === label) return;
  button.label = label;
  node.setDirtyCanvas?.(true, true);
}

/** Fold the advanced inputs, or unfold them, as a part of an edit. The node keeps the height that the user gave it beyond what its widgets need. */
export function setMore(node, inputs, open) {
  const before = node.computeSize()[1];
  node.showAdvanced = open;
  updateMore(node, inputs);
  const after = node.computeSize()[1];
  if (!globalThis.LiteGraph?.vueNodesMode) node.setSize([node.size[0], Math.max(after, node.size[1] + after - before)]);
}

function flip(node, inputs) {
  setMore(node, inputs, !node.showAdvanced);
  graphChanged(node);
}

function buttonText(node, inputs, open) {
  if (open) return `▾ ${say("nodes.fewer")}`;
  const changed = inputs.filter(([name, declared]) => {
    const widget = widgetOf(node, name);
    return widget && !hasDefault(widget, declared);
  }).length;
  return `▸ ${say("nodes.more")}${changed ? `  ● ${say("nodes.changed", { count: changed })}` : ""}`;
}

/** Show or hide a widget on the canvas alone. */
function show(widget, shown) {
  if (!widget) return;
  if (!shown) widget.y = AWAY; // the editor places widgets that are shown
  const surfaces = widget.visibility?.surfaces;
  if (surfaces) {
    const tier = shown ? "shown" : "never";
    if (surfaces.canvas !== tier) surfaces.canvas = tier;
    return;
  }
  // Older editors: one flag for both renderers, and heights and rows count hidden widgets as well.
  widget.hidden = !shown && !globalThis.LiteGraph?.vueNodesMode;
  if (!shown) widget.computeSize = NO_ROW;
  else if (widget.computeSize === NO_ROW) delete widget.computeSize;
}
