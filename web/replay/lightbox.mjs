// @ts-check
// A film as large as the window. Escape closes it, and the focus returns to where it was.

import { html } from "../common/panel.mjs";
import { say } from "../common/text.mjs";
import { FilmView } from "./film_view.mjs";

const STEPS = { ArrowLeft: -1, ArrowRight: 1 };

/** Show what a view shows, large. @param {FilmView} view */
export function enlarge(view) {
  const { film } = view;
  if (!film) return;
  view.stop();
  const large = new FilmView();
  large.offer(view.before);
  large.show(film, view.at);
  const close = html("button", { type: "button", class: "ddim-close", "aria-label": say("replay.close"), title: say("replay.close") }, "✕");
  const head = html("header", { class: "ddim-head" }, html("span", {}, film.about ?? say("replay.title")), close);
  const dialog = html("dialog", { class: "ddim-panel ddim-lightbox", "aria-label": say("replay.title") }, head, ...large.parts);
  dialog.classList.toggle("ddim-pixels", large.sharp);
  large.wipe.value = view.wipe.value;
  large.setComparing(view.comparing);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside the dialog's content
  dialog.addEventListener("keydown", (event) => {
    event.stopPropagation(); // the editor's shortcuts
    if (event.target !== large.slider && event.target !== large.wipe && STEPS[event.key]) large.step(STEPS[event.key]);
  });
  dialog.addEventListener("close", () => (large.stop(), dialog.remove()));
  document.body.append(dialog);
  dialog.showModal();
  large.slider.focus();
}
