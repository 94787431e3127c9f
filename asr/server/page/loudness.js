/** Peak and mean level of audio, for recordings without words. */

export class Loudness {
  #peak = 0;
  #energy = 0;
  #count = 0;

  /** Measures more 16-bit samples. */
  add(samples) {
    for (const sample of samples) {
      const value = sample / 32_768;
      this.#peak = Math.max(this.#peak, Math.abs(value));
      this.#energy += value * value;
    }
    this.#count += samples.length;
  }

  /** What to tell about audio of this length in which no words were recognised. */
  withoutWords(seconds) {
    const peak = decibels(this.#peak);
    const mean = decibels(Math.sqrt(this.#energy / Math.max(1, this.#count)));
    const level = this.#peak ? `peak ${peak} dBFS, mean ${mean} dBFS` : "digital silence";
    return `No words were recognised in ${seconds.toFixed(1)} s of audio (${level}).`;
  }
}

function decibels(share) {
  return Math.round(20 * Math.log10(share));
}
