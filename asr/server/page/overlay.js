/**
 * Captions alone, without controls: /overlay?lines=2&size=48&background=transparent. For OBS, a stage, a second screen.
 *
 * It listens as soon as it is opened; a browser that wants a click first gets one anywhere.
 */

import { Microphone, MicrophoneError } from "./microphone.js";
import { asInt16 } from "./recordings.js";
import { Session } from "./session.js";

const SAMPLE_RATE = 16_000;
const WORDS_KEPT = 120; // far more than any number of lines shows
const query = new URLSearchParams(location.search);
const words = document.getElementById("words");
const notice = document.getElementById("notice");
let said = []; // final words
let clearing = 0;

/** What the address asks for, with what is allowed. */
function style(name, value, allowed) {
  if (value !== null && allowed.test(value)) document.documentElement.style.setProperty(name, value);
}

function number(name, least, most) {
  const value = Number(query.get(name));
  return query.has(name) && value >= least && value <= most ? value : null;
}

const colour = /^(#[0-9a-f]{3,8}|[a-z]+|rgba?\([0-9., %/]+\))$/i;
style("--ink", query.get("color"), colour);
style("--ground", query.get("background"), colour);
style("--align", query.get("align"), /^(left|center|right)$/);
const size = number("size", 8, 400);
if (size !== null) style("--size", `${size}px`, /./);
const lines = number("lines", 1, 20);
if (lines !== null) style("--lines", `${Math.round(lines)}`, /./);
const clearSeconds = number("clear", 0, 3_600) ?? 6;

function tell(text) {
  notice.textContent = text;
  notice.hidden = !text;
}

function show(open, committed) {
  const spans = [...said.map((word) => [word, false]), ...open.map((word, k) => [word, k >= committed])].slice(-WORDS_KEPT);
  words.replaceChildren(
    ...spans.flatMap(([word, isOpen]) => {
      const span = document.createElement("span");
      span.textContent = word;
      if (isOpen) span.className = "open";
      return [span, " "];
    }),
  );
}

function hear(result) {
  const texts = result.words.map(({ word }) => word);
  if (texts.length === 0 && !result.final) return;
  clearTimeout(clearing);
  if (result.final) {
    said = [...said, ...texts].slice(-WORDS_KEPT);
    show([], 0);
  } else {
    show(texts, result.committed);
  }
  if (clearSeconds > 0) {
    clearing = setTimeout(() => {
      said = [];
      show([], 0);
    }, 1_000 * clearSeconds);
  }
}

async function listen() {
  let session = null;
  const early = [];
  const samples = (block) => (session ? session.send(asInt16(block)) : early.push(block));
  const device = query.get("source") === "tab" ? "tab" : (query.get("device") ?? "");
  await Microphone.open(device, SAMPLE_RATE, samples, () => tell("The sound has ended."));
  tell("");
  session = new Session({
    sampleRate: SAMPLE_RATE,
    key: () => query.get("api_key") ?? "",
    live: true,
    onResult: hear,
    onState(state, detail) {
      if (state === "ready") tell("");
      else if (state === "locked") tell("The server wants a key: add &api_key=… to the address.");
      else if (state === "failed") tell(detail.reason);
    },
  });
  early.splice(0).forEach(samples);
}

async function start() {
  try {
    await listen();
  } catch (error) {
    if (!(error instanceof MicrophoneError)) throw error;
    tell(`${error.message} Click to try again.`);
    addEventListener("click", start, { once: true });
  }
}

if (query.get("source") === "tab") {
  tell("Click, then choose the tab and share its sound."); // browsers ask for a click
  addEventListener("click", start, { once: true });
} else {
  start();
}
