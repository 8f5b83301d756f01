// @ts-check
// Step replay on DDIM KSampler: the picture that each step of the last run predicted, with the step's t and noise level,
// and what the node says of the run.

import { setting } from "../comfy.mjs";
import { advice } from "../common/advice.mjs";
import { chain } from "../common/node_panel.mjs";
import { say } from "../common/text.mjs";
import { endLive, settingsOfRun } from "./live_replay.mjs";
import { ReplayPanel } from "./replay_panel.mjs";
import { filmOfSheet } from "./sheet_film.mjs";

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
  const replay = node.ddimReplay;
  if (!replay || !(output?.ddim_replay || output?.ddim_notes)) return;
  const sheet = output.ddim_replay?.[0];
  const known = sheet && replay.sheet === sheet.sheet;
  const settings = settingsOfRun(node);
  endLive(replay);
  if (known) return;
  replay.showNotes((output.ddim_notes ?? []).map((note) => advice(note, "note", node)));
  if (!sheet) return;
  replay.sheet = sheet.sheet;
  filmOfSheet(sheet, settings).then(
    (film) => replay.sheet === sheet.sheet && replay.show(film),
    () => {
      replay.sheet = null;
      replay.tell(say("replay.gone"));
    },
  );
}

/** Hide or show all replays, as the setting says. */
export function updateReplays() {
  const hidden = !setting("DDIM.StepReplay", true);
  replays.forEach((replay) => replay.hide(hidden));
}
