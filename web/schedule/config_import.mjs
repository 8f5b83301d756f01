// @ts-check
// A scheduler_config.json dropped on the canvas creates a DDIM Schedule from Config; dropped on a schedule node, it fills
// that node. The node shows how each key was interpreted; a message in the corner shows the counts.

import { offerFiles, postJson, toast } from "../comfy.mjs";
import { addNode, dropPosition } from "../common/graph.mjs";
import { isSchedulerConfig } from "./import_rows.mjs";
import { say } from "../common/text.mjs";
import { setWidgets, widgetOf } from "../common/widgets.mjs";

const CONFIG_NODE = "DDIMScheduleFromConfig";
const SCHEDULE_NODE = "DDIMSchedule";
const MAX_BYTES = 500000;

/** Return the file's text if it is a scheduler configuration, else null. @param {File} file */
async function configText(file) {
  const named = file?.name?.toLowerCase().endsWith(".json") || file?.type === "application/json";
  if (!named || file.size > MAX_BYTES) return null;
  const text = await file.text();
  try {
    return isSchedulerConfig(JSON.parse(text)) ? text : null;
  } catch {
    return null;
  }
}

/** Handle files dropped on the canvas or opened from the menu. */
export function handleDroppedConfigs() {
  offerFiles(async (file) => {
    const text = await configText(file);
    if (text === null) return false;
    const position = dropPosition();
    const answer = await interpret(text);
    if (answer.error) {
      showResult(answer, file.name);
      return true;
    }
    const node = addNode(CONFIG_NODE, position);
    if (!node) return false;
    fillConfigNode(node, answer, file.name, text);
    return true;
  });
}

/** Handle files dropped on a schedule node. */
export function attachConfigDrop(node) {
  const fill = { [CONFIG_NODE]: fillConfigNode, [SCHEDULE_NODE]: fillScheduleNode }[node.comfyClass];
  if (!fill) return;
  const over = node.onDragOver;
  node.onDragOver = function (event) {
    return over?.call(this, event) || [...(event.dataTransfer?.items ?? [])].some((item) => item.kind === "file");
  };
  const drop = node.onDragDrop;
  node.onDragDrop = async function (event) {
    for (const file of event.dataTransfer?.files ?? []) {
      const text = await configText(file);
      if (text === null) continue;
      fill(node, await interpret(text), file.name, text);
      return true;
    }
    return (await drop?.call(this, event)) ?? false;
  };
}

/** Ask what a config means. Nothing on a node changes before the answer: a config that cannot be used must not replace one that can. */
const interpret = (text) => postJson("/ddim/config", { text }).catch(unreachable);

function fillConfigNode(node, answer, fileName, text) {
  // The first choice of the file widget means: use the pasted text.
  const file = widgetOf(node, "file");
  if (!answer.error) setWidgets(node, { config: text, ...(file ? { file: file.options.values[0] } : {}) });
  showResult(answer, fileName);
}

function fillScheduleNode(node, answer, fileName) {
  if (answer.inputs && Object.keys(answer.inputs).length === 0) answer.error = say("import.flow"); // nothing to fill in
  if (!answer.error) setWidgets(node, answer.inputs);
  showResult(answer, fileName);
  if (!answer.error) node.ddimPlot?.keepImport(answer.config);
}

const unreachable = (error) => ({ error: say("plot.unreachable", { reason: String(error.message ?? error) }) });

function showResult({ error, config }, fileName) {
  if (error) return toast("error", say("import.refused", { file: fileName }), error);
  const count = (group) => Object.keys(config[group] ?? {}).length;
  return toast("success", say("import.done", { file: fileName }), say("import.counts",
    { used: count("used"), mapped: count("mapped"), ignored: count("ignored"), defaulted: count("defaulted") }));
}
