// @ts-check
// Moves the wires of a node to another one in the same graph, inside subgraphs too.

import { linkInto } from "../common/graph.mjs";
import { widgetOf } from "../common/widgets.mjs";

const SUBGRAPH_INPUT = "-10"; // ids that stand for a subgraph's own slots
const SUBGRAPH_OUTPUT = "-20";

/** Number of the input with this name, or -1. */
export const slotOf = (node, name) => node.inputs?.findIndex((input) => input.name === name) ?? -1;

/** Give an input of `fresh` the value and the link of an input of `node`. @returns {boolean} whether it has both now */
export function moveInput(node, name, fresh, freshName) {
  const [from, to] = [widgetOf(node, name), widgetOf(fresh, freshName)];
  if (from && to) to.value = from.value;
  const link = linkInto(node, slotOf(node, name));
  return !link || connectInput(node, link, fresh, slotOf(fresh, freshName));
}

function connectInput(node, link, fresh, slot) {
  if (slot < 0) return false;
  const { graph } = fresh;
  if (String(link.origin_id) === SUBGRAPH_INPUT) {
    const input = graph.inputs[link.origin_slot];
    input._widget = undefined; // else only a widget with the very same range may take its place
    return Boolean(input.connect(fresh.inputs[slot], fresh, link.parentId));
  }
  const origin = graph.getNodeById(link.origin_id);
  const connect = () => Boolean(origin?.connect(link.origin_slot, fresh, slot, link.parentId));
  if (connect()) return true;
  // A primitive serves widgets of one range only: let it forget the old one, but not its value.
  const values = (origin?.widgets ?? []).map(({ value }) => value);
  node.disconnectInput(link.target_slot);
  const connected = connect();
  values.forEach((value, i) => { if (origin.widgets?.[i]) origin.widgets[i].value = value; });
  return connected;
}

/** Lead all links from an output of `node` to an output of `fresh`. */
export function moveOutput(node, slot, fresh, freshSlot) {
  for (const link of linksOf(node).filter((candidate) => candidate.origin_slot === slot)) {
    if (String(link.target_id) === SUBGRAPH_OUTPUT) fresh.graph.outputs[link.target_slot].connect(fresh.outputs[freshSlot], fresh, link.parentId);
    else fresh.connect(freshSlot, fresh.graph.getNodeById(link.target_id), link.target_slot, link.parentId);
  }
}

/** All links from a node's outputs. */
export function linksOf(node) {
  const { links } = node.graph;
  const all = typeof links.values === "function" ? [...links.values()] : Object.values(links);
  return all.filter((link) => String(link.origin_id) === String(node.id));
}
