/** The level of the microphone: a short history of bars that runs from right to left. */

const QUIETEST_DB = -60;
const LOUDEST_DB = -6;
const BAR = 3; // CSS pixels
const GAP = 3;

export class Meter {
  #canvas = document.getElementById("level");
  #meter = document.getElementById("meter");
  #levels = []; // 0 to 1, the newest last
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  constructor() {
    new ResizeObserver(() => this.#draw()).observe(this.#canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    document.addEventListener("themechange", () => this.#draw());
  }

  /** Shows the level of a block of samples in [-1, 1]. */
  hear(samples) {
    if (samples.length === 0) return;
    let energy = 0;
    for (const sample of samples) energy += sample * sample;
    const decibels = 10 * Math.log10(energy / samples.length + 1e-12);
    const level = Math.min(1, Math.max(0, (decibels - QUIETEST_DB) / (LOUDEST_DB - QUIETEST_DB)));
    this.#levels.push(level ** 2); // so that speech stands out from the room
    this.#levels = this.#levels.slice(-512);
    const shown = Math.round(Math.min(0, Math.max(QUIETEST_DB, decibels)));
    this.#meter.setAttribute("aria-valuenow", shown);
    this.#meter.setAttribute("aria-valuetext", `${shown} decibels`);
    this.#draw();
  }

  /** Nothing is heard any more. */
  rest() {
    this.#levels = [];
    this.#meter.setAttribute("aria-valuenow", QUIETEST_DB);
    this.#meter.setAttribute("aria-valuetext", "off");
    this.#draw();
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const scale = window.devicePixelRatio;
    this.#canvas.width = width * scale;
    this.#canvas.height = height * scale;
    const pen = this.#canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(this.#canvas);
    const count = Math.floor((width + GAP) / (BAR + GAP));
    for (let k = 0; k < count; k++) {
      const level = this.#still.matches ? this.#steady(k / count) : this.#levels[this.#levels.length - count + k];
      const tall = Math.max(BAR, (level ?? 0) * height);
      pen.fillStyle = style.getPropertyValue(level ? "--accent" : "--line");
      pen.beginPath();
      pen.roundRect(k * (BAR + GAP), (height - tall) / 2, BAR, tall, BAR / 2);
      pen.fill();
    }
  }

  /** Without motion: a bar from the left, as long as the level is high. */
  #steady(place) {
    return place < (this.#levels.at(-1) ?? 0) ? 0.5 : 0;
  }
}
