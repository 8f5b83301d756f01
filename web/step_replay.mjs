// @ts-check
// Step replay: the picture that each step of the last run predicted, under a slider, with the step's t and noise level.

import { addPanel, chain, fitNode, setting, temporaryFile, widenNode } from "./comfy.mjs";
import { html, naturalHeight, panel } from "./panel.mjs";
import { say } from "./text.mjs";
import { figure, snr } from "./words.mjs";

export const REPLAY = "ddim_step_replay";
const WIDTH = 300;
const MOST_HEIGHT = 220;
const EMPTY_HEIGHT = 44;
const FRAME_TIME = 120; // ms

class Replay {
  constructor(node) {
    this.node = node;
    this.sheet = null;
    this.image = null;
    this.timer = 0;
    this.element = panel("replay", say("replay.title"));
    this.canvas = html("canvas", { role: "img", width: 1, height: 1 });
    this.holder = html("div", { class: "ddim-picture" }, this.canvas);
    this.slider = html("input", { type: "range", min: 0, max: 0, value: 0, step: 1, "aria-label": say("replay.slider") });
    this.button = html("button", { type: "button" });
    this.caption = html("output", { class: "ddim-readout", "aria-live": "polite" }, say("replay.empty"));
    this.controls = html("div", { class: "ddim-controls" }, this.button, this.slider);
    this.element.append(this.holder, this.controls, this.caption);
    this.minHeight = EMPTY_HEIGHT;
    widenNode(node, WIDTH);
    this.widget = addPanel(node, REPLAY, this.element, () => this.minHeight, 520);
    this.slider.addEventListener("input", () => (this.stop(), this.draw()));
    this.button.addEventListener("click", () => (this.timer ? this.stop() : this.play()));
    this.stop();
    this.fit();
  }

  get at() {
    return Number(this.slider.value);
  }

  /** @param {any} sheet what the node reported, see nodes/replay.py */
  show(sheet) {
    this.stop();
    const image = new Image();
    image.onload = () => {
      [this.sheet, this.image] = [sheet, image];
      this.slider.max = String(sheet.frames.length - 1);
      this.slider.value = this.slider.max;
      [this.canvas.width, this.canvas.height] = [sheet.width, sheet.height];
      this.element.classList.toggle("ddim-pixels", Math.max(sheet.width, sheet.height) <= 64);
      this.draw();
      this.fit();
    };
    image.onerror = () => (this.caption.textContent = say("replay.gone"));
    image.src = temporaryFile(sheet.sheet);
  }

  draw() {
    if (!this.sheet) return;
    const { columns, width, height, frames, steps } = this.sheet;
    const frame = frames[this.at];
    const [left, top] = [(this.at % columns) * width, Math.floor(this.at / columns) * height];
    this.canvas.getContext("2d").drawImage(this.image, left, top, width, height, 0, 0, width, height);
    const text = say("replay.reading", { step: frame.step, steps, t: frame.t, alpha_bar: figure(frame.alpha_bar),
      snr: snr(frame.log_snr, frame.alpha_bar) });
    this.caption.textContent = text;
    this.canvas.setAttribute("aria-label", text);
    this.slider.setAttribute("aria-valuetext", text);
  }

  play() {
    if (!this.sheet) return;
    if (this.at === this.sheet.frames.length - 1) this.slider.value = "0";
    this.mark(true);
    this.draw();
    this.timer = setInterval(() => {
      if (!this.element.isConnected || this.at >= this.sheet.frames.length - 1) return this.stop();
      this.slider.value = String(this.at + 1);
      return this.draw();
    }, FRAME_TIME);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    this.mark(false);
  }

  mark(playing) {
    this.button.textContent = playing ? "❚❚" : "▶";
    this.button.setAttribute("aria-label", say(playing ? "replay.pause" : "replay.play"));
  }

  look() {
    const shown = setting("DDIM.StepReplay", true);
    if (this.widget.hidden !== shown) return;
    this.widget.hidden = !shown;
    this.widget.options.hidden = !shown;
    fitNode(this.node);
  }

  /** Height in which the picture fills the panel's width. */
  pictureHeight() {
    const width = this.element.clientWidth - 16 || WIDTH;
    return Math.min(MOST_HEIGHT, Math.max(60, Math.round((width * this.sheet.height) / this.sheet.width)));
  }

  fit() {
    this.element.classList.toggle("ddim-empty", !this.sheet);
    requestAnimationFrame(() => {
      this.minHeight = this.sheet ? naturalHeight(this.element, this.pictureHeight(), this.holder) : EMPTY_HEIGHT;
      this.element.style.minHeight = `${this.minHeight - 20}px`;
      fitNode(this.node);
    });
  }
}

/** @type {Set<Replay>} */
const replays = new Set();

/** Put the replay on a sampler node. */
export function attachReplay(node) {
  if (node.comfyClass !== "DDIMSample" || typeof node.addDOMWidget !== "function") return;
  const replay = new Replay(node);
  node.ddimReplay = replay;
  replays.add(replay);
  chain(node, "onExecuted", (output) => showReplay(node, output));
  chain(node, "onRemoved", () => (replay.stop(), replays.delete(replay)));
  chain(node, "onAdded", () => replays.add(replay));
}

/** A run's report. */
export function showReplay(node, output) {
  const sheet = output?.ddim_replay?.[0];
  if (sheet && node.ddimReplay && node.ddimReplay.sheet?.sheet !== sheet.sheet) node.ddimReplay.show(sheet);
}

/** Follow the setting. */
export const lookAtReplays = () => replays.forEach((replay) => replay.look());
