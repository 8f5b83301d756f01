// @ts-check
// Pixel positions in the schedule plot. Noise is on the left and the picture on the right, so that a run goes from
// left to right. The numbers come from the pack's core; this file only positions them.

const MARGIN = { left: 24, right: 32, top: 8, bottom: 20 };
const MAX_DOTS = 80;

/**
 * @typedef {{index: number[], t: number[], alpha_bar: (number|null)[], log_snr: (number|null)[]}} Levels
 * @typedef {{num_train_timesteps: number, steps: number, curve: Levels, visited: Levels & {step: number[]}}} Report
 */

/** Compute the scales of a plot of this size. @param {Report} report */
export function scales(report, width, height) {
  const box = { left: MARGIN.left, top: MARGIN.top, right: Math.max(width - MARGIN.right, MARGIN.left + 10),
    bottom: Math.max(height - MARGIN.bottom, MARGIN.top + 10) };
  const last = Math.max(report.num_train_timesteps - 1, 1);
  const [low, high] = snrRange(report.curve.log_snr);
  const down = (share) => box.bottom - Math.min(1, Math.max(0, share)) * (box.bottom - box.top);
  return {
    box,
    low,
    high,
    x: (index) => box.right - (index / last) * (box.right - box.left),
    alphaBar: (value) => down(value ?? 0),
    // null stands for no signal or no noise: the end of the axis.
    logSnr: (value, alphaBar) => down(value === null ? Math.round(alphaBar ?? 0) : (value - low) / (high - low)),
  };
}

/** Integer bounds of all finite values, at least one apart. @param {(number|null)[]} values @returns {[number, number]} */
export function snrRange(values) {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return [-1, 1];
  const low = Math.floor(Math.min(.../** @type {number[]} */ (known)));
  return [low, Math.max(Math.ceil(Math.max(.../** @type {number[]} */ (known))), low + 1)];
}

/** SVG path data of a polyline. */
export const path = (points) =>
  points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/** SVG path data of both curves and of the area under the first. */
export function curves(report, scale) {
  const { index, alpha_bar: alphaBar, log_snr: logSnr } = report.curve;
  const first = index.map((value, i) => [scale.x(value), scale.alphaBar(alphaBar[i])]);
  const second = index.map((value, i) => [scale.x(value), scale.logSnr(logSnr[i], alphaBar[i])]);
  const { left, right, bottom } = scale.box;
  return {
    alphaBar: path(first),
    area: index.length ? `${path(first)}L${left} ${bottom}L${right} ${bottom}Z` : "",
    logSnr: path(second),
  };
}

/** Positions of the visited timesteps; `dot` says whether there is room for dots on the curve. */
export function marks(report, scale) {
  const { index, alpha_bar: alphaBar } = report.visited;
  return index.map((value, i) => ({ x: scale.x(value), y: scale.alphaBar(alphaBar[i]), dot: index.length <= MAX_DOTS }));
}

/** Index of the visited timestep closest to a position on the x axis, or -1. */
export function nearest(report, scale, x) {
  let best = -1;
  let distance = Infinity;
  report.visited.index.forEach((index, i) => {
    const apart = Math.abs(scale.x(index) - x);
    if (apart < distance) [best, distance] = [i, apart];
  });
  return best;
}
