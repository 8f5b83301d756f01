// @ts-check
// Small helpers to build what stands on a node.

import { passToCanvas } from "./comfy.mjs";

const SVG = "http://www.w3.org/2000/svg";
const HANDLED = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown", " ",
  "Enter", "Delete", "Backspace"]);

/** An HTML element. @param {string} tag @param {Record<string, any>} [attributes] @param {(Node | string)[]} children */
export function html(tag, attributes = {}, ...children) {
  return dressed(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return dressed(document.createElementNS(SVG, tag), attributes, children);
}

function dressed(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** The frame of a panel: keys that it answers do not reach the editor (Delete would remove the node). */
export function panel(kind, label) {
  const element = html("section", { class: `ddim-panel ddim-${kind}`, role: "group", "aria-label": label });
  element.addEventListener("keydown", (event) => {
    if (HANDLED.has(event.key) && !event.ctrlKey && !event.metaKey) event.stopPropagation();
  });
  passToCanvas(element);
  return element;
}

/** Warnings and errors as a list, each with its sign. @param {{level: "warning" | "error" | "note", text: string}[]} rows */
export function messages(rows) {
  const signs = { warning: "⚠", error: "✕", note: "ℹ" };
  const list = html("ul", { class: "ddim-messages" });
  for (const { level, text } of rows) {
    const item = html("li", { class: `ddim-${level}`, ...(level === "error" ? { role: "alert" } : {}) });
    item.append(html("span", { "aria-hidden": "true" }, signs[level]), html("span", {}, text));
    list.append(item);
  }
  return list;
}

/** Height in pixels that the panel's parts need, with `stretching` for the part that takes what is left. */
export function naturalHeight(element, stretching, part) {
  const others = [...element.children].filter((child) => child !== part);
  return 28 + stretching + others.reduce((sum, child) => sum + /** @type {HTMLElement} */ (child).offsetHeight, 0);
}
