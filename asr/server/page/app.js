/** The page: joins the microphone and recordings to a session, and a session to what is shown. */

import { Captions } from "./captions.js";
import { KeyDialog } from "./key.js";
import { Loudness } from "./loudness.js";
import { Meter } from "./meter.js";
import { Microphone, MicrophoneError, TAB, microphones, tabsCanBeHeard } from "./microphone.js";
import { RecordingError, asInt16, decoded, play, upload } from "./recordings.js";
import { Session } from "./session.js";
import { asSrt, asVtt, clock } from "./subtitles.js";
import { Transcript } from "./transcript.js";

const SAMPLE_RATE = 16_000;
const DELAYS_KEPT = 9;
const BEHIND_SECONDS = 2; // of audio that waits to be sent, before it is worth telling

const $ = (id) => document.getElementById(id);
const captions = new Captions();
const meter = new Meter();
const keys = new KeyDialog();
let transcript = new Transcript();
let work = null; // what is going on: {kind: "microphone" | "recording", session, microphone, stop(), ...}

/* What is shown about it */

function showState(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
}

function showButton(state) {
  const labels = {
    idle: "Start listening", starting: "Cancel", listening: "Stop listening", finishing: "Stop without waiting",
    recording: "Stop transcribing",
  };
  $("record").dataset.state = state;
  $("record").setAttribute("aria-label", labels[state]);
  $("choose").disabled = state !== "idle";
}

function notify(text, action = "", onAction = null) {
  $("notice-text").textContent = text;
  $("notice-action").textContent = action;
  $("notice-action").hidden = !action;
  $("notice-action").onclick = () => {
    $("notice").hidden = true;
    onAction();
  };
  $("notice").hidden = !text;
}

function showTools() {
  for (const button of document.querySelectorAll(".tools button")) button.disabled = transcript.empty;
}

function showDelay(delays) {
  const sorted = [...delays].sort((one, other) => one - other);
  const median = sorted[Math.floor(sorted.length / 2)];
  $("delay").textContent = sorted.length ? `${Math.max(0, median).toFixed(1)} s behind your voice` : "";
}

/* Results */

function hear(result) {
  const before = transcript.partial?.words.length ?? 0;
  const utterance = transcript.hear(result);
  if (result.final && utterance) captions.add(utterance);
  captions.showPartial(transcript.partial);
  showTools();
  if (work && utterance) work.wordless = false;
  if (work?.kind === "microphone" && !result.final && result.words.length > before) {
    work.delays = [...work.delays, work.now() - result.end].slice(-DELAYS_KEPT);
    showDelay(work.delays);
  }
  if (work?.kind === "recording" && result.words.length > 0) work.reached(result.end);
}

function settle() {
  const utterance = transcript.settle();
  if (utterance) captions.add(utterance);
  captions.showPartial(null);
  showTools();
}

