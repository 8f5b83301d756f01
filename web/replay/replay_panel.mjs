// @ts-check
// The panel of the step replay on a node. While the node runs, it fills with the live previews; see live_replay.mjs.

import { dropPreview } from "../comfy.mjs";
import { addPanel, fitNode, widenNode } from "../common/node_panel.mjs";
import { html, messages, naturalHeight, panel } from "../common/panel.mjs";
import { say } from "../common/text.mjs";
import { FilmView } from "./film_view.mjs";
import { enlarge } from "./lightbox.mjs";

const WIDTH = 300;
const MAX_HEIGHT = 220;
const EMPTY_HEIGHT = 44;

/** @typedef {import("./film_view.mjs").Film} Film */

export class ReplayPanel {
  /** @param {any} node @param {string} name name of the widget @param {string} hint text to show before a run */
  constructor(node, name, hint) {
    this.node = node;
    /** The film of the last run that ended; another one is compared with it. @type {Film | null} */
    this.kept = null;
    this.view = new FilmView(hint);
    this.element = panel("replay", say("replay.title"));
    this.head = html("header", { class: "ddim-head ddim-about", title: say("replay.about_predicted") });
    this.notes = messages([]);
    this.larger = html("button", { type: "button", "aria-label": say("replay.enlarge"), title: say("replay.enlarge") }, "⤢");
    this.view.controls.append(this.larger);
    this.element.append(this.head, ...this.view.parts, this.notes);
    this.minHeight = EMPTY_HEIGHT;
    widenNode(node, WIDTH);
    this.widget = addPanel(node, name, this.element, () => this.minHeight, 520);
    this.larger.addEventListener("click", () => enlarge(this.view));
    this.view.canvas.addEventListener("click", () => (this.larger.focus(), enlarge(this.view)));
    this.view.compare.addEventListener("click", () => this.fit());
    this.fit();
  }

  get caption() {
    return this.view.caption;
  }

  /** Show the film of a run that goes on, or was stopped; the one that ended last stays to compare with. @param {Film} film */
  showLive(film) {
    const { view } = this;
    const following = !view.film || view.at === view.film.count - 1;
    if (this.kept && view.before !== this.kept) view.offer(this.kept);
    this.put(film, following ? film.count - 1 : view.at);
  }

  /** Show the film of a run that has ended. @param {Film} film */
  show(film) {
    this.view.stop();
    this.view.offer(this.kept);
    this.kept = film;
    this.put(film, film.count - 1);
  }

  put(film, at) {
    const before = this.view.film;
    this.view.show(film, at);
    this.element.classList.toggle("ddim-pixels", this.view.sharp);
    this.head.textContent = film.about ?? say("replay.predicted");
    if (before?.width !== film.width || before.height !== film.height) this.fit();
    if (this.shows && dropPreview(this.node)) fitNode(this.node);
  }

  /** Whether the panel is there for the user: then it is the live preview. */
  get shows() {
    return !this.widget.hidden;
  }

  /** Show what the node says of its run. @param {Parameters<typeof messages>[0]} rows */
  showNotes(rows) {
    const notes = messages(rows);
    this.notes.replaceWith(notes);
    this.notes = notes;
    this.fit();
  }

  /** Say how far a run is. @param {string} text */
  tell(text) {
    this.caption.textContent = text;
  }

  stop() {
    this.view.stop();
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
    const empty = !this.view.film;
    this.element.classList.toggle("ddim-empty", empty);
    requestAnimationFrame(() => {
      const { film, holder } = this.view;
      const picture = film ? this.pictureHeight(film) : 0;
      this.minHeight = film ? naturalHeight(this.element, picture, holder) : Math.max(EMPTY_HEIGHT, naturalHeight(this.element, 0, holder));
      this.element.style.minHeight = `${this.minHeight - 20}px`;
      fitNode(this.node);
    });
  }
}
