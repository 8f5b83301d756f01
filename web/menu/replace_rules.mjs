// @ts-check
// How the settings of a stock sampler become those of DDIM KSampler. Tables only: uses no DOM, no graph, no formula.

/**
 * @typedef {object} Stock a stock sampler as it stands in a workflow
 * @property {string} type
 * @property {Record<string, any>} values values of its widgets; undefined where a link gives one that is not known before a run
 * @property {Feed | null} [sampler] the node on its input `sampler`
 * @property {Feed | null} [sigmas] the node on its input `sigmas`
 *
 * @typedef {{type: string, values: Record<string, any>, schedule?: boolean}} Feed `schedule`: it also gives a DDIM_SCHEDULE
 *
 * @typedef {object} Part a node to make
 * @property {Record<string, any>} values values of its widgets
 * @property {Record<string, string>} from its inputs, by the input of the stock node whose value and link each gets
 * @property {Record<string, string>} [fromSigmas] the same, by the input of the node on `sigmas`
 *
 * @typedef {object} Plan
 * @property {Part | null} sample DDIM KSampler; null if the stock node stays, with a DDIM Sampler on its input `sampler`
 * @property {Part | null} schedule DDIM Schedule
 * @property {boolean} keepsSchedule whether DDIM KSampler takes the DDIM_SCHEDULE of the node on `sigmas`
 * @property {Record<string, any>} sampler values of DDIM Sampler
 * @property {Record<number, number>} outputs outputs of DDIM KSampler, by those of the stock node
 * @property {{input: string, value: any, because: any}[]} chosen values that stand for a setting of the stock node
 * @property {[string, any][]} dropped settings that DDIM has not
 */

/** The spacing that visits the same timesteps as a scheduler of ComfyUI, or nearly so. Any other one becomes trailing. */
const SPACINGS = { ddim_uniform: "leading", normal: "linspace", simple: "trailing", sgm_uniform: "trailing" };
const ALIGNED = { SD1: "ays", SDXL: "ays_sdxl" };
const spacingOf = (scheduler) => SPACINGS[scheduler] ?? "trailing";

const WIRES = { model: "model", positive: "positive", negative: "negative", latent_image: "latent_image" };
const LENGTH = { steps: "steps", denoise: "denoise" };

/** Nodes that give SIGMAS of which a DDIM run has an equal: what it takes over, and which spacing. */
const SIGMAS = {
  BasicScheduler: { from: LENGTH, because: "scheduler", spacing: ({ scheduler }) => spacingOf(scheduler) },
  SDTurboScheduler: { from: LENGTH },
  AlignYourStepsScheduler: { from: LENGTH, because: "model_type", spacing: ({ model_type: type }) => ALIGNED[type] ?? "trailing" },
  BetaSamplingScheduler: { from: { steps: "steps" } },
  KarrasScheduler: { from: { steps: "steps" } },
  ExponentialScheduler: { from: { steps: "steps" } },
  PolyexponentialScheduler: { from: { steps: "steps" } },
  LaplaceScheduler: { from: { steps: "steps" } },
  VPScheduler: { from: { steps: "steps" } },
};

/** Nodes whose only use may have been a sampler that is gone; without another use they go too. */
export const FEEDS = new Set(["KSamplerSelect", "SamplerEulerAncestral", ...Object.keys(SIGMAS)]);

const STOCK = { KSampler: planOfKSampler, KSamplerAdvanced: planOfKSamplerAdvanced, SamplerCustom: planOfSamplerCustom };

/** Whether a node of this type can be replaced. */
export const isReplaceable = (type) => Object.hasOwn(STOCK, type);

/** @param {Stock} stock @returns {Plan} */
export const planOf = (stock) => ({ schedule: null, keepsSchedule: false, sampler: {}, outputs: { 0: 0 }, ...STOCK[stock.type](stock) });

/** eta of a sampler of ComfyUI: the ancestral ones and ddpm add noise at each step as DDIM does at eta 1. */
const etaOf = (sampler) => (/_ancestral|^ddpm$/.test(sampler ?? "") ? 1 : 0);

function planOfKSampler({ values }) {
  const { sampler_name: sampler, scheduler } = values;
  const [eta, spacing] = [etaOf(sampler), spacingOf(scheduler)];
  return {
    sample: { values: { eta, timestep_spacing: spacing, ...after(values) }, from: { ...WIRES, seed: "seed", cfg: "cfg", ...LENGTH } },
    chosen: [{ input: "timestep_spacing", value: spacing, because: scheduler }, { input: "eta", value: eta, because: sampler }],
    dropped: [["sampler_name", sampler], ["scheduler", scheduler]],
  };
}

function planOfKSamplerAdvanced({ values }) {
  const { sampler_name: sampler, scheduler, add_noise: noise, return_with_leftover_noise: leftover } = values;
  const [eta, spacing, addNoise] = [etaOf(sampler), spacingOf(scheduler), noise !== "disable"];
  // Without leftover noise, KSampler's last step goes all the way to a clean picture: the one that DDIM KSampler predicts there.
  const clean = leftover === "disable" && !(values.end_at_step >= values.steps);
  return {
    sample: { values: { eta, add_noise: addNoise, ...after(values) }, from: { ...WIRES, noise_seed: "seed", cfg: "cfg" } },
    schedule: {
      values: { timestep_spacing: spacing },
      from: { model: "model", steps: "steps", start_at_step: "start_step", end_at_step: "end_step" },
    },
    outputs: { 0: clean ? 1 : 0 },
    chosen: [{ input: "timestep_spacing", value: spacing, because: scheduler }, { input: "eta", value: eta, because: sampler },
      { input: "add_noise", value: addNoise, because: noise }],
    dropped: [["sampler_name", sampler], ["scheduler", scheduler]],
  };
}

function planOfSamplerCustom({ values, sampler, sigmas }) {
  const name = sampler?.values.sampler_name ?? sampler?.type;
  const eta = sampler?.values.eta ?? etaOf(name);
  const chosen = [{ input: "eta", value: eta, because: name ?? "–" }];
  const known = SIGMAS[sigmas?.type ?? ""];
  if (!known && !sigmas?.schedule) return { sample: null, sampler: { eta }, chosen, dropped: [["sampler", name]] };
  const part = { values: { eta, ...after(values) }, from: { ...WIRES, noise_seed: "seed", cfg: "cfg", add_noise: "add_noise" } };
  const plan = { outputs: { 0: 0, 1: 1 }, dropped: [["sampler", name]] };
  if (!known) return { ...plan, sample: part, keepsSchedule: true, chosen };
  const spacing = known.spacing?.(sigmas.values) ?? "trailing";
  const because = sigmas.values[known.because] ?? sigmas.type;
  return {
    ...plan,
    sample: { ...part, values: { ...part.values, timestep_spacing: spacing }, fromSigmas: known.from },
    chosen: [{ input: "timestep_spacing", value: spacing, because }, ...chosen],
    dropped: [...plan.dropped, ["sigmas", sigmas.type]],
  };
}

/** What becomes of the seed after a run. */
const after = ({ control_after_generate: control }) => (control === undefined ? {} : { control_after_generate: control });
