// @ts-check
// Nodes of the open workflow and the links between them.

import { app } from "../comfy.mjs";

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
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker); // older editors have the second alone
  node.setDirtyCanvas?.(true, true);
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
export function linkInto(node, slot) {
  if (!node.graph || slot < 0) return null; // removed in the meantime, or without such an input
  if (node.getInputLink && !node.subgraph) return node.getInputLink(slot) ?? null; // of a subgraph, it means another link
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
