"""The recogniser: a model, a decoder and an endpoint rule, ready for files, arrays and live streams."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage
from asr.audio.files import AudioFile
from asr.audio.samples import as_samples, check_rate
from asr.decoding.acoustic_units import units_of
from asr.decoding.beam import GraphDecoder
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.rescoring import Rescorer, Rescoring
from asr.errors import AudioError, DamagedAudioError, UsageError
from asr.lm.folder import LanguageModel
from asr.lm.grammar_graph import grammar_model
from asr.lm.hotword_graph import with_hotwords
from asr.lm.hotwords import read_hotwords
from asr.streaming.batcher import BatchedEngine, Batching
from asr.streaming.endpoint import EndpointRule
from asr.streaming.engine import Engine, TorchEngine
from asr.streaming.results import Alternative, Result, joined
from asr.streaming.runner import Decoder, Runner, RunnerState
from asr.streaming.sources import rechunked, resampled
from asr.streaming.stability import StabilityRule
from asr.words.pretty import pretty as pretty_result

ENGINES = ("onnx", "int8", "torch")
DECODERS = ("lm", "greedy")
FILE_CHUNK_MS = 2_000


class Recognizer:
    """Recognises speech. It keeps nothing of a stream, so one recogniser serves any number of streams and threads.

    >>> recognizer = Recognizer.load()
    >>> print(recognizer.transcribe("speech.wav").text)
    """

    def __init__(self, runner: Runner, decoder: Decoder, engine: Engine, pretty: bool = False) -> None:
        """Wrap a runner, its decoder and its engine; `Recognizer.load` makes one from a model folder."""
        self._runner = runner
        self._decoder = decoder
        self._engine = engine
        self._pretty = pretty

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT_MODEL,
        *,
        engine: str = "onnx",
        decoder: str | None = None,
        lm: str | Path | None = None,
        hotwords: str | Path | Mapping[str, float] | Iterable[str] | None = None,
        grammar: str | Path | None = None,
        endpoint: EndpointRule | None = None,
        stability: StabilityRule | None = None,
        threads: int = 1,
        batching: Batching | None = None,
        pretty: bool = False,
        full_context: bool = False,
        rescoring: str | Path | Rescoring | None = None,
    ) -> Recognizer:
        """Load a model.

        Args:
            model: the name of a shipped model or the path of a model folder.
            engine: ``onnx``; ``int8``, much faster, whose text may depend a little on the chunks; or ``torch`` (needs
                torch installed).
            decoder: ``lm``: words of a lexicon, weighed by a language model; ``greedy``: the most probable character of
                each frame. ``lm`` by default, unless the model has no language model.
            lm: folder of another language model than the model's own; `asr lm build` makes one.
            hotwords: words and phrases that are likelier than the language model thinks, each ``phrase`` or
                ``phrase:boost``, or a mapping of boosts (nats a word): several, or one string with commas between them,
                or the path of a file that has one a line.
            grammar: path of a file that says what may be said, in the notation of `asr.lm.grammar`, and nothing else is
                recognised; it takes the place of the language model.
            endpoint: when an utterance of a stream is over.
            stability: when words of a partial result are promised to stay.
            threads: cores that the onnx engine may use for one stream.
            batching: how the network steps of threads that have audio waiting are run together; without it each
                thread runs its own.
            pretty: whether results are written with capitals, full stops and figures, as `asr.words.pretty` does.
            full_context: whether a bidirectional network (encoder blstm) hears a recording whole before it speaks; not
                for live streams.
            rescoring: an LSTM language model, from `asr lm train-lstm`, that has the last word on final results: its
                folder, or how it is used.
        Raises:
            UsageError: an unknown engine or decoder, an engine that is not installed, a number of threads below 1, no
                language model for ``lm``, hotwords that cannot be heeded, a wrong grammar or one
                beside ``lm`` or ``hotwords``, batching for ``torch`` or with full context, full context for a model
                that is not bidirectional.
            ModelError: an unknown, incomplete or altered model or language model.
        """
        _check_choice("engine", engine, ENGINES)
        if decoder is not None:
            _check_choice("decoder", decoder, DECODERS)
        if type(threads) is not int or threads < 1:
            raise UsageError(f"threads must be a whole number from 1, got {threads!r}")
        package = ModelPackage.open(model)
        words = _open_decoder(package, decoder, lm, hotwords, grammar, rescoring)
        network = _open_engine(package, engine, words.head, threads, batching, full_context)
        return cls(Runner(network, words, endpoint, stability), words, network, pretty)

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
        audio: str | os.PathLike[str] | np.ndarray,
        sample_rate: int | None = None,
        *,
        chunk_ms: int = FILE_CHUNK_MS,
        track: str | int | None = None,
    ) -> Result:
        """Recognise a whole recording.

        Args:
            audio: the path of any audio or video file, or samples: (N,) or (N, channels), float in [-1, 1], int16 or
                int32.
            sample_rate: of an array, in Hz; the model's own when not given.
            chunk_ms: audio given to the model at once; the text does not depend on it.
            track: of a file with several audio tracks, the number, from 1, or the language as the file tags it; by
                default the one in the model's language, then the file's default one, then the first.
        Returns:
            One final result from 0 to the length of the recording.
        Raises:
            AudioError: audio that is missing, empty, not audio; `DamagedAudioError` when only a part of a file could
                be decoded: its ``result`` is what was recognised in that part.
            UsageError: a sample rate or chunk length out of range, or a rate given for a file.
        """
        if isinstance(audio, str | os.PathLike):
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
        """Recognise samples (N,) at ``sample_rate`` and keep what the decoder heard.

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
            raise UsageError("with full context nothing is said before the end; use transcribe, or load without it")
        named = (as_samples(chunk, f"chunk {number}") for number, chunk in enumerate(chunks))
        return self._results(self._at_model_rate(named, sample_rate))

    def with_endpoint(self, rule: EndpointRule) -> Recognizer:
        """The same recogniser with another rule for the end of an utterance; they share the model and the states."""
        return self._with(self._runner.with_rule(rule))

    def with_pretty(self, pretty: bool) -> Recognizer:
        """The same recogniser whose results are written as `asr.words.pretty` does, or as they are spoken."""
        return Recognizer(self._runner, self._decoder, self._engine, pretty)

    def close(self) -> None:
        """End batching: steps under way are finished, later ones refused. Without batching there is nothing to end."""
        self._engine.close()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> RunnerState:
        """The state of a stream before any audio. States are immutable: keep, replay or fork them as you like."""
        return self._runner.start()

    def step(self, state: RunnerState, samples: Any) -> tuple[tuple[Result, ...], RunnerState]:
        """Hear samples at ``sample_rate`` (another rate needs `stream` or `asr.streaming.sources.Resampler`).

        Returns:
            Utterances that ended, as final results, then a partial result if its text changed or more of it is
            committed; and the next state.
        Raises:
            AudioError: samples that are not audio, as for `transcribe`.
        """
        results, state = self._runner.step(state, as_samples(samples))
        return self._written(results), state

    def finish(self, state: RunnerState) -> tuple[tuple[Result, ...], RunnerState]:
        """End a stream: its last final results, and the state of a new stream."""
        results, state = self._runner.finish(state)
        return self._written(results), state

    def alternatives(self, state: RunnerState, count: int = 5) -> tuple[Alternative, ...]:
        """What the utterance being spoken may be if it ends now: distinct texts, likeliest first, at most ``count``.

        Raises:
            UsageError: the decoder is greedy, which knows one text only; or a count below 1.
        """
        if type(count) is not int or count < 1:
            raise UsageError(f"count must be a whole number from 1, got {count!r}")
        return self._runner.alternatives(state, count)

    def _written(self, results: tuple[Result, ...]) -> tuple[Result, ...]:
        return tuple(map(pretty_result, results)) if self._pretty else results

    def _with(self, runner: Runner) -> Recognizer:
        """The same recogniser with another runner."""
        return Recognizer(runner, self._decoder, self._engine, self._pretty)

    def _whole(self, blocks: Iterable[np.ndarray], chunk_ms: int) -> Result:
        transcript = Transcript(self)
        for chunk in rechunked(blocks, chunk_samples(chunk_ms, self.sample_rate)):
            transcript.hear(chunk)
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


