// The parts of the web extension that need no page: words, numbers, geometry, rows. Run: node --test tests/web/
import assert from "node:assert/strict";
import { test } from "node:test";

import { importRows, isSchedulerConfig } from "../../web/schedule/import_rows.mjs";
import { curves, marks, nearest, scales, snrRange } from "../../web/schedule/plot_geometry.mjs";
import { matching } from "../../web/schedule/matching.mjs";
import { withoutEffect } from "../../web/nodes/applicable.mjs";
import { closeTo, figure, fill, labelsOfInputs, logarithm, pick, snr, withLabels } from "../../web/common/words.mjs";

const report = {
  num_train_timesteps: 1000,
  steps: 3,
  curve: { index: [0, 500, 999], t: [0, 500, 999], alpha_bar: [0.999, 0.28, 0], log_snr: [6.9, -0.94, null] },
  visited: { step: [1, 2, 3], index: [999, 666, 333], t: [999, 666, 333], alpha_bar: [0, 0.1, 0.6], log_snr: [null, -2.2, 0.4] },
};

test("places in braces are filled, unknown ones stay", () => {
  assert.equal(fill("{a} of {b} {c}", { a: 1, b: "x" }), "1 of x {c}");
});

test("a text is found in the language, then its main language, then English", () => {
  const catalogue = { en: { ddim: { a: { b: "en", c: "only" } } }, zh: { ddim: { a: { b: "zh" } } } };
  assert.equal(pick(catalogue, "zh", "a.b"), "zh");
  assert.equal(pick(catalogue, "zh-TW", "a.b"), "zh");
  assert.equal(pick(catalogue, "zh", "a.c"), "only");
  assert.equal(pick(catalogue, "fr", "a.b"), "en");
  assert.equal(pick(catalogue, "fr", "a.none"), undefined);
  assert.equal(pick({}, "fr", "a"), undefined);
});

test("numbers are short and say when there is none", () => {
  assert.equal(figure(0.277654), "0.2777");
  assert.equal(figure(0), "0");
  assert.equal(figure(4.897e-8), "4.90e-8");
  assert.equal(figure(null), "–");
  assert.equal(figure(123456), "1.23e5");
});

test("SNR of a level without a finite logarithm is 0 or infinite", () => {
  assert.equal(snr(null, 0), "0");
  assert.equal(snr(null, 1), "∞");
  assert.equal(snr(0, 0.5), "1");
});

test("noise is on the left, the picture on the right, everything inside", () => {
  const scale = scales(report, 400, 200);
  assert.equal(scale.x(999), scale.box.left);
  assert.equal(scale.x(0), scale.box.right);
  assert.ok(scale.alphaBar(1) === scale.box.top && scale.alphaBar(0) === scale.box.bottom);
  assert.equal(scale.logSnr(null, 0), scale.box.bottom);
  assert.equal(scale.logSnr(null, 1), scale.box.top);
  for (const { x, y } of marks(report, scale)) {
    assert.ok(x >= scale.box.left && x <= scale.box.right && y >= scale.box.top && y <= scale.box.bottom);
  }
  assert.ok(!/NaN|Infinity/.test(Object.values(curves(report, scale)).join()));
});

test("a plot of one timestep, of nothing finite, or of no size is still drawn", () => {
  const single = { num_train_timesteps: 1, steps: 1, curve: { index: [0], t: [0], alpha_bar: [0.5], log_snr: [0] },
    visited: { step: [1], index: [0], t: [0], alpha_bar: [0.5], log_snr: [0] } };
  assert.ok(!/NaN|Infinity/.test(Object.values(curves(single, scales(single, 0, 0))).join()));
  assert.deepEqual(snrRange([null, null]), [-1, 1]);
  assert.deepEqual(snrRange([2, 2]), [2, 3]);
});

test("the pointer reads the nearest visited timestep", () => {
  const scale = scales(report, 400, 200);
  assert.equal(nearest(report, scale, 0), 0);
  assert.equal(nearest(report, scale, scale.x(660)), 1);
  assert.equal(nearest(report, scale, 400), 2);
  assert.equal(nearest({ ...report, visited: { index: [], t: [] } }, scale, 0), -1);
});

