/**
 * Changes the sample rate of a stream by a windowed sinc; any blocks of the input give the same output.
 *
 * Output sample n lies at input position n * source / target, so times are not shifted. What the target rate cannot
 * carry is 90 dB down before it could fold back; what lies below 90 % of the lower Nyquist frequency passes unchanged.
 */

const STOP_DB = 90; // of the Kaiser window
const TRANSITION = 0.1; // of the lower Nyquist frequency, just beneath it

export class Resampler {
  /** Rates are whole numbers of Hz. */
  constructor(sourceRate, targetRate) {
    const divisor = greatestCommonDivisor(sourceRate, targetRate);
    this.up = targetRate / divisor;
    this.down = sourceRate / divisor;
    const nyquist = Math.min(sourceRate, targetRate) / 2 / sourceRate; // in cycles per input sample
    const transition = TRANSITION * nyquist;
    this.half = sourceRate === targetRate ? 0 : Math.ceil((STOP_DB - 8) / (2.285 * 2 * Math.PI * transition) / 2);
    this.phases = filterPhases(this.up, this.half, nyquist - transition / 2);
    this.held = new Float32Array(this.half); // silence before the start
    this.heldFrom = -this.half; // index of held[0] in the input
    this.consumed = 0;
    this.produced = 0;
  }

  /** Takes samples and returns as many resampled ones as can be computed. */
  push(samples) {
    this.consumed += samples.length;
    return this.#advance(samples, Infinity);
  }

  /** The samples still held back; the stream is over. */
  flush() {
    return this.#advance(new Float32Array(this.half), Math.ceil((this.consumed * this.up) / this.down));
  }

  #advance(samples, limit) {
    const input = new Float32Array(this.held.length + samples.length);
    input.set(this.held);
    input.set(samples, this.held.length);
    const end = this.heldFrom + input.length; // one past the last input index
    const ready = Math.ceil(((end - this.half) * this.up) / this.down); // outputs whose window is complete
    const count = Math.max(0, Math.min(ready, limit) - this.produced);
    const output = new Float32Array(count);
    const taps = 2 * this.half + 1;
    for (let k = 0; k < count; k++) {
      const position = (this.produced + k) * this.down;
      const phase = this.phases[position % this.up];
      const first = Math.floor(position / this.up) - this.half - this.heldFrom;
      let sum = 0;
      for (let tap = 0; tap < taps; tap++) sum += phase[tap] * input[first + tap];
      output[k] = sum;
    }
    this.produced += count;
    const next = Math.floor((this.produced * this.down) / this.up) - this.half; // the oldest input still needed
    this.held = input.slice(Math.max(0, next - this.heldFrom));
    this.heldFrom = end - this.held.length;
    return output;
  }
}

/** For each fraction k / up of an input sample, the weights of the inputs from -half to half around it. */
function filterPhases(up, half, cutoff) {
  const beta = 0.1102 * (STOP_DB - 8.7);
  return Array.from({ length: up }, (_, k) => {
    const weights = new Float64Array(2 * half + 1);
    let sum = 0;
    for (let tap = -half; tap <= half; tap++) {
      const at = tap - k / up;
      const edge = at / (half + 1);
      const window = besselI0(beta * Math.sqrt(Math.max(0, 1 - edge * edge)));
      const sinc = at === 0 ? 1 : Math.sin(2 * Math.PI * cutoff * at) / (2 * Math.PI * cutoff * at);
      sum += weights[tap + half] = sinc * window;
    }
    return Float32Array.from(weights, (weight) => weight / sum);
  });
}

function besselI0(x) {
  let sum = 1;
  for (let term = 1, k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