function startSession(kind, texts) {
  const session = new Session({
    sampleRate: SAMPLE_RATE,
    key: () => keys.value,
    live: kind === "microphone",
    onResult: hear,
    onState(state, detail) {
      if (state === "connecting") {
        if ($("state").dataset.state !== "waiting") showState("working", "Connecting…");
      } else if (state === "ready") {
        if (work?.interrupted) notify("");
        if (work) work.interrupted = false;
        $("model").textContent = detail.model ?? "";
        showState(texts.state, texts.ready);
      } else if (state === "waiting") {
        const seconds = Math.max(1, Math.round(detail.milliseconds / 1_000));
        showState("waiting", `Trying again in ${seconds} s`);
        if (work && !work.interrupted) {
          work.interrupted = true;
          const reason = detail.reason || "The server cannot be reached";
          notify(`${sentence(reason)} ${texts.kept}`);
        }
      } else if (state === "locked") {
        showState("waiting", "The server wants a key");
        keys.ask().then((given) => (given ? session.retry() : work?.stop(true)));
      } else if (state === "failed") {
        notify(sentence(detail.reason));
        work?.stop(true);
      } else if (state === "lost") {
        notify("The server has been away for so long that the oldest audio could not be kept.");
      }
    },
  });
  return session;
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

/* Microphone */

async function listen() {
  notify("");
  transcript.begin();
  let lastBlock = performance.now();
  const present = {
    kind: "microphone",
    delays: [],
    loudness: new Loudness(),
    wordless: true,
    now: () => present.session.seconds + (performance.now() - lastBlock) / 1_000,
    stop: (abandon) => stopListening(present, abandon),
  };
  work = present;
  showButton("starting");
  showState("working", "Asking for the microphone…");
  present.hear = (samples) => {
    lastBlock = performance.now();
    meter.hear(samples);
    const integers = asInt16(samples);
    present.loudness.add(integers);
    present.session.send(integers);
    transcript.lasts(present.session.seconds);
    $("clock").textContent = clock(present.session.seconds);
    const waiting = present.session.waitingSeconds;
    if (waiting > BEHIND_SECONDS && $("state").dataset.state === "listening") {
      $("delay").textContent = `${waiting.toFixed(0)} s wait to be sent`;
    }
  };
  if (!(await openMicrophone(present))) return;
  if (present.stopping) return stopListening(present, true);
  $("clock").textContent = "0:00";
  showDelay([]);
  showButton("listening");
  present.session = startSession("microphone", {
    state: "listening",
    ready: "Listening",
    kept: "Go on speaking: what you say is kept here and written down when the server is back.",
  });
  present.wake = await navigator.wakeLock?.request("screen").catch(() => null);
}

async function openMicrophone(present) {
  const early = []; // audio that comes before there is a session
  try {
    present.microphone = await Microphone.open(
      $("device").value,
      SAMPLE_RATE,
      (samples) => {
        if (!present.session) return early.push(samples);
        early.splice(0).forEach(present.hear);
        present.hear(samples);
      },
      () => {
        notify("The microphone was unplugged or taken away. What was said until then is written down.");
        stopListening(present);
      },
    );
  } catch (error) {
    if (!(error instanceof MicrophoneError)) throw error;
    idle();
    notify(error.message);
    return false;
  }
  await listDevices();
  return true;
}

async function stopListening(present, abandon = false) {
  if (work !== present) return;
  if (present.stopping || abandon) {
    present.stopping = true;
    present.session?.abandon();
    await present.microphone?.close();
    if (present.microphone) settle(), idle();
    return;
  }
  present.stopping = true;
  if (!present.session) return; // the microphone is still being asked for
  showButton("finishing");
  await present.microphone.close();
  meter.rest();
  if ($("state").dataset.state === "listening") showState("working", "Writing the last words…");
  await present.session.finish();
  if (work !== present) return;
  settle();
  idle();
  tellWordless(present, present.session.seconds);
}

/** Says so if no words came of audio that was recognised to its end. */
function tellWordless(present, seconds, name = "") {
  if (present.wordless && seconds > 0) notify(`${name}${present.loudness.withoutWords(seconds)}`);
}

/* Recordings */

async function transcribe(file) {
  if (work) return;
  notify("");
  const stopping = new AbortController();
  const present = {
    kind: "recording",
    loudness: new Loudness(),
    wordless: true,
    stop() {
      stopping.abort();
      present.session?.abandon();
    },
    reached: (seconds) => ($("progress").value = Math.min(1, seconds / present.seconds)),
  };
  work = present;
  showButton("recording");
  showState("working", `Reading ${file.name}`);
  setAside();
  $("meter").hidden = true;
  $("progress").hidden = false;
  $("progress").removeAttribute("value");
  try {
    const samples = await decoded(file, SAMPLE_RATE);
    if (!stopping.signal.aborted) {
      await (samples ? streamed(file, samples, present, stopping.signal) : uploaded(file, present, stopping.signal));
    }
  } catch (error) {
    if (!(error instanceof RecordingError)) throw error;
    notify(`${file.name}: ${error.message}`);
  }
  settle();
  idle();
}

async function streamed(file, samples, present, signal) {
  present.seconds = samples.length / SAMPLE_RATE;
  transcript.lasts(present.seconds);
  $("clock").textContent = clock(present.seconds);
  $("progress").value = 0;
  present.session = startSession("recording", {
    state: "working",
    ready: `Transcribing ${file.name}`,
    kept: "The rest is transcribed when the server is back.",
  });
  present.loudness.add(samples);
  await play(samples, SAMPLE_RATE, present.session, () => signal.aborted);
  await present.session.finish();
  if (!signal.aborted) tellWordless(present, present.seconds, `${file.name}: `);
}

async function uploaded(file, present, signal) {
  const result = await upload(file, keys.value, (share) => {
    if (share < 1) $("progress").value = share;
    else $("progress").removeAttribute("value"); // the server works; how far it is it does not tell
    showState("working", share < 1 ? `Uploading ${file.name}` : `Transcribing ${file.name}`);
  }, signal);
  if (!result) return;
  present.seconds = result.duration;
  transcript.lasts(result.duration);
  $("clock").textContent = clock(result.duration);
  hear({ text: result.text, words: result.words ?? [], start: 0, end: result.duration, final: true });
  if (result.warning) notify(`${file.name}: ${result.warning}`);
}

/* Transcript */

function setAside() {
  const former = transcript;
  transcript = new Transcript();
  captions.show(transcript);
  showTools();
  if (former.empty) return;
  notify("The captions were put away.", "Bring them back", () => {
    if (work) work.stop(true);
    transcript = former;
    captions.show(transcript);
    showTools();
  });
}

function download(format) {
  const make = {
    txt: () => `${transcript.text}\n`,
    srt: () => asSrt(transcript.words, transcript.seconds),
    vtt: () => asVtt(transcript.words, transcript.seconds),
  };
  const type = { txt: "text/plain", srt: "application/x-subrip", vtt: "text/vtt" }[format];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([make[format]()], { type: `${type};charset=utf-8` }));
  link.download = `captions.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function copy() {
  try {
    await navigator.clipboard.writeText(transcript.text);
    $("copy").textContent = "Copied";
  } catch {
    $("copy").textContent = "Not allowed";
  }
  setTimeout(() => ($("copy").textContent = "Copy"), 1_500);
}

/* The rest */

function idle() {
  work?.wake?.release();
  work = null;
  showButton("idle");
  showState("idle", "Ready");
  meter.rest();
  $("meter").hidden = false;
  $("progress").hidden = true;
}

async function listDevices() {
  const chosen = $("device").value;
  const named = (await microphones()).filter(({ deviceId, label }) => label && deviceId !== "default");
  const options = named.map(({ deviceId, label }) => new Option(label, deviceId));
  if (tabsCanBeHeard()) options.push(new Option("Sound of a tab", TAB));
  $("device").replaceChildren(new Option("Default microphone", ""), ...options);
  if (chosen === TAB || named.some(({ deviceId }) => deviceId === chosen)) $("device").value = chosen;
}

async function changeDevice() {
  const present = work;
  if (present?.kind !== "microphone" || !present.microphone || present.stopping) return;
  await present.microphone.close();
  if (work === present && !(await openMicrophone(present))) present.session.abandon(), settle();
}

function acceptDrops() {
  let inside = 0;
  const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
  const show = (change) => {
    inside = Math.max(0, inside + change);
    $("drop").hidden = inside === 0;
  };
  addEventListener("dragenter", (event) => carriesFile(event) && show(1));
  addEventListener("dragleave", (event) => carriesFile(event) && show(-1));
  addEventListener("dragover", (event) => carriesFile(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    show(-inside);
    const [file, ...more] = event.dataTransfer.files;
    if (work) notify("Stop what is going on first, then drop the recording again.");
    else if (more.length > 0) notify("One recording at a time, please.");
    else if (file) transcribe(file);
  });
}

$("record").addEventListener("click", () => (work ? work.stop() : listen()));
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  target.value = "";
  if (file) transcribe(file);
});
$("device").addEventListener("change", changeDevice);
$("copy").addEventListener("click", copy);
$("clear").addEventListener("click", setAside);
$("notice-close").addEventListener("click", () => notify(""));
for (const button of document.querySelectorAll("[data-format]")) {
  button.addEventListener("click", () => download(button.dataset.format));
}
navigator.mediaDevices?.addEventListener("devicechange", listDevices);
acceptDrops();
listDevices();
