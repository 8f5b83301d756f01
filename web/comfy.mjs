// @ts-check
// The only file that imports the editor's scripts: the editor itself, requests, settings, messages, events of runs.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

/** The editor. */
export { app };

/** Register the extension that ddim.js declares. */
export const registerExtension = (extension) => app.registerExtension(extension);

/** @returns {string} the language chosen in the editor's settings, e.g. "zh" */
export const locale = () => app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";

/** @param {string} id @param {any} fallback */
export const setting = (id, fallback) => app.extensionManager?.setting?.get(id) ?? fallback;

/** Show a message in the corner of the window. @param {"info"|"warn"|"error"|"success"} severity */
export const toast = (severity, summary, detail) =>
  app.extensionManager?.toast?.add({ severity, summary, detail, life: severity === "error" ? 10000 : 6000 });

/** GET a route of the host as JSON. */
export async function getJson(path) {
  const answer = await api.fetchApi(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

/** POST JSON to a route of the pack. Errors that the pack reports are returned as `{error}`. */
export async function postJson(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const answer = await api.fetchApi(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  const given = await answer.json().catch(() => null);
  if (given === null || (!answer.ok && !given.error)) throw new Error(`${path}: ${answer.status}`);
  return given;
}

/** Address of the sheet of a step replay, which may still be in the making. */
export const replaySheet = (name) => api.apiURL(`/ddim/replay/${encodeURIComponent(name)}`);

/** Call `feature` with the live previews of running nodes: `feature({nodeId, blob})`. */
export function onPreview(feature) {
  api.addEventListener("b_preview_with_metadata", ({ detail }) =>
    feature({ nodeId: String(detail.displayNodeId ?? detail.nodeId), blob: detail.blob }));
}

/** Call `feature` with the progress of running nodes: `feature({nodeId, value, total})`. */
export function onProgress(feature) {
  api.addEventListener("progress", ({ detail }) =>
    feature({ nodeId: String(detail.node ?? ""), value: detail.value, total: detail.max }));
}

/** Call `feature` when any run starts. */
export const onRunStart = (feature) => api.addEventListener("execution_start", feature);

/**
 * Offer every file that the editor is about to open to `take(file)`. If it returns false, the editor opens the file.
 * @param {(file: File) => Promise<boolean>} take
 */
export function offerFiles(take) {
  const open = app.handleFile;
  app.handleFile = async function (...given) {
    if (await take(given[0])) return undefined;
    return open.apply(this, given);
  };
}
