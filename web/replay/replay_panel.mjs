// @ts-check
// The panel of the step replay: shows the picture of the step that a slider selects. A `Film` provides the pictures.

import { addPanel, fitNode, widenNode } from "../common/node_panel.mjs";
import { html, naturalHeight, panel } from "../common/panel.mjs";
import { say } from "../common/text.mjs";

const WIDTH = 300;
const MAX_HEIGHT = 220;
const EMPTY_HEIGHT = 44;
const FRAME_TIME = 120; // ms

/**
 * @typedef {object} Film
 * @property {number} count number of pictures
 * @property {number} width
 * @property {number} height
 * @property {(context: CanvasRenderingContext2D, index: number) => void} paint
 * @property {(index: number) => string} caption
 */

export class ReplayPanel {
  /** @param {any} node @param {string} name name of the widget @param {string} hint text to show before a run */
  constructor(node, name, hint) {
    this.node = node;
    /** @type {Film | null} */
    this.film = null;
    this.timer = 0;
    this.element = panel("replay", say("replay.title"));
    this.canvas = html("canvas", { role: "img", width: 1, height: 1 });
    this.holder = html("div", { class: "ddim-picture" }, this.canvas);
    this.slider = html("input", { type: "range", min: 0, max: 0, value: 0, step: 1, "aria-label": say("replay.slider") });
    this.button = html("button", { type: "button" });
    this.caption = html("output", { class: "ddim-readout", "aria-live": "polite" }, hint);
    this.controls = html("div", { class: "ddim-controls" }, this.button, this.slider);
    this.element.append(this.holder, this.controls, this.caption);
    this.minHeight = EMPTY_HEIGHT;
    widenNode(node, WIDTH);
    this.widget = addPanel(node, name, this.element, () => this.minHeight, 520);
    this.slider.addEventListener("input", () => (this.stop(), this.draw()));
    this.button.addEventListener("click", () => (this.timer ? this.stop() : this.play()));
    this.stop();
    this.fit();
  }

  get at() {
    return Number(this.slider.value);
  }

  /** Show a film, starting at its last picture. @param {Film} film */
  show(film) {
    this.stop();
    const resized = !this.film || this.film.width !== film.width || this.film.height !== film.height;
    this.film = film;
    this.slider.max = String(film.count - 1);
    this.slider.value = this.slider.max;
    [this.canvas.width, this.canvas.height] = [film.width, film.height];
    this.element.classList.toggle("ddim-pixels", film.height <= 64);
    this.draw();
    if (resized) this.fit();
  }

  draw() {
    if (!this.film) return;
    this.film.paint(/** @type {any} */ (this.canvas.getContext("2d")), this.at);
    const text = this.film.caption(this.at);
    this.caption.textContent = text;
    this.canvas.setAttribute("aria-label", text);
    this.slider.setAttribute("aria-valuetext", text);
  }

  play() {
    if (!this.film) return;
    const last = this.film.count - 1;
    if (this.at === last) this.slider.value = "0";
    this.mark(true);
    this.draw();
    this.timer = setInterval(() => {
      if (!this.element.isConnected || this.at >= last) return this.stop();
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

  /** Hide or show the panel, as the setting says. */
  hide(hidden) {
    if (Boolean(this.widget.hidden) === hidden) return;
    this.widget.hidden = hidden;
    this.widget.options.hidden = hidden;
    fitNode(this.node);
  }

  /** Height at which the picture fills the panel's width. */
  pictureHeight(film) {
    const width = this.element.clientWidth - 16 || WIDTH;
    return Math.min(MAX_HEIGHT, Math.max(60, Math.round((width * film.height) / film.width)));
  }

  fit() {
    this.element.classList.toggle("ddim-empty", !this.film);
    requestAnimationFrame(() => {
      this.minHeight = this.film ? naturalHeight(this.element, this.pictureHeight(this.film), this.holder) : EMPTY_HEIGHT;
      this.element.style.minHeight = `${this.minHeight - 20}px`;
      fitNode(this.node);
    });
  }
}
