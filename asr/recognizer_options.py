"""What a recogniser is made of: one object that commands, worker processes and servers hand on."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.acoustic.folder import DEFAULT_MODEL, PUNCTUATION, ModelPackage, find_model
from asr.decoding.acoustic_units import units_of
from asr.decoding.beam import GraphDecoder, Searched
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.rescoring import Rescorer, Rescoring
from asr.errors import ModelError, RillWarning, UsageError, how_to_install
from asr.lm.folder import LanguageModel
from asr.lm.hotwords import read_hotwords, with_hotwords
from asr.streaming.batcher import BatchedEngine, Batching
from asr.streaming.endpoint import EndpointRule
from asr.streaming.engine import Engine, TorchEngine
from asr.streaming.stability import StabilityRule
from asr.words.readable import ReadableText
from asr.words.tagger import ENGLISH, Tagger

if TYPE_CHECKING:
    from asr.streaming.runner import Decoder

ENGINES = ("int8", "onnx", "torch")
DECODERS = ("lm", "greedy")


@dataclass(frozen=True)
class RecognizerOptions:
    """What `Recognizer.load` takes. Options that contradict one another raise UsageError when the object is made.

    Attributes:
        model: the name of a shipped model or the path of a model folder.
        engine: ``int8``, whose text may depend a little on the chunks where the processor has no AVX-512 VNNI;
            ``onnx``, several times slower, in fp32: the same text for any chunks; or ``torch``, the same with torch,
            which must be installed.
        decoder: ``lm``: words of a lexicon, weighted by a language model; ``greedy``: the most probable character of
            each frame. ``lm`` by default, unless the model has no language model.
        lm: folder of another language model than the model's own; `asr lm build` makes one.
        hotwords: words and phrases that are more likely than the language model predicts, each ``phrase`` or
            ``phrase:boost``, or a mapping of boosts (nats per word): several, or one string with commas between them,
            or the path of a file with one per line.
        grammar: path of a file that lists all sentences that can be recognised, in the notation of `asr.lm.grammar`; it
            takes the place of the language model.
        endpoint: when an utterance of a stream is over.
        stability: when words of a partial result are committed.
        threads: cores that the onnx engine may use for one stream.
        batching: how the network steps of threads that have audio waiting are run together; without it each thread
            runs its own.
        readable: whether results are written for readers, with marks, capitals and numbers in figures; or the folder of
            a punctuation model that `asr train-punctuation` made, to do so with it.
        full_context: whether a bidirectional network (encoder blstm) sees the whole recording before it gives results;
            not for live streams.
        rescoring: an LSTM language model, from `asr lm train-lstm`, that rescores words: its folder, or how it is used.
            By default it is the language model's own, if it has one; False: none.
    """

    model: str | Path = DEFAULT_MODEL
    engine: str = "int8"
    decoder: str | None = None
    lm: str | Path | None = None
    hotwords: str | Path | Mapping[str, float] | Iterable[str] | None = None
    grammar: str | Path | None = None
    endpoint: EndpointRule | None = None
    stability: StabilityRule | None = None
    threads: int = 1
    batching: Batching | None = None
    readable: bool | str | Path = False
    full_context: bool = False
    rescoring: str | Path | Rescoring | bool | None = None

    def __post_init__(self) -> None:
        _check_choice("engine", self.engine, ENGINES)
        if self.decoder is not None:
            _check_choice("decoder", self.decoder, DECODERS)
        if type(self.threads) is not int or self.threads < 1:
            raise UsageError(f"threads must be a whole number from 1, got {self.threads!r}")
        if self.grammar is not None:
            replaced = {"lm": self.lm, "hotwords": self.hotwords, "rescoring": self.rescoring or None}
            for name in [name for name, value in replaced.items() if value is not None]:
                raise UsageError(f"a grammar takes the place of the language model; leave out {name}, or the grammar")
        if self.decoder == "greedy":
            self._check_greedy()
        if self.batching is not None and self.full_context:
            raise UsageError("with full context every recording is run alone; leave out batching, or full context")
        if self.batching is not None and self.engine == "torch":
            raise UsageError("engine torch runs one stream at a time; leave out batching, or take onnx or int8")

    def _check_greedy(self) -> None:
        if self.grammar is not None:
            raise UsageError(
                "a grammar takes the place of the language model; leave out decoder greedy, or the grammar"
            )
        if self.lm is not None:
            raise UsageError("greedy decoding uses no language model; leave out lm, or take decoder lm")
        if self.hotwords is not None:
            raise UsageError("greedy decoding has no vocabulary, so hotwords cannot apply; take decoder lm")
        if self.rescoring:
            raise UsageError("greedy decoding gives one text only, so rescoring cannot apply; take decoder lm")

    def for_another_process(self) -> RecognizerOptions:
        """The same options for a process in another folder: hotwords are read, and paths are absolute.

        Raises:
            UsageError: hotwords that cannot be used.
        """
        hotwords = self.hotwords
        if hotwords is not None:
            hotwords = {" ".join(one.words): one.boost for one in read_hotwords(hotwords)}
        rescoring = self.rescoring
        if isinstance(rescoring, Rescoring):
            rescoring = replace(rescoring, folder=_absolute(rescoring.folder))
        elif not isinstance(rescoring, bool):
            rescoring = _absolute(rescoring)
        return replace(
            self,
            model=_absolute(self.model) or self.model,
            lm=_absolute(self.lm),
            grammar=_absolute(self.grammar),
            readable=self.readable if isinstance(self.readable, bool) else _absolute(self.readable) or self.readable,
            hotwords=hotwords,
            rescoring=rescoring,
        )

    def open_decoder(self, package: ModelPackage) -> Decoder:
        """The decoder of a model.

        Raises:
            UsageError: no language model for ``lm``, hotwords that cannot be used, a wrong grammar.
            ModelError: an unknown, incomplete or altered language model.
        """
        units = units_of(package)
        if self.grammar is not None:
            from asr.lm.grammar import grammar_model  # which loads OpenFst

            return GraphDecoder(grammar_model(Path(self.grammar), package.phones, units.weights), units=units)
        folder = self._language_model(package)
        if self._is_greedy(package):
            self._check_greedy()
            if self.decoder is None and package.biphones is not None:
                warnings.warn(_no_language_model(package), RillWarning, stacklevel=4)
            return GreedyDecoder(package.characters.symbols)
        if folder is None:
            raise UsageError(f"model {package.name} has no language model; give lm a folder that 'asr lm build' made")
        wanted = None if self.hotwords is None else read_hotwords(self.hotwords)
        model = LanguageModel.open(folder, package.phones, units.weights)
        if wanted is not None:
            model = with_hotwords(model, wanted, package.phones)
        with ThreadPoolExecutor(1) as beside:
            searched = beside.submit(Searched.of, model)
            rescorer = self._rescorer(model)
            return GraphDecoder(model, rescorer=rescorer, units=units, searched=searched.result())

    def head(self, package: ModelPackage) -> str:
        """The output of a model's network that the decoder will read."""
        return GreedyDecoder.head if self._is_greedy(package) else units_of(package).head

    def _is_greedy(self, package: ModelPackage) -> bool:
        undecided = self.decoder is None and self.grammar is None
        return self.decoder == "greedy" or (undecided and self._language_model(package) is None)

    def _language_model(self, package: ModelPackage) -> Path | None:
        return package.language_model if self.lm is None else Path(self.lm)

    def _rescorer(self, model: LanguageModel) -> Rescorer | None:
        given = self.rescoring
        options = given if isinstance(given, Rescoring) else Rescoring(None if isinstance(given, bool) else given)
        folder = options.folder or model.lstm
        if given is False or options.weight == 0 or (folder is None and not given):
            return None
        if folder is None:
            raise UsageError(f"language model {model.folder} has no LSTM; give rescoring a folder of one")
        return Rescorer(Path(folder), options, model.words)

    def open_readable(self, package: ModelPackage) -> ReadableText | None:
        """What writes results for readers, if they are wanted: by the model's own punctuation model or the shipped one.

        Raises:
            ModelError: an incomplete or altered punctuation model, or one for another language than the model's.
        """
        if not isinstance(self.readable, bool):
            return open_readable(Path(self.readable), package.language)
        return open_readable(package.punctuation, package.language) if self.readable else None

    def open_engine(self, package: ModelPackage, head: str) -> Engine:
        """The network of a model, ready to give the posteriors of one of its heads.

        Raises:
            UsageError: full context for a model that is not bidirectional, or an engine that is not installed.
            ModelError: a graph that cannot be loaded, or without this head.
        """
        if self.full_context and package.encoder != "blstm":
            raise UsageError(
                f"full context needs a bidirectional model (encoder blstm); {package.name} has encoder "
                f"{package.encoder}, which sees the past and a fixed look-ahead: leave out full context"
            )
        if self.engine != "torch":
            network = package.engine(self.engine, head, self.threads, self.full_context)
            return network if self.batching is None else BatchedEngine(network, self.batching)
        try:
            from asr.acoustic.export import load_acoustic_model
        except ImportError as error:
            raise UsageError(
                f"engine torch needs the package {error.name}, which is not installed: take another engine, or "
                f"{how_to_install('train')}"
            ) from error
        return TorchEngine(load_acoustic_model(package.folder), head, self.full_context)


def _no_language_model(package: ModelPackage) -> str:
    return (
        f"{package.folder} has no language model, so it writes the likeliest characters, which spell no words: copy "
        "the folder lm of the model it was trained from into it, build one there with 'asr lm build', or choose "
        "decoder greedy to say that this is meant"
    )


def open_readable(folder: Path | None = None, language: str = ENGLISH) -> ReadableText:
    """What writes results for readers by a punctuation model, the shipped one by default; it is read once.

    Raises:
        ModelError: it is missing, altered or for another language.
    """
    tagger = _tagger(folder or find_model(DEFAULT_MODEL) / PUNCTUATION)
    if language != tagger.language:
        raise ModelError(
            f"{tagger.folder} writes text in language {tagger.language!r}, the model's is {language!r}: take --plain, "
            "or a punctuation model for it"
        )
    return ReadableText(tagger)


@cache
def _tagger(folder: Path) -> Tagger:
    return Tagger.open(folder)


def _check_choice(what: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"unknown {what} {value!r}; give {' or '.join(allowed)}")


def _absolute(path: str | Path | None) -> str | Path | None:
    """A path as it is from any folder; the name of a shipped model stays as it is."""
    return Path(path).absolute() if path is not None and Path(path).exists() else path
