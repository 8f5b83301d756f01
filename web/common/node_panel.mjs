// @ts-check
// Panels: elements on nodes, in both renderers.

import { app } from "../comfy.mjs";

const FRAME = 22; // pixels: a panel's border, and the editor's margin around it

/** Call `then` after the handler that the node already has under this name. */
export function chain(owner, name, then) {
  const before = owner[name];
  owner[name] = function (...given) {
    const answer = before?.apply(this, given);
    then.apply(this, given);
    return answer;
  };
}

/** Heights that `fitNode` set, to distinguish them from heights that the user set. @type {WeakMap<object, number>} */
const fitted = new WeakMap();

/**
 * Put an element on a node, in both renderers, without changing prompts and saved workflows.
 * @param {any} node
 * @param {string} name unique; also the widget's type, because the editor replaces widgets that have a core type's name
 * @param {HTMLElement} element
 * @param {() => number} minHeight
 * @param {number | (() => number)} maxHeight
 */
export function addPanel(node, name, element, minHeight, maxHeight) {
  let uncut = 0; // height at which a text that needs more lines than its panel expects is shown whole
  const least = () => Math.max(minHeight(), uncut);
  const options = {
    serialize: false, // not in the prompt
    hideOnZoom: false,
    hideInPanel: true, // the editor's properties panel would take the element off the node, and never give it back
    getMinHeight: least,
    getMaxHeight: () => Math.max(typeof maxHeight === "function" ? maxHeight() : maxHeight, least()),
    getValue: () => "",
    setValue: () => {},
  };
  const widget = node.addDOMWidget(name, name, element, options);
  widget.serialize = false; // not in the saved workflow
  element.dataset.ddimPanel = name;
  const panel = { node, name, element };
  panels.add(panel);
  chain(node, "onRemoved", () => panels.delete(panel));
  chain(node, "onAdded", () => panels.add(panel));
  new ResizeObserver(() => {
    if (element.scrollHeight <= element.clientHeight + 1) return;
    uncut = element.scrollHeight + FRAME;
    fitNode(node);
  }).observe(element);
  const height = node.computeSize()[1];
  if (node.size[1] < height) node.setSize([node.size[0], height]);
  fitted.set(node, node.size[1]);
  return widget;
}

/** @type {Set<{node: any, name: string, element: HTMLElement}>} */
const panels = new Set();

/**
 * Vue nodes: when another graph with a node of the same id is opened, the editor keeps the node's frame with the
 * old node's panel in it. Replace it with the right panel.
 */
export function remountPanels() {
  for (const { node, name, element } of panels) {
    if (element.isConnected || node.graph !== app.canvas?.graph) continue;
    const outdated = document.querySelector(`[data-node-id="${node.id}"] [data-ddim-panel="${name}"]`);
    outdated?.replaceWith(element);
  }
}

/** Grow the node to the height that its widgets need; shrink it again unless the user has resized it since. */
export function fitNode(node) {
  if (!node.graph) return; // removed in the meantime
  const [width, height] = node.computeSize();
  if (node.size[1] < height || node.size[1] === fitted.get(node)) {
    node.setSize([Math.max(node.size[0], width), height]);
    fitted.set(node, node.size[1]);
  }
  node.setDirtyCanvas?.(true, true);
}

/** Set a new node's minimum width; the editor restores a saved node's own width afterwards. */
export const widenNode = (node, width) => node.setSize([Math.max(node.size[0], width), node.size[1]]);

/** Room for the title and the two marks beside it, as both renderers draw them. */
const BESIDE_TITLE = 76;

/** Widen a new node until its title is shown whole. */
export function fitTitle(node) {
  const context = document.createElement("canvas").getContext("2d");
  if (!context) return;
  context.font = `${globalThis.LiteGraph?.NODE_TEXT_SIZE ?? 14}px Inter, Arial, sans-serif`;
  widenNode(node, Math.ceil(context.measureText(node.title ?? "").width) + BESIDE_TITLE);
}

/** Let wheel and middle button over a panel move the canvas; the Vue renderer does this by itself. */
export function passToCanvas(element) {
  const inCanvas = () => !element.closest("[data-node-id]");
  element.addEventListener("wheel", (event) => inCanvas() && app.canvas.processMouseWheel(event), { passive: false });
  for (const [name, method] of [["pointerdown", "processMouseDown"], ["pointermove", "processMouseMove"],
    ["pointerup", "processMouseUp"]]) {
    const middle = (event) => event.button === 1 || (event.buttons & 4) === 4;
    element.addEventListener(name, (event) => inCanvas() && middle(event) && app.canvas[method](event));
  }
}
