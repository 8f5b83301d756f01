// @ts-check
// The pack's only extension: attaches each feature to its nodes.

import { registerExtension } from "./comfy.mjs";
import { nodeOfOutput } from "./common/graph.mjs";
import { attachConfigDrop, handleDroppedConfigs } from "./schedule/config_import.mjs";
import { attachFit, showFit } from "./reports/fit_report.mjs";
import { attachInversion, showInversion } from "./reports/inversion_report.mjs";
import { attachCheck, showCheck } from "./reports/model_check.mjs";
import { attachPlot, showRun, startPlots } from "./schedule/schedule_plot.mjs";
import { startLiveReplays } from "./replay/live_replay.mjs";
import { attachSamplerReplay } from "./replay/sampler_replay.mjs";
import { attachReplay, updateReplays, showReplay } from "./replay/step_replay.mjs";
import { loadText } from "./common/text.mjs";
import { attachReplace, replaceItems } from "./menu/replace_ksampler.mjs";
import { colourSockets } from "./nodes/colours.mjs";
import { attachLook, startLooks } from "./nodes/look.mjs";

const SHOWN = ["ddim_schedule", "ddim_replay", "ddim_notes", "ddim_inversion", "ddim_fit", "ddim_model_check"];
const category = (name) => ["DDIM", "DDIM panels", name];

registerExtension({
  name: "ddim.nodes",
  settings: [
    { id: "DDIM.SchedulePlot", name: "Live plot on schedule nodes", type: "boolean", defaultValue: true, category: category("SchedulePlot") },
    { id: "DDIM.StepReplay", name: "Step replay on DDIM samplers", type: "boolean", defaultValue: true, category: category("StepReplay"),
      onChange: updateReplays },
  ],
  async init() {
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL("./ddim.css", import.meta.url).href });
    document.head.append(style);
    await loadText();
  },
  setup() {
    colourSockets();
    handleDroppedConfigs();
    startLooks();
    startPlots();
    startLiveReplays();
  },
  nodeCreated(node) {
    attachLook(node);
    attachPlot(node);
    attachReplay(node);
    attachSamplerReplay(node);
    attachInversion(node);
    attachFit(node);
    attachCheck(node);
    attachConfigDrop(node);
    attachReplace(node);
  },
  getNodeMenuItems: (node) => replaceItems(node),
  // After a reload or a tab change, the editor restores outputs without a run.
  onNodeOutputsUpdated(outputs) {
    for (const [locator, output] of Object.entries(outputs ?? {})) {
      const node = SHOWN.some((key) => output?.[key]) ? nodeOfOutput(locator) : null;
      if (node) [showRun, showReplay, showInversion, showFit, showCheck].forEach((show) => show(node, output));
    }
  },
});
