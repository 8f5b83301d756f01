// @ts-check
// The only file that imports the editor's scripts. It provides what the features need:
// nodes and their widgets, panels on nodes, requests, settings, messages.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

/** Register the extension that ddim.js declares. */
export const registerExtension = (extension) => app.registerExtension(extension);

/** @returns {string} the language chosen in the editor's settings, e.g. "zh" */
export const locale = () => app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";

/** @param {string} id @param {any} fallback */
export const setting = (id, fallback) => app.extensionManager?.setting?.get(id) ?? fallback;

/** Show a message in the corner of the window. @param {"info"|"warn"|"error"|"success"} severity */
export const toast = (severity, summary, detail) =>
  app.extensionManager?.toast?.add({ severity, summary, detail, life: severity === "error" ? 10000 : 6000 });

/** GET a route of the host as JSON. */
export async function getJson(path) {
  const answer = await api.fetchApi(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

/** POST JSON to a route of the pack. Errors that the pack reports are returned as `{error}`. */
export async function postJson(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const answer = await api.fetchApi(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  const given = await answer.json().catch(() => null);
  if (given === null || (!answer.ok && !given.error)) throw new Error(`${path}: ${answer.status}`);
  return given;
}

/** Address of the sheet of a step replay, which may still be in the making. */
export const replaySheet = (name) => api.apiURL(`/ddim/replay/${encodeURIComponent(name)}`);

/** Call `feature` with the live previews of running nodes: `feature({nodeId, blob})`. */
export function onPreview(feature) {
  api.addEventListener("b_preview_with_metadata", ({ detail }) =>
    feature({ nodeId: String(detail.displayNodeId ?? detail.nodeId), blob: detail.blob }));
}

/** Call `feature` with the progress of running nodes: `feature({nodeId, value, total})`. */
export function onProgress(feature) {
  api.addEventListener("progress", ({ detail }) =>
    feature({ nodeId: String(detail.node ?? ""), value: detail.value, total: detail.max }));
}

/** Call `feature` when any run starts. */
export const onRunStart = (feature) => api.addEventListener("execution_start", feature);

/** Every node of the workflow, including those in subgraphs. */
export function* everyNode(graph = app.rootGraph ?? app.graph) {
  for (const node of graph?.nodes ?? graph?._nodes ?? []) {
    yield node;
    if (node.subgraph) yield* everyNode(node.subgraph);
  }
}

/** Find a node by its id in a run: "4", or "3:4" inside a subgraph. */
export function nodeOfRun(executionId) {
  let graph = app.rootGraph ?? app.graph;
  let node = null;
  for (const id of String(executionId).split(":")) {
    node = (graph?.nodes ?? graph?._nodes ?? []).find((candidate) => String(candidate.id) === id) ?? null;
    graph = node?.subgraph;
  }
  return node;
}

/** Find a node by its key in the editor's table of outputs: "4", or "<subgraph>:4". */
export function nodeOfOutput(locator) {
  const [id, graphId] = String(locator).split(":").reverse();
  for (const node of everyNode()) {
    if (String(node.id) === id && (graphId === undefined || String(node.graph?.id) === graphId)) return node;
  }
  return null;
}

/** Call `then` after the handler that the node already has under this name. */
export function chain(owner, name, then) {
  const before = owner[name];
  owner[name] = function (...given) {
    const answer = before?.apply(this, given);
    then.apply(this, given);
    return answer;
  };
}

/**
 * Put an element on a node, in both renderers, without changing prompts and saved workflows.
 * @param {any} node
 * @param {string} name unique; also the widget's type, because the editor replaces widgets that have a core type's name
 * @param {HTMLElement} element
 * @param {() => number} minHeight
 * @param {number} maxHeight
 */
export function addPanel(node, name, element, minHeight, maxHeight) {
  const options = {
    serialize: false, // not in the prompt
    hideOnZoom: false,
    getMinHeight: minHeight,
    getMaxHeight: () => Math.max(maxHeight, minHeight()),
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

/** Heights that `fitNode` set, to distinguish them from heights that the user set. @type {WeakMap<object, number>} */
const fitted = new WeakMap();

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

/** Position of the last drop, in graph coordinates. @returns {[number, number]} */
export const dropPosition = () => [app.canvas.graph_mouse[0], app.canvas.graph_mouse[1]];

/** Add a node to the open graph. */
export function addNode(type, position) {
  const node = globalThis.LiteGraph.createNode(type);
  if (!node) return null;
  node.pos = [...position];
  app.canvas.graph.add(node);
  app.canvas.selectNode?.(node);
  return node;
}

/** Notify the editor that code changed widgets, so that undo and drafts include the change. */
export function graphChanged(node) {
  if (!node.graph) return; // removed in the meantime
  node.graph?.change?.();
  app.extensionManager?.workflow?.activeWorkflow?.changeTracker?.checkState?.();
  node.setDirtyCanvas?.(true, true);
}

/**
 * Offer every file that the editor is about to open to `take(file)`. If it returns false, the editor opens the file.
 * @param {(file: File) => Promise<boolean>} take
 */
export function offerFiles(take) {
  const open = app.handleFile;
  app.handleFile = async function (...given) {
    if (await take(given[0])) return undefined;
    return open.apply(this, given);
  };
}

/** Whether a widget has a link, and the linked value if it is known before a run (else undefined). */
export function linkedValue(node, name) {
  const slot = node.inputs?.findIndex((input) => input.widget?.name === name) ?? -1;
  const link = slot < 0 ? null : linkInto(node, slot);
  return link ? { linked: true, value: sourceValue(node.graph, link, 0) } : { linked: false };
}

/** Whether the input with this name has a link. */
export function isLinked(node, name) {
  return linkId(node, name) !== null;
}

/** The id of the link into the input with this name, or null; another connection has another id. */
export function linkId(node, name) {
  const slot = node.inputs?.findIndex((input) => input.name === name) ?? -1;
  const link = slot < 0 ? null : linkInto(node, slot);
  return link ? link.id ?? slot : null;
}

/** Return the link into an input; older editors have no method for this. */
function linkInto(node, slot) {
  if (!node.graph) return null; // removed in the meantime
  if (node.getInputLink) return node.getInputLink(slot) ?? null;
  const id = node.inputs?.[slot]?.link;
  return id == null ? null : (node.graph?.getLink?.(id) ?? node.graph?.links?.[id] ?? null);
}

/** Find the node that feeds an input, through reroutes; null if there is none in the same graph. */
export function sourceNode(node, name) {
  let at = node;
  let slot = node.inputs?.findIndex((input) => input.name === name) ?? -1;
  for (let depth = 0; depth < 20 && slot >= 0; depth += 1) {
    const link = linkInto(at, slot);
    const origin = link ? at.graph?.getNodeById(link.origin_id) : null;
    if (!origin || origin.type !== "Reroute") return origin ?? null;
    [at, slot] = [origin, 0];
  }
  return null;
}

function sourceValue(graph, link, depth) {
  if (!link || depth > 20) return undefined;
  if (String(link.origin_id) === "-10") return promotedValue(graph, link.origin_slot, depth);
  const origin = graph.getNodeById(link.origin_id);
  if (!origin) return undefined;
  if (/^(Primitive|Reroute)/.test(origin.type ?? "")) {
    if (origin.type === "Reroute") return sourceValue(graph, linkInto(origin, 0), depth + 1);
    return (origin.widgets?.find((widget) => widget.name === "value") ?? origin.widgets?.[0])?.value;
  }
  return undefined;
}

/** Return the value that a subgraph's node passes to the subgraph's input. */
function promotedValue(subgraph, slot, depth) {
  const name = subgraph.inputs?.[slot]?.name;
  for (const host of everyNode()) {
    if (host.subgraph !== subgraph) continue;
    const link = linkInto(host, host.inputs?.findIndex((candidate) => candidate.name === name) ?? -1);
    if (link) return sourceValue(host.graph, link, depth + 1);
    return host.widgets?.find((widget) => widget.name === name)?.value;
  }
  return undefined;
}
