/**
 * A session with the server: samples in, results out, over as many connections as it takes.
 *
 * Audio is kept until a final result covers it. When a connection breaks, the next one begins where the last final
 * result ended, and what was said since is sent again: nothing is lost, nothing comes twice.
 */

const RETRY_MS = [500, 1_000, 2_000, 4_000, 5_000]; // the last one for ever after
const READY_MS = 10_000;
const QUIET_SECONDS = 10; // kept of what was sent while nobody seems to speak
const LONGEST_SECONDS = 1_800; // kept while the server is away
const HOPELESS = ["bad_request", "bad_audio", "too_large"]; // errors that come again however often one tries

export class Session {
  #socket = null;
  #ready = false;
  #attempt = 0;
  #timer = 0;
  #kept = []; // {from, samples}: not yet covered by a final result
  #settled = 0; // samples before this one need not be sent again
  #length = 0; // samples given so far
  #base = 0; // sample at which the present connection began
  #speaking = false; // a partial result is open
  #finishing = false;
  #over = false;
  #complaint = null; // the server's last error
  #caughtUp = 0; // samples given by the time that the server will surely have heard what was sent again
  #onOffline = () => this.#socket && this.#closed(""); // closing would wait for a server that cannot answer
  #onOnline = () => this.#waiting() && this.#connect();

