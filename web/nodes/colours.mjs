// @ts-check
// Colours of the pack's own socket types, for sockets and wires, in both renderers.

import { app } from "../comfy.mjs";

/** By type. Bright enough for the dark palettes, dark enough for the light ones, and unlike those of the editor's types. */
export const COLOURS = { DDIM_SCHEDULE: "#1fb59a", VARIANCE_NOISE: "#c9803f", DDIM_STEPS: "#7b8cf0" };

/** Give the types their colours. Call it once, when the canvas is there. */
export function colourSockets() {
  const names = Object.entries(COLOURS).map(([type, colour]) => `--color-datatype-${type}: ${colour};`);
  const sheet = new CSSStyleSheet(); // Nodes 2.0 reads these names
  sheet.replaceSync(`:root { ${names.join(" ")} }`);
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  keepIn(app.canvas?.default_connection_color_byType);
  keepIn(globalThis.LGraphCanvas?.link_type_colors ?? app.canvas?.constructor?.link_type_colors);
}

/** Each change of the palette clears the colours of types that it does not know; one that knows them overrides these. */
function keepIn(table) {
  if (!table) return;
  for (const [type, colour] of Object.entries(COLOURS)) {
    let own = table[type];
    Object.defineProperty(table, type, { configurable: true, enumerable: true, get: () => own || colour, set: (given) => { own = given; } });
  }
}
