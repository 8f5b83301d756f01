// @ts-check
// The live plot on the schedule nodes: what a run would do with the node's current values. The numbers come from the core,
// through a route of the pack. After a run, the node's own report replaces them; it includes what came from the MODEL, whose
// levels the plot keeps for as long as the same MODEL is connected.

import { postJson, setting } from "../comfy.mjs";
import { advice, row } from "../common/advice.mjs";
import { isLinked, linkedValue, linkId } from "../common/graph.mjs";
import { addPanel, chain, fitNode, remountPanels, widenNode } from "../common/node_panel.mjs";
import { messages, naturalHeight, panel } from "../common/panel.mjs";
import { say } from "../common/text.mjs";
import { labelOf, widgetOf } from "../common/widgets.mjs";
import { importReport } from "./import_report.mjs";
import { drawPlot } from "./plot_drawing.mjs";
import { presetMenu } from "./presets.mjs";

export const SCHEDULE_NODES = ["DDIMSchedule", "DDIMScheduleFromConfig"];
export const PLOT = "ddim_schedule_plot";
const PLOT_HEIGHT = 150;
const HINT_HEIGHT = 60;
const TEXT_HEIGHTS = [90, 160]; // of the box for a config: at least, at most
const TALLEST = 0.75; // of the width: the curves of a taller plot are hard to compare
const WIDTH = 340;
const POLL_INTERVAL = 120; // ms; undo, links and other extensions change values without calling a handler, so values are polled

/** @type {Set<Plot>} */
const plots = new Set();

class Plot {
  constructor(node) {
    this.node = node;
    this.asked = "";
    this.kept = null;
    this.current = null;
    this.busy = false;
    this.element = panel("plot", say("plot.title"));
    this.element.classList.add("ddim-blank"); // until there is a report
    this.drawing = drawPlot();
    this.report = null;
    this.levels = null; // of the MODEL: the link that they came through, and their name
    this.taken = null;
    this.below = document.createElement("div");
    this.below.addEventListener("toggle", () => this.fit(), true); // a table was expanded
    this.minHeight = waitsForConfig(node) ? HINT_HEIGHT : PLOT_HEIGHT + 70;
    this.presets = node.comfyClass === "DDIMSchedule" ? presetMenu(node) : null;
    if (this.presets) this.drawing.head.append(this.presets.select);
    this.element.append(this.drawing.head, this.drawing.figure, this.drawing.readout, this.below);
    this.widget = addPanel(node, PLOT, this.element, () => this.minHeight, () => this.maxHeight());
    widenNode(node, WIDTH);
    new ResizeObserver(() => {
      this.bound();
      this.drawing.draw(this.report, this.element.classList.contains("ddim-stale"));
    }).observe(this.drawing.figure);
  }

  /** Height at which the plot is as tall as it should ever be. */
  maxHeight() {
    const room = this.report ? Math.max(0, TALLEST * (this.node.size[0] - 40) - PLOT_HEIGHT) : 0;
    return Math.round(this.minHeight + room);
  }

  /** Nodes 2.0 would stretch the panel with the node. */
  bound() {
    this.element.style.maxHeight = this.report ? `${this.maxHeight() - 20}px` : "";
  }

  /** The widget values that the plot depends on, as JSON, so that unchanged values are not requested again. */
  question() {
    const inputs = {};
    for (const widget of this.node.widgets ?? []) {
      if (widget === this.widget || widget.serialize === false || widget.options?.serialize === false) continue;
      const { linked, value } = linkedValue(this.node, widget.name);
      inputs[widget.name] = linked && value !== undefined ? value : widget.value;
    }
    const known = this.levels && this.levels.link === linkId(this.node, "model");
    return JSON.stringify({ node: this.node.comfyClass, inputs, ...(known ? { model_levels: this.levels.name } : {}) });
  }

  async poll() {
    const shown = setting("DDIM.SchedulePlot", true);
    if (this.widget.hidden === shown) this.hide(!shown);
    if (!shown || this.busy || !this.element.isConnected) return;
    const question = this.question();
    if (question === this.asked) return;
    this.asked = question;
    this.presets?.update();
    if (waitsForConfig(this.node)) return this.show({ hint: say("import.hint") });
    this.busy = true;
    this.current = question;
    const answer = await postJson("/ddim/schedule", JSON.parse(question)).catch((error) =>
      ({ error: say("plot.unreachable", { reason: String(error.message ?? error) }) }));
    this.busy = false;
    if (this.current === question) this.show(answer); // otherwise a run has reported in the meantime
  }

