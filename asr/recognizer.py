"""The recogniser: a model, a decoder and an endpoint rule, ready for files, arrays and live streams."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage
from asr.audio.files import AudioFile
from asr.audio.samples import as_samples, check_rate
from asr.errors import AudioError, DamagedAudioError, UsageError
from asr.lm.hotwords import read_hotwords
from asr.memory import give_back_memory
from asr.recognizer_options import RecognizerOptions, open_readable
from asr.streaming.ahead import Ahead, two_cores
from asr.streaming.batcher import BatchedEngine
from asr.streaming.endpoint import EndpointRule
from asr.streaming.engine import Engine
from asr.streaming.results import Alternative, Result
from asr.streaming.runner import Decoder, Runner, RunnerState
from asr.streaming.sources import rechunked, resampled
from asr.transcript import Transcript
from asr.words.readable import ReadableState, ReadableText

FILE_CHUNK_MS = 2_000


class RecognizerState(NamedTuple):
    """Where a stream is. States are immutable: keep, replay or fork them as you like."""

    runner: RunnerState
    readable: ReadableState | None  # None until a result is written for readers

    @property
    def samples(self) -> int:
        """Samples recognised since the start of the stream."""
        return self.runner.samples


class Recognizer:
    """Recognises speech. It keeps no state of a stream, so one recogniser serves any number of streams and threads.

    >>> recognizer = Recognizer.load()
    >>> print(recognizer.transcribe("speech.wav").text)
    """

    def __init__(
        self,
        runner: Runner,
        decoder: Decoder,
        engine: Engine,
        readable: ReadableText | None = None,
        made_of: tuple[RecognizerOptions, ModelPackage] | None = None,
    ) -> None:
        """Wrap a runner, its decoder and its engine; `Recognizer.load` makes one from a model folder."""
        self._made_of = made_of
        self._runner = runner
        self._decoder = decoder
        self._engine = engine
        self._readable = readable

    @classmethod
    def load(cls, model: str | Path = DEFAULT_MODEL, **options: Any) -> Recognizer:
        """Load a model: ``Recognizer.load("rill-en-small", engine="int8", hotwords="Rill, Wyoming")``.

        Args:
            model: the name of a shipped model or the path of a model folder.
            **options: the other fields of `RecognizerOptions`.
        Raises:
            UsageError: an option that is unknown or cannot be used, or options that contradict one another.
            ModelError: an unknown, incomplete or altered model or language model.
        """
        if "pretty" in options:
            warnings.warn("pretty is called readable now", DeprecationWarning, stacklevel=2)
            options.setdefault("readable", options.pop("pretty"))
        unknown = set(options) - {field.name for field in fields(RecognizerOptions)}
        if unknown:
            raise UsageError(f"unknown option {min(unknown)!r}; see RecognizerOptions")
        return cls.open(RecognizerOptions(model, **options))

    @classmethod
    def open(cls, options: RecognizerOptions) -> Recognizer:
        """Load a model as options ask for it; raises what `load` raises."""
        package = ModelPackage.open(options.model, weights=False)
        with ThreadPoolExecutor(3) as beside:  # most of what takes long lets go of Python's lock
            intact = beside.submit(package.verify_weights, options.engine)
            engine = beside.submit(lambda: options.open_engine(package, options.head(package)))
            readable = beside.submit(options.open_readable, package)
            decoder = options.open_decoder(package)
            intact.result()
            runner = Runner(engine.result(), decoder, options.endpoint, options.stability)
            opened = cls(runner, decoder, engine.result(), readable.result(), (options, package))
        give_back_memory()
        return opened

    @property
    def decoder(self) -> str:
        """``lm`` or ``greedy``."""
        return self._decoder.name

    @property
    def sample_rate(self) -> int:
        """Samples a second that the model works at."""
        return self._runner.sample_rate

    def transcribe(
        self,
        audio: str | os.PathLike[str] | BinaryIO | bytes | np.ndarray,
        sample_rate: int | None = None,
        *,
        chunk_ms: int = FILE_CHUNK_MS,
        track: str | int | None = None,
    ) -> Result:
        """Recognise a whole recording.

        Args:
            audio: any audio or video file, as a path, a binary file object or its bytes; or samples: (N,) or
                (N, channels), float in [-1, 1], int16 or int32.
            sample_rate: of an array, in Hz; the model's own when not given.
            chunk_ms: length of the pieces of audio given to the model; the text does not depend on it.
            track: of a file with several audio tracks, the number, from 1, or the language as the file tags it; by
                default the one in the model's language, then the file's default one, then the first.
        Returns:
            One final result from 0 to the length of the recording.
        Raises:
            AudioError: audio that is missing, empty, not audio; `DamagedAudioError` when only a part of a file could
                be decoded: its ``result`` is of that part.
            UsageError: a sample rate or chunk length out of range, or a rate given for a file.
        """
        if isinstance(audio, bytes | bytearray | memoryview):
            audio = io.BytesIO(audio)
        if not isinstance(audio, np.ndarray) and (isinstance(audio, str | os.PathLike) or hasattr(audio, "read")):
            if sample_rate is not None:
                raise UsageError("sample_rate goes with an array; a file states its own")
            with AudioFile(audio, self.sample_rate, track) as file:
                result = self._whole(file, chunk_ms)
            if file.damage is not None:
                raise DamagedAudioError(file.damage, result)
            return result
        samples = as_samples(audio)
        if len(samples) == 0:
            raise AudioError("audio holds no samples: it is 0 s long")
        return self._whole(self._at_model_rate([samples], sample_rate), chunk_ms)

    def trace(self, samples: np.ndarray) -> tuple[Result, np.ndarray]:
        """Recognise samples (N,) at ``sample_rate`` and keep what the decoder was given.

        Returns:
            As `transcribe`; and the natural-log probabilities (T, V) of phones, or of characters for decoder greedy.
        """
        rows: list[np.ndarray] = []
        result = self._with(self._runner.observed(rows.append)).transcribe(samples)
        return result, self._decoder.symbol_log_probs(np.concatenate(rows))

    def stream(self, chunks: Iterable[Any], sample_rate: int | None = None) -> Iterator[Result]:
        """Recognise audio while it arrives.

        Args:
            chunks: arrays of any length, 0 included, as for `transcribe`.
            sample_rate: of the chunks, in Hz; the model's own when not given.
        Yields:
            A partial result whenever the text of the utterance being spoken has changed or more of it is committed, and
            a final one when it is over. What is still open when the chunks end becomes final.
        Raises:
            AudioError: a chunk that is not audio.
            UsageError: no iterable of arrays, or a recogniser with full context.
        """
        if isinstance(chunks, np.ndarray | str | bytes):
            raise UsageError("stream takes an iterable of arrays; use transcribe for one array or a file")
        if self._engine.full_context:
            raise UsageError("with full context results come at the end only; use transcribe, or load without it")
        named = (as_samples(chunk, f"chunk {number}") for number, chunk in enumerate(chunks))
        return self._results(self._at_model_rate(named, sample_rate))

    def with_endpoint(self, rule: EndpointRule) -> Recognizer:
        """The same recogniser with another rule for the end of an utterance; they share the model and the states."""
        return self._with(self._runner.with_rule(rule))

    def with_readable(self, readable: bool = True) -> Recognizer:
        """The same recogniser whose results are written for readers, or in normal form.

        A recogniser that was loaded without a punctuation model takes the shipped one.

        Raises:
            ModelError: the punctuation model is missing or altered.
        """
        text = None
        if readable:
            text = self._readable or open_readable()
        return Recognizer(self._runner, self._decoder, self._engine, text, self._made_of)

    def with_hotwords(self, hotwords: Mapping[str, float] | Iterable[str]) -> Recognizer:
        """The same recogniser with more hotwords, for new streams; they share the model's network, not the states.

        Building it takes as long as loading the language model, and it holds a decoding graph of its own.

        Args:
            hotwords: as for `RecognizerOptions`, beside those that it has.
        Raises:
            UsageError: hotwords that cannot be used, or a recogniser whose decoder knows none.
        """
        if self._made_of is None:
            raise UsageError("a recogniser that was put together from parts cannot be given hotwords")
        options, package = self._made_of
        wanted = {" ".join(one.words): one.boost for one in read_hotwords(hotwords)}
        if options.hotwords is not None:
            before = {" ".join(one.words): one.boost for one in read_hotwords(options.hotwords)}
            wanted = {phrase: max(wanted.get(phrase, 0.0), before.get(phrase, 0.0)) for phrase in before | wanted}
        options = replace(options, decoder="lm" if options.grammar is None else options.decoder, hotwords=wanted)
        decoder = options.open_decoder(package)
        runner = Runner(self._engine, decoder, options.endpoint, options.stability)
        return Recognizer(runner, decoder, self._engine, self._readable, (options, package))

    def close(self) -> None:
        """End batching: steps under way are finished, later ones refused. Without batching there is nothing to end."""
        self._engine.close()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> RecognizerState:
        """The state of a stream before any audio. States are immutable: keep, replay or fork them as you like."""
        return RecognizerState(self._runner.start(), None)

    def step(self, state: RecognizerState, samples: Any) -> tuple[tuple[Result, ...], RecognizerState]:
        """Recognise samples at ``sample_rate`` (another rate needs `stream` or `asr.streaming.sources.Resampler`).

        Returns:
            Utterances that ended, as final results, then a partial result if its text changed or more of it is
            committed; and the next state.
        Raises:
            AudioError: samples that are not audio, as for `transcribe`.
        """
        results, runner = self._runner.step(state.runner, as_samples(samples))
        results, readable = self.written(results, state.readable)
        return results, RecognizerState(runner, readable)

    def finish(self, state: RecognizerState) -> tuple[tuple[Result, ...], RecognizerState]:
        """End a stream: its last final results, and the state of a new stream."""
        results, runner = self._runner.finish(state.runner)
        results, _ = self.written(results, state.readable, last=True)
        return results, RecognizerState(runner, None)

    def alternatives(self, state: RecognizerState, count: int = 5) -> tuple[Alternative, ...]:
        """At most ``count`` distinct texts of the utterance being spoken if it ended now, likeliest first.

        Raises:
            UsageError: the decoder is greedy, which has one text only; or a count below 1.
        """
        if type(count) is not int or count < 1:
            raise UsageError(f"count must be a whole number from 1, got {count!r}")
        return self._runner.alternatives(state.runner, count)

    def written(
        self, results: tuple[Result, ...], state: ReadableState | None, last: bool = False
    ) -> tuple[tuple[Result, ...], ReadableState | None]:
        """Results for readers, if they are wanted; ``last``: the stream ends with them."""
        if self._readable is None:
            return results, None
        state = state or self._readable.start()
        written = []
        for result in results:
            one, state = self._readable.write(result, state, last and result is results[-1])
            written.append(one)
        return tuple(written), state

    def ahead(self) -> Ahead | None:
        """A recording on two cores, where there are two and its network can run ahead of its words."""
        batched = isinstance(self._engine, BatchedEngine)  # other recordings use the cores
        return Ahead(self._runner) if two_cores() and self._runner.hears_ahead and not batched else None

    def _with(self, runner: Runner) -> Recognizer:
        """The same recogniser with another runner."""
        return Recognizer(runner, self._decoder, self._engine, self._readable, self._made_of)

    def _whole(self, blocks: Iterable[np.ndarray], chunk_ms: int) -> Result:
        transcript = Transcript(self)
        for chunk in rechunked(blocks, chunk_samples(chunk_ms, self.sample_rate)):
            transcript.accept(chunk)
        return transcript.result()

    def _results(self, chunks: Iterable[np.ndarray]) -> Iterator[Result]:
        state = self.start()
        for chunk in chunks:
            results, state = self.step(state, chunk)
            yield from results
        results, _ = self.finish(state)
        yield from results

    def _at_model_rate(self, chunks: Iterable[np.ndarray], sample_rate: int | None) -> Iterator[np.ndarray]:
        rate = self.sample_rate if sample_rate is None else check_rate(sample_rate)
        return resampled(chunks, rate, self.sample_rate)


def chunk_samples(chunk_ms: int, sample_rate: int) -> int:
    """Samples in a chunk of so many milliseconds; raises UsageError unless that is a whole number from 1."""
    if type(chunk_ms) is not int or chunk_ms < 1:
        raise UsageError(f"chunk_ms must be a whole number from 1, got {chunk_ms!r}")
    return max(1, chunk_ms * sample_rate // 1_000)
