// The rules by which stock samplers are replaced, and what differs between two runs. Run: node --test tests/web/
import assert from "node:assert/strict";
import { test } from "node:test";

import { isReplaceable, planOf } from "../../web/menu/replace_rules.mjs";
import { differences, settingsOf } from "../../web/replay/run_settings.mjs";

const ksampler = (sampler, scheduler) => planOf({ type: "KSampler", values: { sampler_name: sampler, scheduler } }).sample.values;
const custom = (sigmas, sampler = null) => planOf({ type: "SamplerCustom", values: {}, sampler, sigmas });

test("ancestral samplers and ddpm are eta 1, all others 0", () => {
  for (const name of ["euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", "ddpm"]) assert.equal(ksampler(name, "karras").eta, 1);
  for (const name of ["ddim", "euler", "dpmpp_2m_sde", undefined]) assert.equal(ksampler(name, "karras").eta, 0);
});

test("schedulers become the spacing that visits the same timesteps", () => {
  const spacings = ["ddim_uniform", "normal", "simple", "sgm_uniform", "beta", "new_one"].map((name) => ksampler("ddim", name).timestep_spacing);
  assert.deepEqual(spacings, ["leading", "linspace", "trailing", "trailing", "trailing", "trailing"]);
});

test("of nodes that give SIGMAS, steps and spacing are taken over; other SIGMAS keep the node", () => {
  const aligned = custom({ type: "AlignYourStepsScheduler", values: { model_type: "SDXL" } });
  assert.equal(aligned.sample.values.timestep_spacing, "ays_sdxl");
  assert.deepEqual(aligned.sample.fromSigmas, { steps: "steps", denoise: "denoise" });
  assert.deepEqual(custom({ type: "KarrasScheduler", values: {} }).sample.fromSigmas, { steps: "steps" });
  assert.equal(custom({ type: "DDIMSchedule", values: {}, schedule: true }).keepsSchedule, true);
  const kept = custom({ type: "SplitSigmas", values: {} }, { type: "SamplerEulerAncestral", values: { eta: 0.3 } });
  assert.equal(kept.sample, null);
  assert.deepEqual(kept.sampler, { eta: 0.3 });
  assert.equal(custom(null).sample, null);
});

test("a part of a run ends clean only where KSampler ends clean", () => {
  const output = (values) => planOf({ type: "KSamplerAdvanced", values }).outputs[0];
  assert.equal(output({ steps: 20, end_at_step: 10, return_with_leftover_noise: "disable" }), 1);
  assert.equal(output({ steps: 20, end_at_step: 10, return_with_leftover_noise: "enable" }), 0);
  assert.equal(output({ steps: 20, end_at_step: 10000, return_with_leftover_noise: "disable" }), 0);
});

test("only stock samplers are replaced", () => {
  assert.deepEqual(["KSampler", "DDIMSample", "toString", undefined].map(isReplaceable), [true, false, false, false]);
});

test("settings of a run are those of the node and of its schedule", () => {
  const prompt = { 1: { inputs: { steps: 8, eta: 9 } }, 2: { inputs: { schedule: ["1", 0], steps: 20, seed: 3, model: ["5", 0] } } };
  assert.deepEqual(settingsOf(prompt, "2"), { steps: 8, eta: 9, seed: 3 });
  assert.deepEqual(settingsOf({ 2: { inputs: { steps: 20 } } }, "2"), { steps: 20 });
  assert.equal(settingsOf(undefined, "2"), undefined);
});

test("differences are few, and none if a run is not known", () => {
  assert.deepEqual(differences({ seed: 1, cfg: 2 }, { seed: 5, cfg: 2 }), [{ name: "seed", before: 1, now: 5 }]);
  assert.deepEqual(differences(undefined, { seed: 5 }), []);
});