  /** Show a run's report until a value is edited. */
  showRun(answer) {
    const name = answer.schedule.model_levels;
    this.levels = name ? { name, link: linkId(this.node, "model") } : null;
    this.asked = this.question();
    this.current = null;
    this.show(answer);
  }

  hide(hidden) {
    this.widget.hidden = hidden;
    this.widget.options.hidden = hidden;
    fitNode(this.node);
  }

  /** @param {{schedule?: any, config?: any, error?: string, hint?: string}} answer */
  show({ schedule, config, error, hint }) {
    const kept = this.kept?.question === this.asked ? this.kept.config : null;
    if (schedule) [this.report, this.taken] = [schedule, config ?? kept];
    this.element.classList.toggle("ddim-stale", Boolean(error ?? hint));
    this.element.classList.toggle("ddim-blank", !this.report);
    const rows = error ? [row("error", error)] : hint ? [row("note", hint)] : reportRows(this.report, this.node);
    this.below.replaceChildren(messages(rows), ...(this.taken && !error ? [importReport(this.taken)] : []));
    this.drawing.draw(this.report, Boolean(error ?? hint));
    this.fit();
  }

  /** Show an import report for as long as the values stay as the import set them. */
  keepImport(config) {
    this.kept = { config, question: this.question() };
    this.asked = "";
  }

  fit() {
    requestAnimationFrame(() => {
      if (!this.element.isConnected) return;
      const height = naturalHeight(this.element, this.report ? PLOT_HEIGHT : 0, this.drawing.figure);
      if (Math.abs(height - this.minHeight) < 2) return;
      this.minHeight = height;
      this.element.style.minHeight = `${height - 20}px`;
      this.bound();
      fitNode(this.node);
    });
  }
}

/** Whether the node has neither a text nor a file to read. */
function waitsForConfig(node) {
  const file = widgetOf(node, "file");
  return file !== undefined && file.value === file.options?.values?.[0] && !String(widgetOf(node, "config")?.value ?? "").trim()
    && !linkedValue(node, "config").linked;
}

/** Warnings, errors and notes of a report. @param {any} report see nodes/editor/payloads.py @param {any} node */
function reportRows(report, node) {
  const rows = [...report.warnings.map((each) => advice(each, "warning", node)), ...report.notes.map((each) => advice(each, "note", node))];
  const told = rows.some(({ level }) => level === "note");
  if (node.comfyClass === "DDIMSchedule" && isLinked(node, "model") && !told) rows.push(row("note", say("plot.model_linked")));
  return rows;
}

/** Let the box for a config show some lines, and leave further height to the plot. */
function boundText(node) {
  const widget = widgetOf(node, "config");
  if (!widget?.element) return;
  widget.element.placeholder = labelOf(node, "config");
  [widget.options.getMinHeight, widget.options.getMaxHeight] = TEXT_HEIGHTS.map((height) => () => height);
}

/** Put the plot on a schedule node. */
export function attachPlot(node) {
  if (!SCHEDULE_NODES.includes(node.comfyClass) || typeof node.addDOMWidget !== "function") return;
  boundText(node);
  const plot = new Plot(node);
  node.ddimPlot = plot; // not serialised: the editor saves only known fields
  plots.add(plot);
  chain(node, "onExecuted", (output) => showRun(node, output));
  chain(node, "onRemoved", () => plots.delete(plot));
  chain(node, "onAdded", () => plots.add(plot));
}

/** Show a run's report. */
export function showRun(node, output) {
  const schedule = output?.ddim_schedule?.[0];
  if (!schedule || !node.ddimPlot) return;
  node.ddimPlot.showRun({ schedule, config: output.ddim_config?.[0] ?? null });
}

/** Start the timer that updates all plots. */
export function startPlots() {
  setInterval(() => {
    if (document.hidden) return;
    remountPanels();
    plots.forEach((plot) => plot.poll());
  }, POLL_INTERVAL);
}
