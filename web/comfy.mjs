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

/** The sheet of a node's last run that was stopped, or null. */
export const stoppedReplay = (nodeId) => getJson(`/ddim/replay/of/${encodeURIComponent(nodeId)}`).catch(() => null);

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

/** Call `feature` when any run starts: `feature({promptId})`. */
export const onRunStart = (feature) =>
  api.addEventListener("execution_start", ({ detail }) => feature({ promptId: String(detail?.prompt_id ?? "") }));

/** Call `feature` when a node starts to run: `feature({nodeId})`. */
export const onNodeStart = (feature) =>
  api.addEventListener("executing", ({ detail }) => detail != null && feature({ nodeId: String(detail) }));

/** Call `feature` when a run was cancelled or failed. */
export function onRunStop(feature) {
  for (const name of ["execution_interrupted", "execution_error"]) api.addEventListener(name, () => feature());
}

/** Call `feature` with each prompt that the host has accepted: `feature({promptId, prompt})`. */
export function onPromptQueued(feature) {
  const queue = api.queuePrompt;
  api.queuePrompt = async function (...given) {
    const answer = await queue.apply(this, given);
    if (answer?.prompt_id) feature({ promptId: String(answer.prompt_id), prompt: given[1]?.output ?? {} });
    return answer;
  };
}

const PREVIEW = "$$canvas-image-preview"; // the editor's widget for pictures, drawn by the canvas

/** Take the editor's own live preview off a node that shows its pictures itself. @returns {boolean} whether there was one */
export function dropPreview(node) {
  const locator = !node.graph || node.graph === (app.rootGraph ?? app.graph) ? String(node.id) : `${node.graph.id}:${node.id}`;
  const had = Boolean(app.nodePreviewImages?.[locator] || node.imgs);
  const store = /** @type {any} */ (document.getElementById("vue-app"))?.__vue_app__?.config.globalProperties.$pinia?._s?.get("nodeOutput");
  store?.revokePreviewsByLocatorId?.(locator); // what Nodes 2.0 shows; older editors have no such function
  delete app.nodePreviewImages?.[locator];
  delete node.imgs;
  delete node.preview;
  const at = node.widgets?.findIndex(({ name }) => name === PREVIEW) ?? -1;
  if (at >= 0) {
    node.widgets[at].onRemove?.();
    node.widgets.splice(at, 1);
  }
  return had || at >= 0;
}

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
