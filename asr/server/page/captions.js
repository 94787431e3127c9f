/** Shows a transcript: finals as lines that stay, the open utterance beneath them. */

import { clock } from "./subtitles.js";

const UNSURE = 0.5; // confidence below which a word is marked
const NEAR_END_PIXELS = 160; // a reader this close to the end follows what comes

export class Captions {
  #finals = document.getElementById("finals"); // a live region: screen readers read what is added
  #partial = document.getElementById("partial");
  #welcome = document.getElementById("welcome");

  /** Adds a final utterance. */
  add(utterance) {
    this.#following(() => {
      this.#finals.append(line(utterance, utterance.words.length));
      this.#welcome.hidden = true;
    });
  }

  /** Shows the open utterance, or none. */
  showPartial(utterance) {
    this.#following(() => {
      this.#partial.replaceChildren(...(utterance ? line(utterance, utterance.committed).childNodes : []));
      if (utterance) this.#welcome.hidden = true;
    });
  }

  /** Shows another transcript. */
  show(transcript) {
    this.#finals.replaceChildren(...transcript.finals.map((final) => line(final, final.words.length)));
    this.showPartial(transcript.partial);
    this.#welcome.hidden = !transcript.empty;
  }

  #following(change) {
    const page = document.documentElement;
    const follow = page.scrollHeight - page.clientHeight - page.scrollTop < NEAR_END_PIXELS;
    change();
    if (follow) page.scrollTop = page.scrollHeight;
  }
}

function line(utterance, committed) {
  const row = element("p", "utterance");
  const time = element("time", "", clock(utterance.start));
  const text = element("span", "text");
  utterance.words.forEach((word, k) => {
    const kind = `${k < committed ? "" : "open"} ${word.confidence < UNSURE ? "unsure" : ""}`.trim();
    const shown = element("span", kind, word.word);
    if (word.confidence !== undefined) shown.title = `${Math.round(100 * word.confidence)} % sure`;
    text.append(k ? " " : "", shown);
  });
  row.append(time, " ", text);
  return row;
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}
