"""`asr listen`: live captions from a microphone."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from asr.captions import Captions

FORMATS = ("txt", "jsonl")
FULL_SCALE_16_BIT = 32_767


def listen(
    device: Annotated[
        str | None, typer.Option("--device", "-d", help="Index or part of the name of a microphone; see asr devices.")
    ] = None,
    format: Annotated[str, typer.Option(help="txt, or jsonl: every partial and final result as an event.")] = "txt",
    seconds: Annotated[float | None, typer.Option(help="Stop after this long. [default: at Ctrl-C]")] = None,
    save_audio: Annotated[Path | None, typer.Option(help="Write what is heard into this WAV file.")] = None,
    model: Annotated[str | None, typer.Option(help="A shipped model (see asr models) or a model folder.")] = None,
    engine: Annotated[str, typer.Option(help="onnx, int8 (faster), or torch.")] = "onnx",
    decoder: Annotated[
        str | None, typer.Option(help="lm, or greedy. [default: lm if there is a language model]")
    ] = None,
    lm: Annotated[Path | None, typer.Option(help="Another language model, from asr lm build.")] = None,
    chunk_ms: Annotated[int, typer.Option(help="Audio given to the model at once; less is livelier.")] = 100,
) -> None:
    """Write down what a microphone hears, while it is spoken.

    On a terminal the words appear at once, those still uncertain dim. Elsewhere each finished utterance is a line.
    Ctrl-C, or --seconds, ends it with the last words.
    """
    from asr.errors import UsageError
    from asr.microphone import Microphone, find_device
    from asr.package import DEFAULT_MODEL
    from asr.recognizer import Recognizer, chunk_samples

    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; give {' or '.join(FORMATS)}")
    if seconds is not None and seconds <= 0:
        raise UsageError(f"--seconds must be positive, got {seconds:g}")
    if save_audio is not None and (save_audio.suffix.lower() != ".wav" or save_audio.is_dir()):
        raise UsageError(f"--save-audio writes WAV files; {save_audio} does not end in .wav")
    chosen = find_device(device)
    recognizer = Recognizer.load(model or DEFAULT_MODEL, engine=engine, decoder=decoder, lm=lm)
    chunk_samples(chunk_ms, recognizer.sample_rate)
    with Microphone(chosen, recognizer.sample_rate) as microphone, _captions(format) as captions:
        print(f"listening to {chosen.name}, {microphone.device_rate} Hz; Ctrl-C ends it", file=sys.stderr)
        _listen(recognizer, microphone, captions, chunk_ms / 1_000, seconds, save_audio)


def _listen(recognizer, microphone, captions: Captions, chunk_seconds: float, seconds, save_audio: Path | None) -> None:
    from asr.captions import Status

    state = recognizer.start()
    computing = 0.0
    lost = 0.0

    def hear(samples) -> None:
        nonlocal state, computing, lost
        begun = time.perf_counter()
        results, state = recognizer.step(state, samples)
        computing += time.perf_counter() - begun
        if microphone.lost_seconds > lost:
            lost = microphone.lost_seconds
            print(f"asr: too slow: {lost:.1f} s of audio lost so far", file=sys.stderr)
        captions.show(results, status(samples))

    def status(samples) -> Status:
        import numpy as np

        heard = state.samples / recognizer.sample_rate
        level = 20 * np.log10(max(1e-5, float(np.abs(samples).max(initial=0.0))))
        return Status(heard, level, microphone.waiting_seconds, computing / max(heard, 1e-9), microphone.lost_seconds)

    with _recording(save_audio, recognizer.sample_rate) as keep:
        try:
            while seconds is None or state.samples < seconds * recognizer.sample_rate:
                samples = microphone.read(chunk_seconds)
                keep(samples)
                hear(samples)
        except KeyboardInterrupt:
            pass
        rest = microphone.close()
        if seconds is not None:
            rest = rest[: max(0, round(seconds * recognizer.sample_rate) - state.samples)]
        keep(rest)
        hear(rest)
        last = status(rest)
        results, state = recognizer.finish(state)
        captions.show(results, last)
    if microphone.overflows:
        print(f"asr: PortAudio lost audio {microphone.overflows} times", file=sys.stderr)


def _captions(format: str) -> Captions:
    from asr.captions import EventCaptions, LineCaptions, TerminalCaptions

    if format == "jsonl":
        return EventCaptions()
    return TerminalCaptions() if sys.stdout.isatty() else LineCaptions()


def _recording(path: Path | None, sample_rate: int):
    """A function that appends samples to a WAV file whose header is always right; without a path it does nothing."""
    from contextlib import contextmanager

    @contextmanager
    def recording():
        if path is None:
            yield lambda samples: None
            return
        import wave

        from asr.errors import UsageError

        try:
            file = wave.open(str(path), "wb")
        except OSError as error:
            raise UsageError(f"--save-audio {path} cannot be written: {error.strerror}") from error
        with file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sample_rate)
            # writeframes, unlike writeframesraw, mends the header each time: a killed recording can be played
            yield lambda samples: file.writeframes((samples.clip(-1, 1) * FULL_SCALE_16_BIT).astype("<i2").tobytes())

    return recording()
