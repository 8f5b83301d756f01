// @ts-check
// Helpers to build the panels on nodes.

import { passToCanvas } from "./node_panel.mjs";

const SVG = "http://www.w3.org/2000/svg";
const HANDLED = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown", " ",
  "Enter", "Delete", "Backspace"]);

/** Create an HTML element. @param {string} tag @param {Record<string, any>} [attributes] @param {(Node | string)[]} children */
export function html(tag, attributes = {}, ...children) {
  return setContent(document.createElement(tag), attributes, children);
}

/** Create an SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return setContent(document.createElementNS(SVG, tag), attributes, children);
}

function setContent(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** Create a panel's frame. Keys that it handles do not reach the editor, where Delete would remove the node. */
export function panel(kind, label) {
  const element = html("section", { class: `ddim-panel ddim-${kind}`, role: "group", "aria-label": label });
  element.addEventListener("keydown", (event) => {
    if (HANDLED.has(event.key) && !event.ctrlKey && !event.metaKey) event.stopPropagation();
  });
  passToCanvas(element);
  return element;
}

/**
 * Create a list of warnings, errors and notes, each with its symbol. A row may have a button that does what it advises.
 * @param {{level: "warning" | "error" | "note", text: string, action?: {label: string, title: string, run: () => void}}[]} rows
 */
export function messages(rows) {
  const symbols = { warning: "⚠", error: "✕", note: "ℹ" };
  const list = html("ul", { class: "ddim-messages" });
  for (const { level, text, action } of rows) {
    const item = html("li", { class: `ddim-${level}`, ...(level === "error" ? { role: "alert" } : {}) });
    item.append(html("span", { "aria-hidden": "true" }, symbols[level]), html("span", {}, text));
    if (action) item.append(button(action));
    list.append(item);
  }
  return list;
}

function button({ label, title, run }) {
  const element = html("button", { type: "button", class: "ddim-action", title }, label);
  element.addEventListener("click", run);
  return element;
}

/** Height in pixels that the panel's parts need; the flexible `part` counts as `stretching` pixels. */
export function naturalHeight(element, stretching, part) {
  const others = [...element.children].filter((child) => child !== part);
  return 28 + stretching + others.reduce((sum, child) => sum + /** @type {HTMLElement} */ (child).offsetHeight, 0);
}
