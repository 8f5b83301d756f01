// @ts-check
// The live previews of a run that goes on, reduced, as a film.

const MAX_FRAMES = 48;
const MAX_SIDE = 192;

export class LiveFilm {
  constructor() {
    /** @type {{step: number, bitmap: ImageBitmap}[]} */
    this.frames = [];
    this.done = 0; // steps, as the progress of the node says
    this.total = 0;
    this.seen = 0; // previews
  }

  /** Keep a reduced preview; if there are too many, drop every other one. */
  async keep(blob) {
    this.seen += 1;
    const step = Math.max(this.seen, this.done);
    const whole = await createImageBitmap(blob);
    const shrink = Math.min(1, MAX_SIDE / Math.max(whole.width, whole.height));
    const side = (length) => Math.max(1, Math.round(length * shrink));
    const bitmap = shrink < 1 ? await createImageBitmap(whole, { resizeWidth: side(whole.width), resizeHeight: side(whole.height) }) : whole;
    this.frames.push({ step, bitmap });
    this.frames.sort((a, b) => a.step - b.step);
    if (this.frames.length > MAX_FRAMES) {
      this.frames = this.frames.filter((_, i) => i % 2 === 0 || i === this.frames.length - 1);
    }
  }

  /**
   * @param {(step: number, steps: number) => string} caption
   * @param {Record<string, any>} [more] of the film
   * @returns {import("./film_view.mjs").Film}
   */
  film(caption, more = {}) {
    const { frames } = this;
    const { width, height } = frames[0].bitmap;
    return {
      count: frames.length,
      width,
      height,
      paint: (context, index) => {
        context.drawImage(frames[index].bitmap, 0, 0, width, height);
      },
      caption: (index) => caption(frames[index].step, this.total || this.seen),
      ...more,
    };
  }
}