  /**
   * @param {object} options
   * @param {number} options.sampleRate - of the samples
   * @param {() => string} options.key - the API key, or an empty string
   * @param {boolean} options.live - a microphone: the past needs not be kept while nobody speaks
   * @param {(result: object) => void} options.onResult - times counted from the session's first sample
   * @param {(state: string, detail?: object) => void} options.onState - connecting, ready, waiting (reason,
   *     milliseconds), locked (the key is missing or wrong), failed (reason), lost (seconds that could not be kept),
   *     done
   */
  constructor(options) {
    this.options = options;
    this.done = new Promise((resolve) => (this.resolveDone = resolve));
    window.addEventListener("offline", this.#onOffline);
    window.addEventListener("online", this.#onOnline);
    this.#connect();
  }

  /** Seconds of audio given so far. */
  get seconds() {
    return this.#length / this.options.sampleRate;
  }

  /** Seconds of audio that wait in this browser. */
  get waitingSeconds() {
    if (!this.#ready) return (this.#length - this.#settled) / this.options.sampleRate;
    return this.#socket.bufferedAmount / 2 / this.options.sampleRate;
  }

  /** Takes 16-bit samples. */
  send(samples) {
    if (samples.length === 0 || this.#over) return;
    this.#kept.push({ from: this.#length, samples });
    this.#length += samples.length;
    if (this.#ready) this.#socket.send(samples);
    this.#forget();
  }

  /** No more audio will come; `done` resolves when the last result has. */
  finish() {
    this.#finishing = true;
    if (this.#ready) this.#socket.send('{"type":"finish"}');
    return this.done;
  }

  /** Ends at once, with what has been recognised so far. */
  abandon() {
    this.#end();
  }

  /** Tries again now, with a key that may be new. */
  retry() {
    if (!this.#over) this.#connect();
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#drop();
    this.options.onState("connecting");
    const socket = new WebSocket(this.#address());
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#hear(JSON.parse(data));
    socket.onclose = ({ reason }) => this.#closed(reason);
    this.#timer = setTimeout(() => socket.close(), READY_MS);
  }

  #address() {
    const address = new URL("v1/stream", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    address.searchParams.set("sample_rate", this.options.sampleRate);
    address.searchParams.set("format", "s16le");
    if (this.options.key()) address.searchParams.set("api_key", this.options.key());
    return address;
  }

  #hear(event) {
    if (event.type === "ready") {
      clearTimeout(this.#timer);
      this.#ready = true;
      this.#attempt = 0;
      this.#speaking = false;
      this.#base = this.#settled;
      this.#caughtUp = 2 * this.#length - this.#base;
      for (const { from, samples } of this.#kept) {
        this.#socket.send(samples.subarray(Math.max(0, this.#base - from)));
      }
      if (this.#finishing) this.#socket.send('{"type":"finish"}');
      this.options.onState("ready", { model: event.model });
    } else if (event.type === "partial" || event.type === "final") {
      this.#result(event);
    } else if (event.type === "error") {
      this.#complaint = event;
    } else if (event.type === "done") {
      if (this.#finishing) this.#end();
    }
  }

  #result(event) {
    const offset = this.#base / this.options.sampleRate;
    const shifted = (item) => ({ ...item, start: item.start + offset, end: item.end + offset });
    const words = event.words.map(shifted);
    const result = { ...shifted(event), final: event.type === "final", words: written(words) };
    result.committed = written(words.slice(0, event.committed)).length;
    this.#speaking = !result.final;
    if (result.final && result.words.length > 0) this.#settle(Math.round(result.end * this.options.sampleRate));
    this.options.onResult(result);
  }

  #settle(sample) {
    this.#settled = Math.min(this.#length, Math.max(this.#settled, sample));
    this.#forget();
  }

  #forget() {
    const rate = this.options.sampleRate;
    if (this.options.live && this.#ready && !this.#speaking && this.#length >= this.#caughtUp) {
      this.#settled = Math.max(this.#settled, this.#length - QUIET_SECONDS * rate);
    }
    if (this.options.live && this.#length - this.#settled > LONGEST_SECONDS * rate) {
      const lost = this.#length - this.#settled - LONGEST_SECONDS * rate;
      this.#settled += lost;
      this.options.onState("lost", { seconds: lost / rate });
    }
    const first = this.#kept.findIndex(({ from, samples }) => from + samples.length > this.#settled);
    this.#kept.splice(0, first < 0 ? this.#kept.length : first);
  }

  async #closed(reason) {
    clearTimeout(this.#timer);
    const wasReady = this.#ready;
    this.#drop();
    if (this.#over) return;
    const complaint = this.#complaint;
    this.#complaint = null;
    if (HOPELESS.includes(complaint?.code)) {
      this.options.onState("failed", { reason: complaint.message });
      this.#end();
      return;
    }
    if (complaint?.code === "unauthorized" || (!wasReady && !complaint && (await this.#locked()))) {
      this.options.onState("locked");
      return;
    }
    if (this.#over || this.#socket) return; // ended, or tried again, while the server was asked
    const milliseconds = RETRY_MS[Math.min(this.#attempt++, RETRY_MS.length - 1)];
    this.options.onState("waiting", { reason: complaint?.message || reason, milliseconds });
    this.#timer = setTimeout(() => this.#connect(), milliseconds);
  }

  /** Whether the server wants another key: browsers do not tell why a socket was refused. */
  async #locked() {
    const key = this.options.key();
    try {
      const answer = await fetch(new URL("v1/models", document.baseURI), {
        headers: key ? { Authorization: `Bearer ${key}` } : {},
      });
      return answer.status === 401 || answer.status === 403;
    } catch {
      return false; // nobody there
    }
  }

  #waiting() {
    return !this.#over && this.#socket === null;
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#ready = false;
    if (socket) {
      socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  #end() {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    window.removeEventListener("offline", this.#onOffline);
    window.removeEventListener("online", this.#onOnline);
    this.#drop();
    this.#kept = [];
    this.options.onState("done");
    this.resolveDone();
  }
}

/**
 * Words as they are shown, from words as they are spoken: those of a number, of which all but the first are written "",
 * become one.
 */
function written(words) {
  const shown = [];
  for (const word of words) {
    if (word.written === "" && shown.length > 0) shown[shown.length - 1].end = word.end;
    else shown.push({ ...word, word: word.written ?? word.word });
  }
  return shown;
}
