/** Documents made of words with times, by the same rules as `asr transcribe --format srt` and `vtt`. */

const LINE_CHARACTERS = 42;
const CUE_LINES = 2;
const CUE_SECONDS = 6;
const CUE_LEAST_SECONDS = 1; // shortest time that a subtitle is shown, where the next one leaves room
const PAUSE_SECONDS = 0.8; // a longer silence separates two subtitles
const ABBREVIATIONS = ["Mr.", "Mrs.", "Dr.", "a.m.", "p.m."]; // whose full stop may end no sentence

/** SubRip, of words in a recording of this length. */
export function asSrt(words, seconds) {
  return cues(words)
    .map((cue, k, all) => `${k + 1}\n${times(cue, limit(all, k, seconds), ",")}\n${lines(cue).join("\n")}\n`)
    .join("\n");
}

/** WebVTT, of words in a recording of this length. */
export function asVtt(words, seconds) {
  const blocks = cues(words).map(
    (cue, k, all) => `${times(cue, limit(all, k, seconds), ".")}\n${lines(cue).join("\n")}`,
  );
  return ["WEBVTT", ...blocks].join("\n\n") + "\n";
}

/** Seconds as 1:05 or 1:02:05. */
export function clock(seconds) {
  const [hours, minutes, rest] = split(Math.floor(seconds) * 1_000);
  const tail = `${String(Math.floor(rest / 1_000)).padStart(2, "0")}`;
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}

function cues(words) {
  const all = [];
  let cue = [];
  for (const word of words) {
    const full =
      cue.length > 0 &&
      (word.start - cue.at(-1).end > PAUSE_SECONDS ||
        word.end - cue[0].start > CUE_SECONDS ||
        lines([...cue, word]).length > CUE_LINES ||
        (endsSentence(cue.at(-1).word) && word.start - cue[0].start >= CUE_LEAST_SECONDS));
    if (full) {
      all.push(cue);
      cue = [];
    }
    cue.push(word);
  }
  return cue.length > 0 ? [...all, cue] : all;
}

function endsSentence(word) {
  return /[.?!]$/.test(word) && !ABBREVIATIONS.includes(word);
}

function lines(cue) {
  const wrapped = [];
  for (const { word } of cue) {
    const longer = wrapped.length > 0 ? `${wrapped.at(-1)} ${word}` : word;
    if (wrapped.length > 0 && longer.length <= LINE_CHARACTERS) wrapped[wrapped.length - 1] = longer;
    else wrapped.push(word);
  }
  return wrapped;
}

/** When a subtitle must be gone: the next one begins, or the recording ends. */
function limit(all, k, seconds) {
  return k + 1 < all.length ? all[k + 1][0].start : seconds;
}

function times(cue, latest, point) {
  const start = cue[0].start;
  const end = Math.max(cue.at(-1).end, Math.min(start + CUE_LEAST_SECONDS, latest));
  return `${stamp(start, point)} --> ${stamp(end, point)}`;
}

function stamp(seconds, point) {
  const [hours, minutes, rest] = split(Math.round(seconds * 1_000));
  const two = (number) => String(number).padStart(2, "0");
  const milliseconds = String(rest % 1_000).padStart(3, "0");
  return `${two(hours)}:${two(minutes)}:${two(Math.floor(rest / 1_000))}${point}${milliseconds}`;
}

function split(milliseconds) {
  const minutes = Math.floor(milliseconds / 60_000);
  return [Math.floor(minutes / 60), minutes % 60, milliseconds % 60_000];
}
