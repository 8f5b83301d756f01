// @ts-check
// The widgets of a node: by name, what the pack declares about each, and edits of several at once.

import { graphChanged } from "./graph.mjs";
import { closeTo } from "./words.mjs";

/** Return the node's widget with this name. */
export const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name);

/** Return the label of an input as the user reads it. */
export function labelOf(node, name) {
  const slot = node.inputs?.find((input) => input.name === name);
  return widgetOf(node, name)?.label || slot?.label || slot?.localized_name || name;
}

/** Return what the pack declares about the node's inputs: `[name, [type, options]]` of each, in order. @returns {[string, any[]][]} */
export function declaredInputs(node) {
  const { required = {}, optional = {} } = node.constructor?.nodeData?.input ?? {};
  return Object.entries({ ...required, ...optional });
}

/** Whether a widget has the value that a new node has. @param {any} widget @param {any[]} declared the input's type and options */
export function hasDefault(widget, [type, options = {}]) {
  const expected = options.default ?? (Array.isArray(type) ? type[0] : undefined);
  return expected === undefined || closeTo(widget.value, expected);
}

/** Give widgets values as one edit, which undo takes back as one. @param {Record<string, any>} values */
export function setWidgets(node, values) {
  const changes = Object.entries(values).map(([name, value]) => ({ widget: widgetOf(node, name), value })).filter(({ widget }) => widget);
  // All values before any callback: the editor may take a callback for the end of an edit.
  changes.forEach(({ widget, value }) => { widget.value = value; });
  changes.forEach(({ widget, value }) => widget.callback?.(value));
  graphChanged(node);
}
