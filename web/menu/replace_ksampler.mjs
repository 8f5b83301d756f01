// @ts-check
// "Replace with DDIM KSampler" in the menu of stock samplers, for one or for all of the workflow, as one step of undo.

import { app, toast } from "../comfy.mjs";
import { everyNode, graphChanged } from "../common/graph.mjs";
import { chain } from "../common/node_panel.mjs";
import { say } from "../common/text.mjs";
import { figure } from "../common/words.mjs";
import { isReplaceable } from "./replace_rules.mjs";
import { replaceNode } from "./replace_node.mjs";

/** Entries for the menu of a node; none if it is no stock sampler. */
export function replaceItems(node) {
  if (!isReplaceable(node?.comfyClass)) return [];
  const all = replaceable();
  const one = { content: say("replace.one"), callback: () => replace([node]) };
  return all.length > 1 ? [one, { content: say("replace.all", { count: all.length }), callback: () => replace(replaceable()) }] : [one];
}

/** Put the entries into the menu of nodes in editors that do not ask extensions for theirs. */
export function attachReplace(node) {
  if (typeof app.collectNodeMenuItems === "function" || !isReplaceable(node.comfyClass)) return;
  chain(node, "getExtraMenuOptions", (_, options) => options?.push(...replaceItems(node)));
}

const replaceable = () => [...new Set(everyNode())].filter((node) => isReplaceable(node.comfyClass));

function replace(nodes) {
  const done = [];
  app.canvas.emitBeforeChange?.();
  try {
    for (const node of nodes) done.push({ type: node.title || node.comfyClass, ...replaceNode(node) });
  } finally {
    app.canvas.emitAfterChange?.();
  }
  app.canvas.deselectAll?.();
  done.forEach(({ node }) => { if (node.graph === app.canvas.graph) app.canvas.select?.(node); });
  graphChanged(done[0].node);
  const summary = done.length === 1 ? say("replace.done", { node: done[0].type }) : say("replace.all_done", { count: done.length });
  toast("info", summary, done.map(({ plan, lost }) => account(plan, lost)).join("\n"));
}

/** Say what was set, and what DDIM has not. */
function account({ sample, chosen, dropped }, lost) {
  const list = (parts) => parts.join(", ");
  const said = [
    say("replace.chosen", { settings: list(chosen.map(({ input, value, because }) => say("replace.because", { input, value: shown(value), because }))) }),
    say("replace.dropped", { settings: list(dropped.filter(([, value]) => value !== undefined).map(([input, value]) => `${input} ${value}`)) }),
  ];
  if (!sample) said.unshift(say("replace.kept"));
  if (lost.length > 0) said.push(say("replace.lost", { inputs: list(lost) }));
  return said.join(" ");
}

const shown = (value) => (typeof value === "number" ? figure(value) : String(value));
