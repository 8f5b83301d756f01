// @ts-check
// What all nodes of the pack have in common: a width for their title, a button for the advanced inputs, greyed inputs.

import { chain, fitWidth } from "../common/node_panel.mjs";
import { conditionalInputs, updateGreyed } from "./greyed.mjs";
import { advancedInputs, attachMore, setMore, updateMore } from "./more_settings.mjs";

const INTERVAL = 150; // ms; undo, links and other extensions change nodes without calling a handler

/** @type {Set<{node: any, advanced: [string, any[]][], conditional: [string, any[]][]}>} */
const looks = new Set();

/** Prepare a node of the pack. Call it before panels are added: what is saved of a node counts its widgets up to the first panel. */
export function attachLook(node) {
  if (!String(node.comfyClass).startsWith("DDIM")) return;
  fitWidth(node);
  const look = { node, advanced: advancedInputs(node), conditional: conditionalInputs(node) };
  if (look.advanced.length > 0) {
    attachMore(node, look.advanced);
    node.ddimMore = (open) => setMore(node, look.advanced, open); // not serialised: the editor saves only known fields
  }
  if (look.advanced.length === 0 && look.conditional.length === 0) return;
  looks.add(look);
  chain(node, "onRemoved", () => looks.delete(look));
  chain(node, "onAdded", () => looks.add(look));
}

/** Start the timer that keeps all nodes up to date. */
export function startLooks() {
  setInterval(() => {
    if (!document.hidden) looks.forEach(update);
  }, INTERVAL);
}

function update({ node, advanced, conditional }) {
  if (!node.graph) return;
  updateMore(node, advanced);
  updateGreyed(node, conditional);
}
