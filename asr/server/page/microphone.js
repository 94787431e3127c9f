/** The microphone: permission, the choice of a device, and its audio as mono blocks. */

/** A microphone that cannot be used; the message says what to do. */
export class MicrophoneError extends Error {}

const REASONS = {
  NotAllowedError:
    "The microphone is blocked for this page. Allow it in the site settings of your browser, beside the address, " +
    "then press the button again. Recordings can be transcribed without it.",
  NotFoundError: "No microphone was found. Plug one in and press the button again, or choose a recording.",
  NotReadableError: "The microphone is in use by another program. Close that one and press the button again.",
  OverconstrainedError: "The chosen microphone is gone. Choose another one and press the button again.",
};
const INSECURE =
  "Browsers give the microphone only to pages opened by https, or on the same machine (http://localhost). " +
  "Recordings can be transcribed nevertheless.";

/** The microphones that the browser lists; with names only once the microphone has been allowed. */
export async function microphones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((device) => device.kind === "audioinput" && device.deviceId !== "");
}

/** Stands for the sound of a tab in place of a microphone. */
export const TAB = "tab";

/** Whether this browser can share the sound of a tab. */
export const tabsCanBeHeard = () => Boolean(window.isSecureContext && navigator.mediaDevices?.getDisplayMedia);

async function soundOfATab() {
  if (!tabsCanBeHeard()) throw new MicrophoneError("This browser cannot share the sound of a tab.");
  let stream;
  try {
    // Browsers share sound only together with the picture, which is dropped at once.
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    stream = await navigator.mediaDevices.getDisplayMedia({ video: true, audio });
  } catch (error) {
    throw new MicrophoneError(error.name === "NotAllowedError" ? "No tab was shared." : error.message);
  }
  for (const track of stream.getVideoTracks()) track.stop(), stream.removeTrack(track);
  if (stream.getAudioTracks().length > 0) return stream;
  throw new MicrophoneError("No sound was shared: choose a tab, and let the browser share the sound of it too.");
}

export class Microphone {
  #context;
  #stream;
  #node;

  /**
   * Opens a microphone.
   * @param {string} deviceId - empty for the default one; TAB for the sound of a tab, which the browser asks for
   * @param {number} targetRate - of the blocks, in Hz
   * @param {(samples: Float32Array) => void} onBlock
   * @param {() => void} onGone - it was unplugged, or its permission was taken back
   */
  static async open(deviceId, targetRate, onBlock, onGone) {
    if (!window.isSecureContext || !navigator.mediaDevices) throw new MicrophoneError(INSECURE);
    const microphone = new Microphone();
    try {
      // First, so that no word is lost between the permission and the first block: loading takes time.
      await microphone.#prepare(targetRate, onBlock);
      microphone.#stream = deviceId === TAB ? await soundOfATab() : await navigator.mediaDevices.getUserMedia({
        // Speech is recognised best as it is: what suits a phone call takes away too much.
        audio: {
          ...(deviceId && { deviceId: { exact: deviceId } }),
          echoCancellation: false,
          noiseSuppression: false,
          autoGainControl: true,
        },
      });
      microphone.#context.createMediaStreamSource(microphone.#stream).connect(microphone.#node);
      await microphone.#context.resume();
    } catch (error) {
      await microphone.#release();
      if (error instanceof MicrophoneError) throw error;
      throw new MicrophoneError(REASONS[error.name] ?? `The microphone does not work here: ${error.message}`);
    }
    microphone.#stream.getAudioTracks()[0].onended = onGone;
    return microphone;
  }

  /** Stops; resolves when the last block has been handed over. */
  async close() {
    const last = new Promise((resolve) => {
      this.onLast = resolve;
      setTimeout(resolve, 500); // a context that the system has stopped never answers
    });
    this.#node.port.postMessage("finish");
    await last;
    await this.#release();
  }

  async #prepare(targetRate, onBlock) {
    // At the rate of the device: a context at another rate cannot be joined to a microphone in every browser.
    this.#context = new AudioContext({ latencyHint: "interactive" });
    await this.#context.audioWorklet.addModule(new URL("capture-worklet.js", import.meta.url));
    this.#node = new AudioWorkletNode(this.#context, "capture", {
      numberOfOutputs: 0,
      processorOptions: { targetRate },
    });
    this.#node.port.onmessage = ({ data: { samples, last } }) => {
      onBlock(samples);
      if (last) this.onLast();
    };
  }

  async #release() {
    for (const track of this.#stream?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    if (this.#context?.state !== "closed") await this.#context?.close();
  }
}
