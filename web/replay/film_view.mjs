// @ts-check
// Shows a film: the picture of the step that a slider selects, and beside it, on request, that of the run before.

import { html } from "../common/panel.mjs";
import { say } from "../common/text.mjs";
import { differences } from "./run_settings.mjs";

const FRAME_TIME = 120; // ms
const SMALL = 64; // pixels: pictures up to this height are enlarged with sharp edges

/**
 * @typedef {object} Film
 * @property {number} count number of pictures
 * @property {number} width
 * @property {number} height
 * @property {(context: CanvasRenderingContext2D, index: number) => void} paint
 * @property {(index: number) => string} caption
 * @property {number} [pictureHeight] of one image, where a picture shows several
 * @property {string} [about] what the pictures are
 * @property {Record<string, any>} [settings] with which the run was made
 */

const toggle = (label, text) => html("button", { type: "button", "aria-pressed": "false", "aria-label": label, title: label }, text);

export class FilmView {
  /** @param {string} hint text to show while there is no film */
  constructor(hint = "") {
    /** @type {Film | null} */
    this.film = null;
    /** @type {Film | null} */
    this.before = null;
    this.comparing = false;
    this.timer = 0;
    this.canvas = html("canvas", { role: "img", width: 1, height: 1 });
    this.holder = html("div", { class: "ddim-picture" }, this.canvas);
    this.slider = html("input", { type: "range", min: 0, max: 0, value: 0, step: 1, "aria-label": say("replay.slider") });
    this.wipe = html("input", { type: "range", min: 0, max: 100, value: 50, step: 1, class: "ddim-wipe", "aria-label": say("replay.wipe") });
    this.button = html("button", { type: "button" });
    this.compare = toggle(say("replay.compare"), "A|B");
    this.caption = html("output", { class: "ddim-readout", "aria-live": "polite" }, hint);
    this.controls = html("div", { class: "ddim-controls" }, this.button, this.slider, this.compare);
    this.parts = [this.holder, this.controls, this.caption];
    this.slider.addEventListener("input", () => (this.stop(), this.draw()));
    this.wipe.addEventListener("input", () => this.draw());
    this.button.addEventListener("click", () => (this.timer ? this.stop() : this.play()));
    this.compare.addEventListener("click", () => this.setComparing(!this.comparing));
    this.stop();
    this.setComparing(false);
  }

  get at() {
    return Number(this.slider.value);
  }

  /** Whether the pictures are small enough for sharp edges. */
  get sharp() {
    return Boolean(this.film) && (this.film?.pictureHeight ?? this.film?.height ?? 0) <= SMALL;
  }

  /** Show a film. @param {Film} film @param {number} at the picture to start with; the last one if there are fewer */
  show(film, at = film.count - 1) {
    this.film = film;
    this.slider.max = String(film.count - 1);
    this.slider.value = String(Math.min(at, film.count - 1));
    if (this.canvas.width !== film.width) this.canvas.width = film.width;
    if (this.canvas.height !== film.height) this.canvas.height = film.height;
    this.draw();
  }

  /** Offer to compare with another film, or with none. @param {Film | null} before */
  offer(before) {
    this.before = before;
    this.setComparing(this.comparing && Boolean(before));
  }

  setComparing(comparing) {
    this.comparing = comparing;
    this.compare.hidden = !this.before;
    if (comparing) this.holder.after(this.wipe);
    else this.wipe.remove();
    this.compare.setAttribute("aria-pressed", String(comparing));
    this.draw();
  }

  /** Go to another step. */
  step(by) {
    this.stop();
    this.slider.value = String(this.at + by);
    this.draw();
  }

  draw() {
    const { film } = this;
    if (!film) return;
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    film.paint(context, this.at);
    if (this.comparing) this.drawBefore(context, film);
    const text = this.comparing ? `${film.caption(this.at)}. ${this.compared()}` : film.caption(this.at);
    this.caption.textContent = text;
    this.canvas.setAttribute("aria-label", text);
    this.slider.setAttribute("aria-valuetext", film.caption(this.at));
  }

  /** Cover the left part with the run before, at the same share of its steps. */
  drawBefore(context, film) {
    const before = /** @type {Film} */ (this.before);
    const edge = Math.round((this.canvas.width * Number(this.wipe.value)) / 100);
    const index = film.count > 1 ? Math.round((this.at * (before.count - 1)) / (film.count - 1)) : before.count - 1;
    context.save();
    context.beginPath();
    context.rect(0, 0, edge, this.canvas.height);
    context.clip();
    context.scale(this.canvas.width / before.width, this.canvas.height / before.height);
    before.paint(context, index);
    context.restore();
    context.fillStyle = "#fff";
    context.fillRect(edge, 0, Math.max(1, Math.round(this.canvas.width / 256)), this.canvas.height);
  }

  compared() {
    const changed = differences(this.before?.settings, this.film?.settings);
    const text = changed.map(({ name, before, now }) => say("replay.changed", { name, before, now })).join(", ");
    return text ? say("replay.compared", { changed: text }) : say("replay.compared_same");
  }

  play() {
    if (!this.film) return;
    const last = this.film.count - 1;
    if (this.at === last) this.slider.value = "0";
    this.mark(true);
    this.draw();
    this.timer = setInterval(() => {
      if (!this.canvas.isConnected || this.at >= last) return this.stop();
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
}
