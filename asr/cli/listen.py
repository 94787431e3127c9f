"""`asr listen`: live captions from a microphone."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import EndpointOptions, RecognitionOptions, RemoteOptions, TextOptions, grouped

if TYPE_CHECKING:
    import numpy as np

    from asr.audio.microphone import Microphone
    from asr.audio.recording import SoundFile
    from asr.output.captions import Captions, Status
    from asr.recognizer import Recognizer
    from asr.resuming import ResumingStream
    from asr.streaming.results import Result

LAG_SECONDS = 2.0  # of audio waiting from which the user is warned


@grouped
def listen(
    *,
    device: Annotated[
        str | None, typer.Option("--device", "-d", help="Index or part of the name of a microphone; see asr devices.")
    ] = None,
    source: Annotated[
        str, typer.Option(help="microphone; or desktop: what the computer plays (PulseAudio, PipeWire).")
    ] = "microphone",
    format: Annotated[str, typer.Option(help="txt, or jsonl: every partial and final result as an event.")] = "txt",
    seconds: Annotated[float | None, typer.Option(help="Stop after this long. (default: at Ctrl-C)")] = None,
    save_audio: Annotated[Path | None, typer.Option(help="Write the audio into this WAV or FLAC file.")] = None,
    recognition: RecognitionOptions,
    text: TextOptions,
    chunk_ms: Annotated[
        int, typer.Option(help="Audio given to the model at once; shorter chunks show words earlier.")
    ] = 100,
    endpoints: EndpointOptions,
    remote: RemoteOptions,
) -> None:
    """Write down what is spoken into a microphone, while it is spoken.

    On a terminal the words appear at once, those that may still change dim. Elsewhere each finished utterance is a
    line. Ctrl-C, or --seconds, ends it with the last words.
    """
    from asr.audio.desktop import SOURCES, find_desktop
    from asr.audio.microphone import Microphone, find_device
    from asr.audio.recording import SoundFile, check_sound_path
    from asr.cli.exits import complain
    from asr.errors import UsageError
    from asr.output.files import check_stdout
    from asr.output.formats import LINE_FORMATS
    from asr.recognizer import Recognizer, chunk_samples

    remote.check(recognition)
    if source not in SOURCES:
        raise UsageError(f"unknown --source {source!r}; give {' or '.join(SOURCES)}")
    if source == "desktop" and device is not None:
        raise UsageError("--device is of a microphone; leave it out, or --source desktop")
    if format not in LINE_FORMATS:
        raise UsageError(f"unknown format {format!r}; give {' or '.join(LINE_FORMATS)}")
    if seconds is not None and not seconds > 0:
        raise UsageError(f"--seconds must be positive, got {seconds:g}")
    if save_audio is not None:
        check_sound_path(save_audio)
    else:
        check_stdout()
    if remote.server is not None and endpoints.given:
        raise UsageError("when an utterance ends cannot be chosen with --server, which has its own rule")
    options = recognition.recognizer(endpoint=endpoints.rule(), readable=text.readable)
    client = None
    if remote.server is not None:
        from asr.client import Client

        client = Client(remote.server, remote.api_key, text.of_server)
    chosen = find_desktop() if source == "desktop" else find_device(device)
    with ExitStack() as stack:
        stream = (
            LocalStream(Recognizer.open(options))
            if client is None
            else stack.enter_context(client.resuming(tell=complain))
        )
        chunk_samples(chunk_ms, stream.sample_rate)
        microphone = stack.enter_context(Microphone(chosen, stream.sample_rate))
        sound = None if save_audio is None else stack.enter_context(SoundFile(save_audio, stream.sample_rate))
        captions = stack.enter_context(_captions(format))
        print(f"listening to {chosen.name}, {microphone.device_rate} Hz; Ctrl-C ends it", file=sys.stderr)
        _listen(stream, microphone, captions, chunk_ms / 1_000, seconds, sound)


class LocalStream:
    """A live stream recognised here, with the methods of one on a server."""

    local = True

    def __init__(self, recognizer: Recognizer) -> None:
        self.sample_rate = recognizer.sample_rate
        self._recognizer = recognizer
        self._state = recognizer.start()

    @property
    def samples(self) -> int:
        """Samples recognised."""
        return self._state.samples

    def accept(self, samples: np.ndarray) -> tuple[Result, ...]:
        results, self._state = self._recognizer.step(self._state, samples)
        return results

    def finish(self) -> Iterator[Result]:
        results, self._state = self._recognizer.finish(self._state)
        yield from results


def _listen(
    stream: LocalStream | ResumingStream,
    microphone: Microphone,
    captions: Captions,
    chunk_seconds: float,
    seconds: float | None,
    sound: SoundFile | None,
) -> None:
    """Recognise a microphone until Ctrl-C, or for so many seconds; the last words are shown whatever ends it."""
    import numpy as np

    from asr.cli.exits import complain
    from asr.errors import AudioError, OutputError
    from asr.interrupt import deferred_interrupt

    session = Session(stream, microphone, captions, sound)
    failure: AudioError | OutputError | None = None
    with deferred_interrupt() as asked_to_end:
        try:
            while not asked_to_end() and (seconds is None or stream.samples < seconds * stream.sample_rate):
                session.accept(microphone.read(chunk_seconds, asked_to_end))
        except (AudioError, OutputError) as error:  # what was said before is still to be written
            failure = error
    rest = np.zeros(0, np.float32) if failure is not None else microphone.close()
    if seconds is not None:
        rest = rest[: max(0, round(seconds * stream.sample_rate) - stream.samples)]
    session.finish(rest)
    if failure is not None:
        raise failure
    if microphone.overflows:
        complain(f"PortAudio lost audio {microphone.overflows} times")


class Session:
    """Chunks of a microphone: saved, recognised, shown; with warnings where recognition is too slow."""

    def __init__(
        self,
        stream: LocalStream | ResumingStream,
        microphone: Microphone,
        captions: Captions,
        sound: SoundFile | None,
    ) -> None:
        self._stream = stream
        self._microphone = microphone
        self._captions = captions
        self._sound = sound
        self._computing_seconds = 0.0
        self._lost_seconds = 0.0  # that the user was warned of
        self._late = False  # that the user was warned of

    def accept(self, samples: np.ndarray) -> None:
        """Recognise a chunk; raises OutputError when it cannot be saved, once it is recognised."""
        from asr.errors import OutputError

        problem: OSError | None = None
        try:
            if self._sound is not None:
                self._sound.write(samples)
        except OSError as error:
            self._sound, problem = None, error
        begun = time.perf_counter()
        results = self._stream.accept(samples)
        spent = time.perf_counter() - begun
        self._computing_seconds += spent
        status = self._status(samples, spent)
        self._captions.show(results, status)
        self._warn(status)
        if problem is not None:
            raise OutputError(f"--save-audio: cannot be written any more: {problem.strerror}") from problem

    def finish(self, rest: np.ndarray) -> None:
        """Recognise the last chunk, and show the last words."""
        self.accept(rest)
        status = self._status(rest, 0.0)
        for result in self._stream.finish():
            self._captions.show((result,), status)

    def _warn(self, status: Status) -> None:
        from asr.cli.exits import complain

        if status.lost_seconds > self._lost_seconds:
            self._lost_seconds = status.lost_seconds
            complain(f"too slow: {self._lost_seconds:.1f} s of audio lost so far")
        if self._late != (status.waiting_seconds > (0.0 if self._late else LAG_SECONDS)):
            self._late = not self._late
            if self._late:
                waiting = f"{status.waiting_seconds:.1f} s of audio wait"
                complain(f"too slow: {waiting}; catching up, nothing is lost yet")

    def _status(self, samples: np.ndarray, spent: float) -> Status:
        import numpy as np

        from asr.output.captions import Status

        seconds = self._stream.samples / self._stream.sample_rate
        waiting = self._microphone.waiting_seconds
        return Status(
            heard_seconds=seconds,
            level_db=20 * np.log10(max(1e-5, float(np.abs(samples).max(initial=0.0)))),
            waiting_seconds=waiting,
            delay_seconds=len(samples) / self._stream.sample_rate + spent + waiting,
            real_time_factor=self._computing_seconds / max(seconds, 1e-9) if self._stream.local else None,
            lost_seconds=self._microphone.lost_seconds,
            overflows=self._microphone.overflows,
        )


def _captions(format: str) -> Captions:
    from asr.output.captions import EventCaptions, LineCaptions, TerminalCaptions

    if format == "jsonl":
        return EventCaptions()
    return TerminalCaptions() if sys.stdout.isatty() else LineCaptions()