test("a scheduler's configuration is told from workflows and other JSON", () => {
  assert.ok(isSchedulerConfig({ _class_name: "DDIMScheduler" }));
  assert.ok(isSchedulerConfig({ beta_start: 0.1, beta_end: 0.2 }));
  assert.ok(!isSchedulerConfig({ nodes: [], links: [], _class_name: "DDIMScheduler" }));
  assert.ok(!isSchedulerConfig({ 1: { class_type: "KSampler", inputs: { steps: 20 } } }));
  assert.ok(!isSchedulerConfig({ beta_start: { class_type: "x" }, beta_end: { class_type: "y" } }));
  assert.ok(!isSchedulerConfig({ _class_name: "UNet2DConditionModel" }));
  for (const other of [null, [], 3, "x", {}]) assert.ok(!isSchedulerConfig(other));
});

test("import rows: each key once, replaced ones with both values", () => {
  const rows = importRows({ used: { a: 1, b: false }, overridden: { b: false }, config: { b: true }, ignored: { c: "why" },
    mapped: { d: { source_value: "v", setting: "prediction_type", value: "v_prediction" } }, defaulted: { e: null } });
  assert.deepEqual(rows.map(({ kind, key, text }) => [kind, key, text]), [["used", "a", "1"],
    ["mapped", "d", "v → prediction_type = v_prediction"], ["overridden", "b", "false → true"],
    ["defaulted", "e", "null"], ["ignored", "c", "why"]]);
});

test("a log-SNR is written with a minus sign, and infinite at both ends", () => {
  assert.deepEqual([logarithm(-5.3641, 0.004), logarithm(null, 0), logarithm(null, 1), logarithm(0, 0.5)], ["−5.364", "−∞", "∞", "0"]);
});

test("values that the editor has rounded are the same", () => {
  assert.ok(closeTo(850 * 1e-6, 0.00085) && closeTo("a", "a") && closeTo(true, true));
  assert.ok(!closeTo(0.00085, 0.0009) && !closeTo("1", 1) && !closeTo(true, "true") && !closeTo(undefined, 1));
});

test("an id in a text gets its label once, and only where it says more than the id", () => {
  const labels = labelsOfInputs({
    DDIMSample: { inputs: { add_noise: { name: "添加噪声" }, variance_noise: { name: "反演" }, eta: { name: "eta" }, end_step: { name: "end step" } } },
    DDIMDemo: { inputs: { add_noise: { name: "another" } } },
  });
  assert.deepEqual(labels, { add_noise: "添加噪声" });
  assert.equal(withLabels("eta 0，关闭 add_noise。", labels), "eta 0，关闭 添加噪声 (add_noise)。");
  assert.equal(withLabels("添加噪声（add_noise）, add_noises, my_add_noise", labels), "添加噪声（add_noise）, add_noises, my_add_noise");
});

test("the preset that sets the most is the one that values are", () => {
  const known = [{ name: "a", inputs: { x: 1 } }, { name: "b", inputs: { x: 1, y: "v" } }, { name: "c", inputs: { x: 2 } }];
  const named = (values) => matching(known, (name) => values[name])?.name;
  assert.deepEqual([named({ x: 1, y: "v" }), named({ x: 1, y: "w" }), named({ x: 2 }), named({ x: 3 })], ["b", "a", "c", undefined]);
  const twins = [{ name: "a", inputs: { x: 1 } }, { name: "b", inputs: { x: 1 } }];
  assert.deepEqual(["", "b", "c"].map((chosen) => matching(twins, () => 1, chosen).name), ["a", "b", "a"]);
  assert.equal(matching(twins, () => 2, "b"), undefined);
});

test("an input has no effect if its condition is not met, and has if the value is not known", () => {
  const options = { ddim_applies: { method: ["ddim", "edict"] }, ddim_unless_linked: ["model"] };
  const why = (values, links = []) => withoutEffect(options, (name) => values[name], (name) => links.includes(name));
  assert.equal(why({ method: "ddim" }), null);
  assert.equal(why({}), null);
  assert.deepEqual(why({ method: "bdia" }), { kind: "other_value", input: "method", values: ["ddim", "edict"] });
  assert.deepEqual(why({ method: "bdia" }, ["model"]), { kind: "linked", input: "model", values: [] });
  assert.equal(withoutEffect({}, () => 1, () => true), null);
});
