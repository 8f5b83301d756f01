// @ts-check
// Replays are the live preview: while a sampler runs, its replay fills with the previews that the host sends, and stays
// when the run is stopped. Without previews it says which step runs. The SAMPLER of DDIM Sampler runs inside a stock node,
// which sends no report: there the previews are all that is shown.

import { dropPreview, onNodeStart, onPreview, onProgress, onPromptQueued, onRunStart, onRunStop, stoppedReplay } from "../comfy.mjs";
import { nodeOfRun, sourceNode } from "../common/graph.mjs";
import { say } from "../common/text.mjs";
import { figure, snr } from "../common/words.mjs";
import { LiveFilm } from "./live_film.mjs";
import { settingsOf } from "./run_settings.mjs";
import { filmOfSheet } from "./sheet_film.mjs";

const WITHOUT_REPLAY = new Set(["DDIMInvert", "DDIMFitSteps"]); // reports of their own; a preview would cover other nodes
const MAX_PROMPTS = 20;

/** @type {Map<string, Record<string, any>>} */
const prompts = new Map();
let promptId = "";

/** The replays that follow a run now, each with the id of its node. @type {Map<any, {film: LiveFilm, nodeId: string, running: any}>} */
const live = new Map();

/** Start listening to the events of runs. */
export function startLiveReplays() {
  onPromptQueued(({ promptId: id, prompt }) => {
    prompts.set(id, prompt);
    if (prompts.size > MAX_PROMPTS) prompts.delete(prompts.keys().next().value);
  });
  onRunStart(({ promptId: id }) => {
    promptId = id;
    live.clear();
  });
  onNodeStart(({ nodeId }) => begin(nodeId));
  onProgress(({ nodeId, value, total }) => progress(nodeId, value, total));
  onPreview(({ nodeId, blob }) => preview(nodeId, blob));
  onRunStop(() => [...live].forEach(([replay, run]) => stopped(replay, run)));
}

/** The settings of the run that goes on. */
export const settingsOfRun = (node) => {
  const run = live.get(node.ddimReplay);
  return run ? settingsOf(prompts.get(promptId), run.nodeId) : undefined;
};

/** A run has ended and reported: what was live gives way to the report. */
export function endLive(replay) {
  live.delete(replay);
}

function replayOf(node) {
  return node?.ddimReplay ?? (node ? sourceNode(node, "sampler")?.ddimSamplerReplay : null) ?? null;
}

function begin(nodeId) {
  const running = nodeOfRun(nodeId);
  const replay = replayOf(running);
  if (!replay || live.get(replay)?.nodeId === nodeId) return replay ? live.get(replay) : null;
  if (!running.ddimReplay) replay.kept = replay.view.film; // no report will say that this run has ended
  const run = { film: new LiveFilm(), nodeId, running };
  live.set(replay, run);
  return run;
}

function progress(nodeId, value, total) {
  const run = begin(nodeId);
  if (!run) return;
  Object.assign(run.film, { done: value, total });
  if (run.film.frames.length === 0) replayOf(run.running).tell(say("replay.running", { step: value, steps: total }));
}

async function preview(nodeId, blob) {
  const running = nodeOfRun(nodeId);
  const replay = replayOf(running);
  if (WITHOUT_REPLAY.has(running?.comfyClass) || running?.ddimReplay?.shows) dropPreview(running);
  const run = begin(nodeId);
  if (!run || !replay.shows) return;
  await run.film.keep(blob);
  if (live.get(replay) === run) replay.showLive(filmOf(run));
}

function filmOf({ film, nodeId, running }, caption = captionOf(running)) {
  return film.film(caption, { about: say("replay.predicted"), settings: settingsOf(prompts.get(promptId), nodeId) });
}

/** Caption of a step; includes t and the noise level if a DDIM schedule node plans the steps, whose plot has them. */
function captionOf(running) {
  return (step, steps) => {
    const planner = sourceNode(running, running.ddimReplay ? "schedule" : "sigmas");
    const visited = planner?.ddimPlot?.report?.visited;
    if (!visited || visited.t.length !== steps || step > steps) return say("replay.preview", { step, steps });
    const [t, alphaBar, logSnr] = [visited.t[step - 1], visited.alpha_bar[step - 1], visited.log_snr[step - 1]];
    return say("replay.reading", { step, steps, t, alpha_bar: figure(alphaBar), snr: snr(logSnr, alphaBar) });
  };
}

/** Keep what there is of a run that was cancelled or failed: the node's own pictures if it has some, else the previews. */
async function stopped(replay, run) {
  live.delete(replay);
  const { film, nodeId } = run;
  if (film.done === 0) return;
  const end = say("replay.stopped", { step: film.done, steps: film.total });
  const told = (caption) => `${end} ${caption}`;
  if (film.frames.length > 0) replay.showLive(filmOf(run, (step, steps) => told(captionOf(run.running)(step, steps))));
  else replay.tell(end);
  const sheet = run.running.ddimReplay ? await stoppedReplay(nodeId) : null;
  if (!sheet?.sheet || (sheet.prompt_id && sheet.prompt_id !== promptId) || live.has(replay)) return;
  const whole = await filmOfSheet(sheet, settingsOf(prompts.get(promptId), nodeId)).catch(() => null);
  if (whole && !live.has(replay)) replay.showLive({ ...whole, caption: (index) => told(whole.caption(index)) });
}

