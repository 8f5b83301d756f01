// @ts-check
// Step replay on DDIM Sampler. Its SAMPLER runs inside a stock node that sends no report, so the replay shows the live
// previews of that node. The host sends them only if previews are turned on in the editor's settings.

import { say } from "../common/text.mjs";
import { ReplayPanel } from "./replay_panel.mjs";
import { register } from "./step_replay.mjs";

export const SAMPLER_REPLAY = "ddim_sampler_replay";

/** Put the replay on a DDIM Sampler. */
export function attachSamplerReplay(node) {
  if (node.comfyClass !== "DDIMSampler" || typeof node.addDOMWidget !== "function") return;
  node.ddimSamplerReplay = register(node, new ReplayPanel(node, SAMPLER_REPLAY, say("replay.waiting")));
}
