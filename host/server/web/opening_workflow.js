// @ts-check
// The frontend opens an empty editor on a graph of its own whose nodes and models this host does not have.
// It asks for that graph by calling loadGraphData without a graph; here it gets the host's example in its place.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

/** @returns {Promise<object | undefined>} the host's example, or undefined where it has none */
async function openingWorkflow() {
  const response = await api.fetchApi("/internal/opening_workflow");
  return response.ok ? response.json() : undefined;
}

app.registerExtension({
  name: "host.openingWorkflow",
  async setup() {
    const loadGraphData = app.loadGraphData;
    app.loadGraphData = async function (graph, ...rest) {
      return loadGraphData.call(this, graph ?? (await openingWorkflow()), ...rest);
    };
  },
});
