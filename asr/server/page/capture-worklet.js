/** Runs in the audio thread: the microphone's channels -> mono blocks at the rate the server wants. */

import { Resampler } from "./resampler.js";

const BLOCK_SECONDS = 0.04;

class Capture extends AudioWorkletProcessor {
  constructor({ processorOptions: { targetRate } }) {
    super();
    this.resampler = new Resampler(Math.round(sampleRate), targetRate); // sampleRate: the audio context's, a global here
    this.block = Math.round(BLOCK_SECONDS * targetRate);
    this.waiting = [];
    this.count = 0;
    this.over = false;
    this.port.onmessage = () => {
      this.over = true;
      this.keep(this.resampler.flush());
      this.hand(true);
    };
  }

  process([channels]) {
    if (this.over) return false;
    if (channels.length > 0) {
      this.keep(this.resampler.push(mixed(channels)));
      if (this.count >= this.block) this.hand(false);
    }
    return true;
  }

  keep(samples) {
    this.waiting.push(samples);
    this.count += samples.length;
  }

  hand(last) {
    const samples = new Float32Array(this.count);
    let at = 0;
    for (const piece of this.waiting) {
      samples.set(piece, at);
      at += piece.length;
    }
    this.waiting = [];
    this.count = 0;
    this.port.postMessage({ samples, last }, [samples.buffer]);
  }
}

function mixed(channels) {
  if (channels.length === 1) return channels[0];
  const mono = new Float32Array(channels[0].length);
  for (const channel of channels) for (let k = 0; k < mono.length; k++) mono[k] += channel[k] / channels.length;
  return mono;
}

registerProcessor("capture", Capture);
