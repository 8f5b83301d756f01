// @ts-check
// The settings with which a node ran, from the prompt, and how two runs differ. Uses no state and no DOM.

const PLANNED_ELSEWHERE = new Set(["steps", "timestep_spacing", "denoise"]); // of no use if a schedule is connected
const SHOWN = 4; // differences that a caption has room for

const isLink = (value) => Array.isArray(value);
const values = (node) => Object.fromEntries(Object.entries(node?.inputs ?? {}).filter(([, value]) => !isLink(value)));

/**
 * The values of a node's inputs, and those of the schedule that it is linked to.
 * @param {Record<string, {inputs: Record<string, any>}> | undefined} prompt
 * @param {string} nodeId
 */
export function settingsOf(prompt, nodeId) {
  const node = prompt?.[nodeId];
  if (!node) return undefined;
  const schedule = node.inputs.schedule;
  if (!isLink(schedule)) return values(node);
  const own = Object.entries(values(node)).filter(([name]) => !PLANNED_ELSEWHERE.has(name));
  return { ...values(prompt[schedule[0]]), ...Object.fromEntries(own) };
}

/** What differs between two runs, the first few. @returns {{name: string, before: any, now: any}[]} */
export function differences(before, now) {
  const names = Object.keys(now ?? {}).filter((name) => before && name in before && String(before[name]) !== String(now[name]));
  return names.slice(0, SHOWN).map((name) => ({ name, before: before[name], now: now[name] }));
}
