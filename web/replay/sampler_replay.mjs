// @ts-check
// Step replay on DDIM Sampler. Its SAMPLER runs inside a stock node that sends no report, so this file collects the live
// previews that the host sends for that node. The host sends them only if previews are turned on in the editor's settings.

import { onPreview, onProgress, onRunStart } from "../comfy.mjs";
import { everyNode, nodeOfRun, sourceNode } from "../common/graph.mjs";
import { chain } from "../common/node_panel.mjs";
import { ReplayPanel } from "./replay_panel.mjs";
import { register } from "./step_replay.mjs";
import { say } from "../common/text.mjs";
import { figure, snr } from "../common/words.mjs";

export const SAMPLER_REPLAY = "ddim_sampler_replay";
const MAX_FRAMES = 48;
const MAX_SIDE = 192;

/** Put the replay on a DDIM Sampler. */
export function attachSamplerReplay(node) {
  if (node.comfyClass !== "DDIMSampler" || typeof node.addDOMWidget !== "function") return;
  const replay = register(node, new ReplayPanel(node, SAMPLER_REPLAY, say("replay.waiting")));
  node.ddimSamplerReplay = Object.assign(replay, { frames: [], seen: 0, total: 0 });
  chain(node, "onRemoved", () => forget(node.ddimSamplerReplay));
}

/** Start listening to the events of runs. */
export function startSamplerReplays() {
  onRunStart(() => {
    for (const node of everyNode()) if (node.ddimSamplerReplay) forget(node.ddimSamplerReplay);
  });
  onProgress(({ nodeId, total }) => {
    const replay = replayOf(nodeId);
    if (replay) replay.total = total;
  });
  onPreview(async ({ nodeId, blob }) => {
    const running = nodeOfRun(nodeId);
    const replay = replayOf(nodeId);
    if (replay) await keep(replay, running, blob);
  });
}

/** Find the replay of the DDIM Sampler that feeds a running node. */
function replayOf(nodeId) {
  const running = nodeOfRun(nodeId);
  return running ? (sourceNode(running, "sampler")?.ddimSamplerReplay ?? null) : null;
}

function forget(replay) {
  replay.frames.forEach((frame) => frame.bitmap.close());
  Object.assign(replay, { frames: [], seen: 0, total: 0 });
}

/** Keep a reduced preview; if there are too many, drop every other one. */
async function keep(replay, running, blob) {
  const step = (replay.seen += 1);
  const whole = await createImageBitmap(blob);
  const shrink = Math.min(1, MAX_SIDE / Math.max(whole.width, whole.height));
  const size = { resizeWidth: Math.max(1, Math.round(whole.width * shrink)), resizeHeight: Math.max(1, Math.round(whole.height * shrink)) };
  const bitmap = shrink < 1 ? await createImageBitmap(whole, size) : whole;
  replay.frames.push({ step, bitmap });
  replay.frames.sort((a, b) => a.step - b.step);
  if (replay.frames.length > MAX_FRAMES) {
    const dropped = replay.frames.filter((frame, i) => i % 2 === 1 && i < replay.frames.length - 1);
    replay.frames = replay.frames.filter((frame) => !dropped.includes(frame));
    dropped.forEach((frame) => frame.bitmap.close());
  }
  replay.show(filmOf(replay, running));
}

function filmOf(replay, running) {
  const { width, height } = replay.frames[0].bitmap;
  return {
    count: replay.frames.length,
    width,
    height,
    paint: (context, index) => context.drawImage(replay.frames[index].bitmap, 0, 0, width, height),
    caption: (index) => caption(replay, running, replay.frames[index].step),
  };
}

/** Caption of a step; includes t and the noise level if the SIGMAS come from a DDIM schedule node, whose plot has them. */
function caption({ total, seen }, running, step) {
  const steps = total || seen;
  const visited = sourceNode(running, "sigmas")?.ddimPlot?.report?.visited;
  if (!visited || visited.t.length !== steps) return say("replay.preview", { step, steps });
  const [t, alphaBar, logSnr] = [visited.t[step - 1], visited.alpha_bar[step - 1], visited.log_snr[step - 1]];
  return say("replay.reading", { step, steps, t, alpha_bar: figure(alphaBar), snr: snr(logSnr, alphaBar) });
}
