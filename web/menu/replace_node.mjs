// @ts-check
// Carries out a plan of replace_rules.mjs in the open workflow.

import { linkedValue, sourceNode } from "../common/graph.mjs";
import { widgetOf } from "../common/widgets.mjs";
import { FEEDS, planOf } from "./replace_rules.mjs";
import { linksOf, moveInput, moveOutput, slotOf } from "./wires.mjs";

const GAP = 60; // between nodes

/** @typedef {import("./replace_rules.mjs").Plan} Plan */

/** Read what the rules need to know of a node. @returns {import("./replace_rules.mjs").Stock} */
export const readStock = (node) => ({
  type: node.comfyClass,
  values: valuesOf(node),
  sampler: readFeed(sourceNode(node, "sampler")),
  sigmas: readFeed(sourceNode(node, "sigmas")),
});

const readFeed = (node) => (node ? { type: node.comfyClass ?? node.type, values: valuesOf(node), schedule: scheduleSlot(node) >= 0 } : null);

function valuesOf(node) {
  const value = ({ name, value: own }) => {
    const { linked, value: given } = linkedValue(node, name);
    return linked ? given : own;
  };
  return Object.fromEntries((node.widgets ?? []).map((widget) => [widget.name, value(widget)]));
}

const scheduleSlot = (node) => node.outputs?.findIndex((output) => output.type === "DDIM_SCHEDULE") ?? -1;

/**
 * Replace a stock sampler.
 * @returns {{plan: Plan, lost: string[], node: any}} `lost`: inputs whose link could not be kept
 */
export function replaceNode(node) {
  const plan = planOf(readStock(node));
  const feeds = [sourceNode(node, "sampler"), sourceNode(node, "sigmas")];
  const lost = [];
  const made = plan.sample ? asKSampler(node, plan, feeds[1], lost) : asSampler(node, plan);
  feeds.forEach(removeUnused);
  return { plan, lost, node: made };
}

function asKSampler(node, plan, sigmas, lost) {
  const { graph } = node;
  const fresh = create("DDIMSample", graph, node.pos);
  like(fresh, node);
  fill(fresh, node, plan.sample.values, plan.sample.from, lost);
  if (plan.sample.fromSigmas) fill(fresh, sigmas, {}, plan.sample.fromSigmas, lost);
  if (plan.keepsSchedule) sigmas.connect(scheduleSlot(sigmas), fresh, slotOf(fresh, "schedule"));
  if (plan.schedule) {
    const schedule = create("DDIMSchedule", graph, [node.pos[0], node.pos[1] + fresh.size[1] + GAP]);
    fill(schedule, node, plan.schedule.values, plan.schedule.from, lost);
    schedule.connect(scheduleSlot(schedule), fresh, slotOf(fresh, "schedule"));
  }
  for (const [from, to] of Object.entries(plan.outputs)) moveOutput(node, Number(from), fresh, to);
  graph.remove(node);
  return fresh;
}

/** Keep the node; DDIM steps over its SIGMAS. */
function asSampler(node, plan) {
  const before = sourceNode(node, "sampler");
  const unused = before && linksOf(before).length === 1 && FEEDS.has(before.comfyClass);
  const fresh = create("DDIMSampler", node.graph, unused ? before.pos : [node.pos[0], node.pos[1] + node.size[1] + GAP]);
  fill(fresh, node, plan.sampler, {}, []);
  fresh.connect(0, node, slotOf(node, "sampler"));
  return fresh;
}

function create(type, graph, position) {
  const node = globalThis.LiteGraph.createNode(type);
  node.pos = [...position];
  graph.add(node);
  return node;
}

/** Give a node the looks and the mode of another one. */
function like(fresh, node) {
  if (node.title !== (node.constructor.nodeData?.display_name ?? node.constructor.title) && node.title !== node.type) fresh.title = node.title;
  for (const name of ["color", "bgcolor", "shape", "mode"]) if (node[name] !== undefined) fresh[name] = node[name];
  fresh.setSize([Math.max(node.size[0], fresh.size[0]), fresh.size[1]]);
  if (node.flags?.collapsed) fresh.collapse?.();
}

function fill(fresh, node, values, from, lost) {
  for (const [name, value] of Object.entries(values)) {
    const widget = widgetOf(fresh, name);
    if (widget) widget.value = value;
  }
  for (const [name, freshName] of Object.entries(from)) if (!moveInput(node, name, fresh, freshName)) lost.push(name);
  for (const name of [...Object.keys(values), ...Object.values(from)]) {
    const widget = widgetOf(fresh, name);
    widget?.callback?.(widget.value);
  }
}

function removeUnused(node) {
  if (node?.graph && FEEDS.has(node.comfyClass) && linksOf(node).length === 0) node.graph.remove(node);
}
