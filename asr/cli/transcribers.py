"""Who transcribes a recording for `asr transcribe`: this process, or a server; `asr.cli.ray_workers` has a third."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from asr.audio.containers import is_seekable
from asr.audio.files import AudioFile, RawAudio
from asr.audio.meter import Meter
from asr.audio.pipes import Pipe, looks_like_a_file
from asr.cli.exits import complain
from asr.cli.progress import TranscriptionProgress
from asr.cli.sources import STDIN
from asr.errors import AudioError, RillError, ServerError, UsageError
from asr.output.files import Source
from asr.recognizer import Recognizer
from asr.streaming.results import Result
from asr.streaming.sources import rechunked
from asr.transcript import Transcript

if TYPE_CHECKING:
    import numpy as np

    from asr.resuming import RemoteTranscript


class Transcribed(NamedTuple):
    """The outcome for one recording."""

    source: Source
    result: Result | None
    problem: str | RillError | None = None  # what failed; there may be a result all the same
    remark: str | None = None  # worth telling, though nothing failed
    interrupted: bool = False  # by Ctrl-C: the result is of the audio until then

    @property
    def whole(self) -> bool:
        """Whether the result is of all that can be decoded."""
        return self.result is not None and not self.interrupted and not isinstance(self.problem, ServerError)


Transcriber = Callable[[Source, TranscriptionProgress, Event], Transcribed]


def here(recognizer: Recognizer, chunk_ms: int, raw_rate: int | None, track: str | None = None) -> Transcriber:
    """Transcribe in this process."""

    def begin() -> AbstractContextManager[Transcript]:
        return nullcontext(Transcript(recognizer))

    return partial(_transcribed, begin, recognizer.sample_rate, chunk_ms, raw_rate, track)


def by_server(
    address: str,
    api_key: str | None,
    readable: bool | None,
    chunk_ms: int,
    raw_rate: int | None,
    track: str | None = None,
) -> Transcriber:
    """Have a server transcribe; raises UsageError for an address that cannot be one."""
    from asr.client import SAMPLE_RATE, Client

    begin = partial(Client(address, api_key, readable).transcript, complain)
    return partial(_transcribed, begin, SAMPLE_RATE, chunk_ms, raw_rate, track)


def _transcribed(
    begin: Callable[[], AbstractContextManager[Transcript | RemoteTranscript]],
    sample_rate: int,
    chunk_ms: int,
    raw_rate: int | None,
    track: str | None,
    source: Source,
    shown: TranscriptionProgress,
    stop: Event,
) -> Transcribed:
    name = source.name
    meter = Meter()
    try:
        with _opened(name, sample_rate, raw_rate, track) as audio, begin() as transcript:
            if audio.note is not None:
                complain(audio.note)
            shown.begin(name, audio.seconds)
            told = partial(shown.advance, name, of=audio.seconds)
            try:
                interrupted = _recognise(transcript, audio, chunk_ms * sample_rate // 1_000, meter, told, stop)
                result = transcript.result()
            except ServerError as error:
                return Transcribed(source, transcript.result(), error)
    except (AudioError, ServerError) as error:
        return Transcribed(source, None, error)
    finally:
        shown.end(name)
    if interrupted:
        problem = f"{name}: interrupted after {result.end_seconds:.1f} s of audio; the text is of that part"
        return Transcribed(source, result, problem, interrupted=True)
    remark = None if result.text else f"{name}: {meter.without_words(result.end_seconds)}"
    return Transcribed(source, result, audio.damage, remark)


def _recognise(
    transcript: Transcript | RemoteTranscript,
    audio: AudioFile | RawAudio,
    chunk: int,
    meter: Meter,
    told: Callable[[float], None],
    stop: Event,
) -> bool:
    """Recognise a recording; whether Ctrl-C ended it early."""
    interrupted = False

    def until_interrupted() -> Iterator[np.ndarray]:
        nonlocal interrupted
        try:
            yield from audio
        except KeyboardInterrupt:  # while waiting for audio: its end, so that what has come is still recognised
            interrupted = True

    try:
        for samples in rechunked(until_interrupted(), chunk):
            meter.add(samples)
            transcript.accept(samples)
            told(len(samples) / audio.sample_rate)
            if stop.is_set():
                return True
    except KeyboardInterrupt:
        return True
    return interrupted


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
