/** Recordings: decoded here and streamed, so that words appear at once; what the browser cannot decode is uploaded. */

import { Resampler } from "./resampler.js";

const BLOCK_SECONDS = 1;
const BUFFERED_BYTES = 256 * 1024; // that may wait in the socket: more would only hide how far the server is
const LONGEST_DECODED_SECONDS = 1_200; // a browser decodes a file as a whole, into memory
const USUAL_RATE = 48_000;
const PROBE_MS = 5_000;

/** A recording that cannot be transcribed; the message says why. */
export class RecordingError extends Error {}

/**
 * The samples of a file, mono at a rate, or null if it is not for this browser to decode.
 * @returns {Promise<Int16Array | null>}
 */
export async function decoded(file, sampleRate) {
  if (!((await duration(file)) <= LONGEST_DECODED_SECONDS)) return null;
  let audio;
  try {
    const bytes = await file.arrayBuffer();
    // A browser resamples what it decodes, and that loses treble and lets it fold back: it must not have to.
    audio = await new OfflineAudioContext(1, 1, statedRate(bytes)).decodeAudioData(bytes);
  } catch {
    return null;
  }
  const mono = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    const samples = audio.getChannelData(channel);
    for (let k = 0; k < mono.length; k++) mono[k] += samples[k] / audio.numberOfChannels;
  }
  if (audio.sampleRate === sampleRate) return asInt16(mono);
  const resampler = new Resampler(audio.sampleRate, sampleRate);
  return asInt16(joined(resampler.push(mono), resampler.flush()));
}

/** Length of a file in seconds; NaN if this browser cannot play it. */
function duration(file) {
  const player = new Audio();
  const address = URL.createObjectURL(file);
  return new Promise((resolve) => {
    player.onloadedmetadata = () => resolve(player.duration);
    player.onerror = () => resolve(NaN);
    setTimeout(() => resolve(NaN), PROBE_MS);
    player.preload = "metadata";
    player.src = address;
  }).finally(() => {
    player.removeAttribute("src");
    URL.revokeObjectURL(address);
  });
}

/** The sample rate that a WAV or FLAC file states; for others one that loses nothing. */
function statedRate(bytes) {
  const view = new DataView(bytes, 0, Math.min(bytes.byteLength, 64));
  const text = (at, length) => String.fromCharCode(...new Uint8Array(bytes, at, length));
  let rate = 0;
  if (view.byteLength === 64 && text(0, 4) === "RIFF" && text(8, 8) === "WAVEfmt ") rate = view.getUint32(24, true);
  if (view.byteLength === 64 && text(0, 4) === "fLaC") rate = view.getUint32(18) >>> 12;
  return rate >= 8_000 && rate <= 96_000 ? rate : USUAL_RATE; // what every browser can do
}

function joined(one, other) {
  const both = new Float32Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

/** Gives samples to a session as fast as it takes them; `stopped` ends it early. */
export async function play(samples, sampleRate, session, stopped) {
  const block = BLOCK_SECONDS * sampleRate;
  for (let from = 0; from < samples.length && !stopped(); from += block) {
    session.send(samples.subarray(from, from + block));
    while (session.waitingSeconds * sampleRate * 2 > BUFFERED_BYTES && !stopped()) await pause(50);
  }
}

/**
 * Uploads a file to be transcribed as a whole.
 * @param {(share: number) => void} onProgress - of the upload, 0 to 1
 * @param {AbortSignal} signal
 * @returns {Promise<{text: string, words: object[], duration: number, warning: string}>}
 */
export function upload(file, key, onProgress, signal) {
  const form = new FormData();
  form.append("file", file);
  form.append("model", "whisper-1"); // a name that every server of this interface takes
  form.append("response_format", "verbose_json");
  form.append("timestamp_granularities[]", "word");
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not report the progress of an upload
    request.open("POST", new URL("v1/audio/transcriptions", document.baseURI));
    if (key) request.setRequestHeader("Authorization", `Bearer ${key}`);
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => onProgress(total ? loaded / total : 0);
    request.onload = () => {
      const warning = request.getResponseHeader("X-Rill-Warning") ?? "";
      if (request.status === 200) resolve({ ...request.response, warning: unnamed(warning, file.name) });
      else reject(new RecordingError(unnamed(request.response?.error?.message, file.name) ?? `status ${request.status}`));
    };
    request.onerror = () => reject(new RecordingError("The server cannot be reached. Try again when it is back."));
    request.onabort = () => resolve(null);
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** A message about a file without the file's name at its beginning. */
function unnamed(message, name) {
  const start = `${name.split(/\s+/).join(" ")}: `;
  return message?.startsWith(start) ? message.slice(start.length) : message;
}

/** Samples in [-1, 1] as 16-bit ones. */
export function asInt16(samples) {
  return Int16Array.from(samples, (sample) => Math.round(32_767 * Math.min(1, Math.max(-1, sample))));
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
