"""`asr listen`: live captions from a microphone."""

from __future__ import annotations

import sys
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import ApiKey, DecoderName, EngineName, LanguageModelFolder, Model, Server, check_server_options

if TYPE_CHECKING:
    import numpy as np

    from asr.captions import Captions
    from asr.client import RemoteStream
    from asr.microphone import Microphone
    from asr.recognizer import Recognizer
    from streaming.results import Result

FORMATS = ("txt", "jsonl")
FULL_SCALE_16_BIT = 32_767


def listen(
    device: Annotated[
        str | None, typer.Option("--device", "-d", help="Index or part of the name of a microphone; see asr devices.")
    ] = None,
    format: Annotated[str, typer.Option(help="txt, or jsonl: every partial and final result as an event.")] = "txt",
    seconds: Annotated[float | None, typer.Option(help="Stop after this long. [default: at Ctrl-C]")] = None,
    save_audio: Annotated[Path | None, typer.Option(help="Write what is heard into this WAV file.")] = None,
    model: Model = None,
    engine: EngineName = "onnx",
    decoder: DecoderName = None,
    lm: LanguageModelFolder = None,
    chunk_ms: Annotated[int, typer.Option(help="Audio given to the model at once; less is livelier.")] = 100,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Write down what a microphone hears, while it is spoken.

    On a terminal the words appear at once, those still uncertain dim. Elsewhere each finished utterance is a line.
    Ctrl-C, or --seconds, ends it with the last words.
    """
    from asr.errors import UsageError
    from asr.microphone import Microphone, find_device
    from asr.package import DEFAULT_MODEL
    from asr.recognizer import Recognizer, chunk_samples

    check_server_options(server, api_key, model, engine, decoder, lm)
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; give {' or '.join(FORMATS)}")
    if seconds is not None and seconds <= 0:
        raise UsageError(f"--seconds must be positive, got {seconds:g}")
    if save_audio is not None and (save_audio.suffix.lower() != ".wav" or save_audio.is_dir()):
        raise UsageError(f"--save-audio writes WAV files; {save_audio} does not end in .wav")
    chosen = find_device(device)
    with ExitStack() as stack:
        if server is None:
            ear = _LocalEar(Recognizer.load(model or DEFAULT_MODEL, engine=engine, decoder=decoder, lm=lm))
        else:
            from asr.client import Client

            ear = stack.enter_context(Client(server, api_key).open())
        chunk_samples(chunk_ms, ear.sample_rate)
        microphone = stack.enter_context(Microphone(chosen, ear.sample_rate))
        captions = stack.enter_context(_captions(format))
        print(f"listening to {chosen.name}, {microphone.device_rate} Hz; Ctrl-C ends it", file=sys.stderr)
        _listen(ear, microphone, captions, chunk_ms / 1_000, seconds, save_audio)


class _LocalEar:
    """A live stream recognised here, with the methods of one on a server."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.sample_rate = recognizer.sample_rate
        self._recognizer = recognizer
        self._state = recognizer.start()

    @property
    def samples(self) -> int:
        return self._state.samples

    def hear(self, samples: np.ndarray) -> tuple[Result, ...]:
        results, self._state = self._recognizer.step(self._state, samples)
        return results

    def finish(self) -> Iterator[Result]:
        results, self._state = self._recognizer.finish(self._state)
        yield from results


def _listen(
    ear: _LocalEar | RemoteStream,
    microphone: Microphone,
    captions: Captions,
    chunk_seconds: float,
    seconds: float | None,
    save_audio: Path | None,
) -> None:
    import numpy as np

    from asr.captions import Status
    from asr.cli.main import complain

    computing = 0.0
    lost = 0.0

    def hear(samples: np.ndarray) -> None:
        nonlocal computing, lost
        begun = time.perf_counter()
        results = ear.hear(samples)
        computing += time.perf_counter() - begun
        if microphone.lost_seconds > lost:
            lost = microphone.lost_seconds
            complain(f"too slow: {lost:.1f} s of audio lost so far")
        captions.show(results, status(samples))

    def status(samples: np.ndarray) -> Status:
        heard = ear.samples / ear.sample_rate
        level = 20 * np.log10(max(1e-5, float(np.abs(samples).max(initial=0.0))))
        load = computing / max(heard, 1e-9) if isinstance(ear, _LocalEar) else None
        return Status(heard, level, microphone.waiting_seconds, load, microphone.lost_seconds)

    with _recording(save_audio, ear.sample_rate) as keep:
        try:
            while seconds is None or ear.samples < seconds * ear.sample_rate:
                samples = microphone.read(chunk_seconds)
                keep(samples)
                hear(samples)
        except KeyboardInterrupt:
            pass
        rest = microphone.close()
        if seconds is not None:
            rest = rest[: max(0, round(seconds * ear.sample_rate) - ear.samples)]
        keep(rest)
        hear(rest)
        last = status(rest)
        for result in ear.finish():
            captions.show((result,), last)
    if microphone.overflows:
        complain(f"PortAudio lost audio {microphone.overflows} times")


def _captions(format: str) -> Captions:
    from asr.captions import EventCaptions, LineCaptions, TerminalCaptions

    if format == "jsonl":
        return EventCaptions()
    return TerminalCaptions() if sys.stdout.isatty() else LineCaptions()


@contextmanager
def _recording(path: Path | None, sample_rate: int) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that appends samples to a WAV file whose header is always right; without a path it does nothing."""
    if path is None:
        yield lambda samples: None
        return
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
