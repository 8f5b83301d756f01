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
  let [uncut, width] = [0, 0]; // height at which a text that needs more lines than its panel expects is shown whole; measured at
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
    if (uncut > 0 && element.clientWidth !== width) {
      uncut = 0;
      fitNode(node);
    }
    width = element.clientWidth;
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

const BESIDE_TITLE = 76; // pixels: the marks beside a title, as both renderers draw them
const BESIDE_VALUE = 112; // pixels: margins, arrows and gap of a widget's row
const WIDEST = 420; // pixels: longer texts are cut
const IN_ROWS = new Set(["number", "combo", "toggle"]); // types of widgets that show label and value in one row

/** Widen a new node until its title, and label and value of each of its widgets, are shown whole. */
export function fitWidth(node) {
  const context = document.createElement("canvas").getContext("2d");
  if (!context) return;
  const width = (text, size) => {
    context.font = `${size}px Inter, Arial, sans-serif`;
    return context.measureText(text).width;
  };
  const { NODE_TEXT_SIZE: large = 14, NODE_SUBTEXT_SIZE: small = 12 } = globalThis.LiteGraph ?? {};
  const rows = (node.widgets ?? []).filter(({ type }) => IN_ROWS.has(type)).map(({ label, name, value }) => `${label ?? name}${value}`);
  const needed = Math.max(width(node.title ?? "", large) + BESIDE_TITLE, ...rows.map((text) => width(text, small) + BESIDE_VALUE));
  widenNode(node, Math.ceil(Math.min(needed, WIDEST)));
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
