"""ComfyUI's own samplers and what feeds them, as ``/object_info`` describes them: the embedded host has none.

And JavaScript that builds a graph, chooses an entry of a node's menu, and describes a node.
"""

from __future__ import annotations

from typing import Any

SAMPLERS = ["euler", "euler_ancestral", "dpmpp_2m", "ddpm", "ddim"]
SCHEDULERS = ["simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal"]
_SEED = ["INT", {"default": 0, "min": 0, "max": 0xFFFFFFFFFFFFFFFF, "control_after_generate": True}]
_STEPS = ["INT", {"default": 20, "min": 1, "max": 10000}]
_CFG = ["FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1, "round": 0.01}]
_DENOISE = ["FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}]
_WIRES = {"positive": ["CONDITIONING"], "negative": ["CONDITIONING"], "latent_image": ["LATENT"]}


def _node(name: str, inputs: dict[str, Any], outputs: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name, "display_name": name, "description": "", "python_module": "nodes", "category": "sampling",
        "input": {"required": inputs}, "input_order": {"required": list(inputs)}, "output_node": False,
        "output": list(outputs.values()), "output_name": list(outputs), "output_is_list": [False] * len(outputs),
    }  # fmt: skip


STOCK = {
    definition["name"]: definition
    for definition in (
        _node(
            "KSampler",
            {
                "model": ["MODEL"], "seed": _SEED, "steps": _STEPS, "cfg": _CFG, "sampler_name": [SAMPLERS],
                "scheduler": [SCHEDULERS], **_WIRES, "denoise": _DENOISE,
            },
            {"LATENT": "LATENT"},
        ),
        _node(
            "KSamplerAdvanced",
            {
                "model": ["MODEL"], "add_noise": [["enable", "disable"]], "noise_seed": _SEED, "steps": _STEPS,
                "cfg": _CFG, "sampler_name": [SAMPLERS], "scheduler": [SCHEDULERS], **_WIRES,
                "start_at_step": ["INT", {"default": 0, "min": 0, "max": 10000}],
                "end_at_step": ["INT", {"default": 10000, "min": 0, "max": 10000}],
                "return_with_leftover_noise": [["disable", "enable"]],
            },
            {"LATENT": "LATENT"},
        ),
        _node(
            "SamplerCustom",
            {
                "model": ["MODEL"], "add_noise": ["BOOLEAN", {"default": True}], "noise_seed": _SEED, "cfg": _CFG,
                **_WIRES, "sampler": ["SAMPLER"], "sigmas": ["SIGMAS"],
            },
            {"output": "LATENT", "denoised_output": "LATENT"},
        ),
        _node("KSamplerSelect", {"sampler_name": [SAMPLERS]}, {"SAMPLER": "SAMPLER"}),
        _node(
            "BasicScheduler",
            {"model": ["MODEL"], "scheduler": [SCHEDULERS], "steps": _STEPS, "denoise": _DENOISE},
            {"SIGMAS": "SIGMAS"},
        ),
        _node("FlipSigmas", {"sigmas": ["SIGMAS"]}, {"SIGMAS": "SIGMAS"}),
    )
}  # fmt: skip

# Builds nodes by name, {name: [type, {widget: value}]}, and links [from, output, to, input]; answers their ids.
BUILD = """
async ([nodes, links, definitions]) => {
  for (const [name, definition] of Object.entries(definitions)) {
    if (!LiteGraph.registered_node_types[name]) await app.registerNodeDef(name, definition);
  }
  app.graph.clear();
  const made = {};
  for (const [name, [type, values]] of Object.entries(nodes)) {
    const node = (made[name] = LiteGraph.createNode(type));
    node.pos = [60 + 320 * Object.keys(made).length, 80];
    app.graph.add(node);
    for (const [widget, value] of Object.entries(values)) node.widgets.find((w) => w.name === widget).value = value;
  }
  for (const [from, output, to, input] of links) {
    made[from].connect(output, made[to], made[to].inputs.findIndex((i) => i.name === input));
  }
  const tracker = app.extensionManager.workflow.activeWorkflow.changeTracker;
  (tracker.captureCanvasState ?? tracker.checkState).call(tracker);
  return Object.fromEntries(Object.entries(made).map(([name, node]) => [name, Number(node.id)]));
}
"""
CHOOSE = """
([id, words]) => {
  const root = app.rootGraph ?? app.graph;
  const node = [root, ...root.subgraphs.values()].flatMap((graph) => graph.nodes).find((n) => Number(n.id) === id);
  const items = app.canvas.getNodeMenuOptions(node).filter((item) => item?.content?.includes(words));
  if (items.length !== 1) throw new Error(`${items.length} entries with ${words}`);
  items[0].callback();
}
"""
# A node as its links and widgets show it: {widget: value}, and {input: [origin's title or type, output]}.
DESCRIBE = """
(kind) => {
  const root = app.rootGraph ?? app.graph;
  const node = [root, ...root.subgraphs.values()].flatMap((graph) => graph.nodes).find((n) => n.type === kind);
  if (!node) return null;
  const values = Object.fromEntries(node.widgets.filter((w) => !w.element).map((w) => [w.name, w.value]));
  const wires = {};
  node.inputs.forEach((input, i) => {
    const link = node.getInputLink(i);
    const origin = link && node.graph.getNodeById(link.origin_id);
    if (link) wires[input.name] = [origin?.type ?? "subgraph", link.origin_slot];
  });
  const targets = [...node.graph.links.values()].filter((l) => String(l.origin_id) === String(node.id))
    .map((l) => [l.origin_slot, node.graph.getNodeById(l.target_id)?.type ?? "subgraph"]);
  return { values, wires, targets, title: node.title, pos: [...node.pos], width: node.size[0], mode: node.mode };
}
"""
