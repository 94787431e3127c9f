/** What has been said: the final utterances, and the one being spoken. Times in seconds. */

export class Transcript {
  finals = []; // {text, words: [{word, start, end, confidence}], start, end}
  partial = null; // {text, words, committed, start, end}
  seconds = 0; // of audio
  #offset = 0; // of the present recording's first sample

  /** A recording begins: its times follow what there is. */
  begin() {
    this.#offset = this.seconds;
  }

  /** The present recording lasts so long by now. */
  lasts(seconds) {
    this.seconds = this.#offset + seconds;
  }

  get empty() {
    return this.finals.length === 0 && this.partial === null;
  }

  /** Takes a result of the server; returns it with the transcript's times, or null if it says nothing. */
  hear(result) {
    const shift = (item) => ({ ...item, start: item.start + this.#offset, end: item.end + this.#offset });
    const shifted = { ...shift(result), words: result.words.map(shift) };
    const spoken = shifted.words.length > 0;
    this.partial = spoken && !result.final ? shifted : null;
    if (spoken && result.final) this.finals.push(shifted);
    return spoken ? shifted : null;
  }

  /** Makes the open utterance final, as it stands; returns it or null. */
  settle() {
    const settled = this.partial;
    this.partial = null;
    if (settled) this.finals.push({ ...settled, final: true, committed: settled.words.length });
    return settled && this.finals.at(-1);
  }

  /** Words of all utterances, the open one included. */
  get words() {
    return this.#utterances().flatMap(({ words }) => words);
  }

  /** A line an utterance. */
  get text() {
    return this.#utterances()
      .map(({ text }) => text)
      .join("\n");
  }

  #utterances() {
    return this.partial ? [...this.finals, this.partial] : this.finals;
  }
}