class Transcript:
    """A recording as far as it has been heard; its result can be asked for at any time, without ending it."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self._state = recognizer.start()
        self._finals: tuple[Result, ...] = ()

    @property
    def seconds(self) -> float:
        """Length of the audio heard."""
        return self._state.samples / self._recognizer.sample_rate

    def hear(self, samples: np.ndarray) -> None:
        """Hear samples (N,) at the recogniser's rate."""
        results, self._state = self._recognizer.step(self._state, samples)
        self._finals += tuple(result for result in results if result.final)

    def result(self) -> Result:
        """One final result from 0 to the end of what was heard, as if the recording ended there."""
        last, _ = self._recognizer.finish(self._state)
        return joined(self._finals + last, self.seconds)


def chunk_samples(chunk_ms: int, sample_rate: int) -> int:
    """Samples in a chunk of so many milliseconds; raises UsageError unless that is a whole number from 1."""
    if type(chunk_ms) is not int or chunk_ms < 1:
        raise UsageError(f"chunk_ms must be a whole number from 1, got {chunk_ms!r}")
    return max(1, chunk_ms * sample_rate // 1_000)


def _open_decoder(
    package: ModelPackage,
    decoder: str | None,
    lm: str | Path | None,
    hotwords: str | Path | Mapping[str, float] | Iterable[str] | None,
    grammar: str | Path | None,
    rescoring: str | Path | Rescoring | None,
) -> Decoder:
    units = units_of(package)
    if grammar is not None:
        for what, given in {
            "lm": lm,
            "hotwords": hotwords,
            "rescoring": rescoring,
            "decoder greedy": decoder == "greedy" or None,
        }.items():
            if given is not None:
                raise UsageError(f"a grammar takes the place of the language model; leave out {what}, or the grammar")
        return GraphDecoder(grammar_model(Path(grammar), package.phones, units.weights), units=units)
    folder = package.language_model if lm is None else Path(lm)
    if decoder == "greedy" or (decoder is None and folder is None):
        if lm is not None:
            raise UsageError("greedy decoding uses no language model; leave out lm, or take decoder lm")
        if hotwords is not None:
            raise UsageError("greedy decoding knows no words, so hotwords cannot apply; take decoder lm")
        if rescoring is not None:
            raise UsageError("greedy decoding knows one text only, so rescoring cannot apply; take decoder lm")
        return GreedyDecoder(package.characters.symbols)
    if folder is None:
        raise UsageError(f"model {package.name} has no language model; give lm a folder that 'asr lm build' made")
    wanted = None if hotwords is None else read_hotwords(hotwords)
    model = LanguageModel.open(folder, package.phones, units.weights)
    if wanted is not None:
        model = with_hotwords(model, wanted, package.phones)
    if rescoring is None:
        return GraphDecoder(model, units=units)
    options = rescoring if isinstance(rescoring, Rescoring) else Rescoring(rescoring)
    return GraphDecoder(model, rescorer=Rescorer(options, model.words), units=units)


def _open_engine(
    package: ModelPackage, engine: str, head: str, threads: int, batching: Batching | None, full_context: bool
) -> Engine:
    if full_context and package.encoder != "blstm":
        raise UsageError(
            f"full context needs a bidirectional model (encoder blstm); {package.name} has encoder {package.encoder}, "
            "which hears the past and a fixed look-ahead: leave out full context"
        )
    if full_context and batching is not None:
        raise UsageError("with full context every recording is run alone; leave out batching, or full context")
    if engine != "torch":
        network = package.engine(engine, head, threads, full_context)
        return network if batching is None else BatchedEngine(network, batching)
    if batching is not None:
        raise UsageError("engine torch runs one stream at a time; leave out batching, or take onnx or int8")
    try:
        from asr.acoustic.export import load_acoustic_model
    except ImportError as error:
        raise UsageError(
            f"engine torch needs {error.name}, which is not installed: pip install 'rill-asr[train]', or take onnx"
        ) from error
    return TorchEngine(load_acoustic_model(package.folder), head, full_context)


def _check_choice(what: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"unknown {what} {value!r}; give {' or '.join(allowed)}")
