// @ts-check
// Step replay on DDIM KSampler: the picture that each step of the last run predicted, with the step's t and noise level. The
// node puts all pictures on one sheet in the temp folder and reports its name, see nodes/editor/replay.py.

import { replaySheet, setting } from "../comfy.mjs";
import { chain } from "../common/node_panel.mjs";
import { ReplayPanel } from "./replay_panel.mjs";
import { say } from "../common/text.mjs";
import { figure, snr } from "../common/words.mjs";

export const REPLAY = "ddim_step_replay";

/** @type {Set<ReplayPanel>} */
const replays = new Set();

/** Put the replay on a sampler node. */
export function attachReplay(node) {
  if (node.comfyClass !== "DDIMSample" || typeof node.addDOMWidget !== "function") return;
  node.ddimReplay = register(node, new ReplayPanel(node, REPLAY, say("replay.empty")));
  chain(node, "onExecuted", (output) => showReplay(node, output));
}

/** Let a panel follow the setting while its node is in a graph. */
export function register(node, replay) {
  replays.add(replay);
  chain(node, "onRemoved", () => (replay.stop(), replays.delete(replay)));
  chain(node, "onAdded", () => replays.add(replay));
  return replay;
}

/** Show a run's report. */
export function showReplay(node, output) {
  const sheet = output?.ddim_replay?.[0];
  const replay = node.ddimReplay;
  if (!sheet || !replay || replay.sheet === sheet.sheet) return;
  replay.sheet = sheet.sheet;
  const image = new Image();
  image.onload = () => replay.show(filmOf(sheet, image));
  image.onerror = () => {
    replay.sheet = null;
    replay.caption.textContent = say("replay.gone");
  };
  image.src = replaySheet(sheet.sheet);
}

function filmOf({ columns, width, height, frames, steps }, image) {
  return {
    count: frames.length,
    width,
    height,
    paint: (context, index) => {
      const [left, top] = [(index % columns) * width, Math.floor(index / columns) * height];
      context.drawImage(image, left, top, width, height, 0, 0, width, height);
    },
    caption: (index) => {
      const { step, t, alpha_bar: alphaBar, log_snr: logSnr } = frames[index];
      return say("replay.reading", { step, steps, t, alpha_bar: figure(alphaBar), snr: snr(logSnr, alphaBar) });
    },
  };
}

/** Hide or show all replays, as the setting says. */
export function updateReplays() {
  const hidden = !setting("DDIM.StepReplay", true);
  replays.forEach((replay) => replay.hide(hidden));
}
