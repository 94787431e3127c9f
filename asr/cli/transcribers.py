"""Who transcribes a recording for `asr transcribe`: this process, a server, or workers of a Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

from asr.audio.containers import is_seekable
from asr.audio.files import AudioFile, RawAudio
from asr.audio.pipes import Pipe, looks_like_a_file
from asr.cli.main import complain
from asr.cli.progress import Progress
from asr.errors import AudioError, RillError, ServerError, UsageError
from asr.output.files import STDIN, Recording
from asr.recognizer import Recognizer, Transcript
from asr.streaming.results import Result
from asr.streaming.sources import rechunked

if TYPE_CHECKING:
    import numpy as np

    from asr.client import RemoteTranscript


class Outcome(NamedTuple):
    """What became of a recording."""

    recording: Recording
    result: Result | None
    problem: str | RillError | None  # what is wrong with it; there may be a result all the same
    interrupted: bool = False  # by Ctrl-C: the result is of what was heard until then


Transcribed = Callable[[Recording, Progress, Event], Outcome]


def here(recognizer: Recognizer, chunk_ms: int, raw_rate: int | None, track: str | None = None) -> Transcribed:
    """By this process."""

    def begin() -> AbstractContextManager[Transcript]:
        return nullcontext(Transcript(recognizer))

    return partial(_transcribed, begin, recognizer.sample_rate, chunk_ms, raw_rate, track)


def by_server(
    address: str, api_key: str | None, chunk_ms: int, raw_rate: int | None, track: str | None = None
) -> Transcribed:
    """By a server; raises UsageError for an address that cannot be one."""
    from asr.client import SAMPLE_RATE, Client

    return partial(_transcribed, Client(address, api_key).transcript, SAMPLE_RATE, chunk_ms, raw_rate, track)


def by_ray(
    stack: ExitStack, jobs: int, chunk_ms: int, model: str, options: dict[str, Any], track: str | None = None
) -> Transcribed:
    """By workers of a Ray cluster, which end with the stack."""
    from asr.cli.ray_workers import RayWorkers

    workers = stack.enter_context(RayWorkers(jobs, chunk_ms, model, track, **options))

    def transcribed(recording: Recording, shown: Progress, stop: Event) -> Outcome:
        shown.begin(recording.name, None)
        try:
            result, problem = workers.transcribe(recording.name, stop.is_set)
        finally:
            shown.end(recording.name)
        if result is not None:
            shown.hear(recording.name, result.end_seconds, result.end_seconds)
        return Outcome(recording, result, problem, interrupted=result is None and problem is None)

    return transcribed


def _transcribed(
    begin: Callable[[], AbstractContextManager[Transcript | RemoteTranscript]],
    sample_rate: int,
    chunk_ms: int,
    raw_rate: int | None,
    track: str | None,
    recording: Recording,
    shown: Progress,
    stop: Event,
) -> Outcome:
    try:
        with _opened(recording.name, sample_rate, raw_rate, track) as audio, begin() as transcript:
            if audio.note is not None:
                complain(audio.note)
            shown.begin(recording.name, audio.seconds)
            try:
                chunk = chunk_ms * sample_rate // 1_000
                result, interrupted = _recognise(transcript, audio, chunk, sample_rate, recording.name, shown, stop)
            except ServerError as error:
                return Outcome(recording, transcript.result(), error)
    except (AudioError, ServerError) as error:
        return Outcome(recording, None, error)
    finally:
        shown.end(recording.name)
    if interrupted:
        heard = f"interrupted after {result.end_seconds:.1f} s of audio; the text is of that part"
        return Outcome(recording, result, f"{recording.name}: {heard}", interrupted=True)
    return Outcome(recording, result, audio.damage)


def _recognise(
    transcript: Transcript | RemoteTranscript,
    audio: AudioFile | RawAudio,
    chunk: int,
    sample_rate: int,
    name: str,
    shown: Progress,
    stop: Event,
) -> tuple[Result, bool]:
    """The result of a recording, and whether Ctrl-C ended it early."""
    interrupted = False

    def until_interrupted() -> Iterator[np.ndarray]:
        nonlocal interrupted
        try:
            yield from audio
        except KeyboardInterrupt:  # while waiting for audio: the end of it, so that what has come is still heard
            interrupted = True

    try:
        for samples in rechunked(until_interrupted(), chunk):
            transcript.hear(samples)
            shown.hear(name, len(samples) / sample_rate, audio.seconds)
            if stop.is_set():
                interrupted = True
                break
    except KeyboardInterrupt:
        interrupted = True
    return transcript.result(), interrupted


def _opened(name: str, sample_rate: int, raw_rate: int | None, track: str | None) -> AudioFile | RawAudio:
    if name != STDIN:
        return AudioFile(name, sample_rate, track)
    stdin = sys.stdin.buffer
    if stdin.isatty():
        raise UsageError("stdin is a terminal; pipe audio into it, as in: asr transcribe - < speech.wav")
    if raw_rate is not None:
        return RawAudio(stdin, "stdin", raw_rate, sample_rate)
    pipe = Pipe(stdin)
    head = pipe.head()
    if head and not looks_like_a_file(head):
        raise AudioError("stdin: is no audio file; give --raw-rate if it is raw 16-bit samples")
    if not is_seekable(stdin):
        return AudioFile(pipe, sample_rate, track)
    stdin.seek(0)
    return AudioFile(stdin, sample_rate, track)
