// @ts-check
// The schedule plot as SVG: alpha_bar and log-SNR over the timesteps, with the visited timesteps marked. Pointer and
// arrow keys select a visited timestep and show its t, alpha_bar and SNR.

import { html, svg } from "../common/panel.mjs";
import { curves, marks, nearest, scales } from "./plot_geometry.mjs";
import { say } from "../common/text.mjs";
import { figure, logarithm } from "../common/words.mjs";

const MOVES = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };

/** Create the parts of an empty plot, and `draw(report, outdated)` to fill them: an outdated report is shown and not read. */
export function drawPlot() {
  const head = html("header", { class: "ddim-head" }, legend("alpha", "ᾱ", say("plot.alpha_bar")),
    legend("snr", "log SNR", say("plot.log_snr")), legend("dot", say("plot.visited"), say("plot.visited")));
  const image = svg("svg", { class: "ddim-svg", tabindex: 0, role: "slider", "aria-label": say("plot.label"), "aria-valuemin": 1 });
  const holder = html("div", { class: "ddim-figure" }, image);
  const readout = html("output", { class: "ddim-readout", "aria-live": "polite" });
  const state = { report: null, scale: null, at: -1, outdated: false };

  const point = (index) => {
    state.at = state.outdated ? -1 : index;
    image.querySelector(".ddim-cursor")?.replaceWith(cursor(state));
    const text = readingAt(state);
    readout.textContent = text;
    if (state.report) describe(image, state, text);
  };
  const draw = (report, outdated = false) => {
    Object.assign(state, { report, outdated });
    if (!report || holder.clientWidth === 0) return;
    const [width, height] = [holder.clientWidth, holder.clientHeight];
    state.scale = scales(report, width, height);
    image.setAttribute("viewBox", `0 0 ${width} ${height}`);
    image.replaceChildren(...axes(report, state.scale), ...lines(report, state.scale), svg("g", { class: "ddim-cursor" }));
    point(Math.min(state.at, report.visited.t.length - 1));
  };
  image.addEventListener("pointermove", (event) => state.scale && point(nearest(state.report, state.scale, pointerX(image, event))));
  image.addEventListener("pointerleave", () => point(-1));
  image.addEventListener("blur", () => point(-1));
  image.addEventListener("keydown", (event) => {
    if (!(event.key in MOVES) || !state.report) return;
    event.preventDefault();
    point(Math.max(0, Math.min(state.report.visited.t.length - 1, state.at + MOVES[event.key])));
  });
  return { head, figure: holder, readout, draw };
}

/** x of a pointer in the plot's own pixels, independent of the zoom. */
const pointerX = (image, event) => {
  const box = image.getBoundingClientRect();
  return ((event.clientX - box.left) / box.width) * image.viewBox.baseVal.width;
};

const legend = (kind, text, title) =>
  html("span", { class: "ddim-legend", title }, html("i", { class: `ddim-swatch ddim-swatch-${kind}`, "aria-hidden": "true" }), text);

/** What is said of the point that is read, or of the whole plot. */
function readingAt({ report, at, outdated }) {
  if (!report || outdated) return "";
  return at < 0 ? summary(report) : reading(report, at);
}

function summary(report) {
  const { t } = report.visited;
  return say("plot.summary", { steps: report.steps, first: t[0], last: t[t.length - 1], end: figure(report.final_alpha_bar) });
}

function reading(report, index) {
  const { step, t, alpha_bar: alphaBar, log_snr: logSnr } = report.visited;
  return say("plot.reading", { step: step[index], steps: report.steps, t: t[index], alpha_bar: figure(alphaBar[index]),
    log_snr: logarithm(logSnr[index], alphaBar[index]) });
}

function describe(image, { report, at }, text) {
  image.setAttribute("aria-valuemax", String(report.steps));
  image.setAttribute("aria-valuenow", String(at < 0 ? 1 : report.visited.step[at]));
  image.setAttribute("aria-valuetext", text);
}

function cursor({ report, scale, at }) {
  const group = svg("g", { class: "ddim-cursor" });
  if (at < 0 || !report) return group;
  const { index, alpha_bar: alphaBar, log_snr: logSnr } = report.visited;
  const x = scale.x(index[at]);
  group.append(svg("line", { x1: x, x2: x, y1: scale.box.top, y2: scale.box.bottom }),
    svg("circle", { class: "ddim-at-alpha", cx: x, cy: scale.alphaBar(alphaBar[at]), r: 4 }),
    svg("circle", { class: "ddim-at-snr", cx: x, cy: scale.logSnr(logSnr[at], alphaBar[at]), r: 4 }));
  return group;
}

function axes(report, scale) {
  const { left, right, top, bottom } = scale.box;
  const text = (x, y, anchor, kind, content) => svg("text", { x, y, "text-anchor": anchor, class: kind }, content);
  const grid = [0, 0.5, 1].map((value) => svg("line", { class: "ddim-grid", x1: left, x2: right, y1: scale.alphaBar(value), y2: scale.alphaBar(value) }));
  const alpha = [0, 0.5, 1].map((value) => text(left - 5, scale.alphaBar(value) + 4, "end", "ddim-alpha-label", String(value)));
  const ratio = [0, 0.5, 1].map((share) => text(right + 5, scale.alphaBar(share) + 4, "start", "ddim-snr-label",
    String(Number((scale.low + share * (scale.high - scale.low)).toFixed(1)))));
  return [...grid, ...alpha, ...ratio, svg("line", { class: "ddim-axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    text(left, bottom + 15, "start", "ddim-axis-label", say("plot.noise_end", { t: figure(report.curve.t[report.curve.t.length - 1]) })),
    text(right, bottom + 15, "end", "ddim-axis-label", say("plot.picture_end"))];
}

function lines(report, scale) {
  const drawn = curves(report, scale);
  const bottom = scale.box.bottom;
  const ticks = marks(report, scale).flatMap(({ x, y, dot }) => [
    svg("line", { class: "ddim-tick", x1: x, x2: x, y1: dot ? y : bottom - 5, y2: bottom }),
    ...(dot ? [svg("circle", { class: "ddim-dot", cx: x, cy: y, r: 2.5 })] : [])]);
  return [svg("path", { class: "ddim-area", d: drawn.area }), svg("path", { class: "ddim-snr-line", d: drawn.logSnr }),
    svg("path", { class: "ddim-alpha-line", d: drawn.alphaBar }), ...ticks];
}
