// @ts-check
// The sheet that a run leaves, as a film: the pictures of all steps in one image file, see nodes/editor/replay.py.

import { replaySheet } from "../comfy.mjs";
import { say } from "../common/text.mjs";
import { figure, snr } from "../common/words.mjs";

/**
 * Load a sheet.
 * @param {any} sheet as the node reports it
 * @param {Record<string, any>} [settings] with which the run was made
 * @returns {Promise<import("./film_view.mjs").Film>}
 */
export function filmOfSheet(sheet, settings) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(film(sheet, image, settings));
    image.onerror = reject;
    image.src = replaySheet(sheet.sheet);
  });
}

function film({ columns, width, height, frames, steps, images, of_images: ofImages, image_columns: imageColumns }, image, settings) {
  const rows = images && imageColumns ? Math.ceil(images / imageColumns) : 1;
  const some = images && ofImages > images ? say("replay.some", { images, of_images: ofImages }) : "";
  return {
    count: frames.length,
    width,
    height,
    pictureHeight: height / rows,
    about: some ? `${say("replay.predicted")}, ${some}` : say("replay.predicted"),
    settings,
    paint: (context, index) => {
      const [left, top] = [(index % columns) * width, Math.floor(index / columns) * height];
      context.drawImage(image, left, top, width, height, 0, 0, width, height);
    },
    caption: (index) => {
      const { step, t, alpha_bar: alphaBar, log_snr: logSnr } = frames[index];
      return say("replay.reading", { step, steps, t, alpha_bar: figure(alphaBar), snr: snr(logSnr, alphaBar) });
    },
  };
}
