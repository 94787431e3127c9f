"""Language model folders: a decoding graph, its lexicon, and the weights it is used with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from asr.errors import ModelError
from asr.files import Description, write_description
from asr.graph.graph import Graph, StoredGraph
from asr.lm import lstm
from asr.lm.large_ngrams import LargeNgrams
from asr.lm.stored_lexicon import stored_lexicon
from asr.lm.stored_ngrams import StoredLargeNgrams
from asr.words.tokens import TokenTable

FORMAT = 2
GRAPH, LEXICON = "graph.packed", "lexicon.txt"
SECOND = "second.packed"  # in folders with a larger n-gram model of the same words
LSTM = "lstm"  # a folder in those with an LSTM that rescores the words of both
REMEDY = "fetch it again, or build one with 'asr lm build'"
MOST_WEIGHT = 1e6  # a larger one is a mistake, and NaN is none


@dataclass(frozen=True)
class DecodingWeights:
    """Weights of the scores in decoding; the defaults are for CTC."""

    language_weight: float = 0.9  # factor on the graph's costs
    word_cost: float = 0.75  # nats per word
    blank_penalty: float = 0.5  # nats per frame of blank, or of silence
    silence_cost: float = 2.0  # nats per silence, with phone states
    least_confidence: float = 0.3  # mean over an utterance's words; below it the utterance is rejected as noise
    lone_confidence: float = 0.0  # the same of an utterance of one word, if it is more: noise seldom sounds like two
    other_speech_cost: float = 2.0  # nats per phone outside the sentences of a grammar
    first_weight: float = 0.2  # factor on the graph's costs where a large second model has given its own
    second_weight: float = 1.05  # factor on the costs of that model


CTC_WEIGHTS = DecodingWeights()
STATE_WEIGHTS = DecodingWeights(
    1.15, word_cost=1.0, blank_penalty=0.0, silence_cost=0.5, lone_confidence=0.54, other_speech_cost=3.0
)


class Twin(NamedTuple):
    """A word with a number of its own because it is boosted."""

    word: int  # the number of the same word in the second model; 0: it is not in it
    boost: float  # nats


@dataclass(frozen=True)
class LanguageModel:
    """A language model folder that has been read and verified."""

    folder: Path
    words: Sequence[str]  # id 0 is no word
    pronunciations: Sequence[tuple[tuple[int, ...], ...]]  # of each word, as phone ids
    graph: Graph | StoredGraph
    weights: DecodingWeights
    second: StoredLargeNgrams | None = None  # a larger n-gram model of the same words
    twins: tuple[Twin, ...] = ()  # what the last of the words are for it: those that hotwords have added

    @property
    def lstm(self) -> Path | None:
        """The folder of the LSTM language model that came with it, if one did."""
        folder = self.folder / LSTM
        return folder if folder.is_dir() else None

    @classmethod
    def open(cls, folder: Path, phones: TokenTable, default: DecodingWeights = CTC_WEIGHTS) -> LanguageModel:
        """Read and verify a folder that `write_language_model` wrote.

        Args:
            folder: to read.
            phones: of the acoustic model it will decode.
            default: weights to decode with that the folder does not name.
        Raises:
            ModelError: a file is missing or altered, or the graph was built for other phones.
        """
        description = Description.read(folder, "language model", (FORMAT,), REMEDY)
        tokens = description.value("phones")
        try:
            weights = replace(default, **description.content.get("weights", {}))
            if not isinstance(tokens, list):
                raise TypeError("its phones are no list")
            for name, weight in asdict(weights).items():
                if type(weight) not in (int, float) or not abs(weight) <= MOST_WEIGHT:
                    raise ValueError(f"{name} is {weight!r}")
        except (TypeError, ValueError) as error:
            raise description.wrong(str(error)) from error
        if tuple(tokens) != phones.symbols:
            raise ModelError(
                f"language model {folder} was built for {len(tokens)} other tokens than the {len(phones)} phones of "
                "the acoustic model; build it again with this version"
            )
        words, pronunciations = stored_lexicon(
            folder / LEXICON, description.checksums(LEXICON)[LEXICON], partial(description.verified, LEXICON), phones
        )
        graph = StoredGraph(partial(description.verified, GRAPH), description.checksums(GRAPH)[GRAPH], folder / GRAPH)
        second = None
        if SECOND in description.checksums():
            read = partial(description.verified, SECOND)
            second = StoredLargeNgrams(folder / SECOND, description.checksums(SECOND)[SECOND], len(words) - 1, read)
        return cls(folder, words, pronunciations, graph, weights, second)


def write_language_model(
    folder: Path,
    graph: Graph,
    pronunciations: Sequence[tuple[str, Sequence[int]]],
    phones: TokenTable,
    weights: DecodingWeights | None,
    about: dict[str, object],
    second: LargeNgrams | None = None,
) -> None:
    """Write a folder; `config.json` with the checksums and ``about`` is written last.

    Without weights it is decoded with the defaults of the acoustic model's units. ``second`` is a larger n-gram model
    whose words are those of the pronunciations.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GRAPH).write_bytes(graph.packed())
    lines = (f"{word} {' '.join(phones.decode(sound))}\n" for word, sound in pronunciations)
    (folder / LEXICON).write_text("".join(lines), encoding="utf-8")
    description = {
        "format": FORMAT,
        **about,
        "phones": phones.symbols,
        **({} if weights is None else {"weights": asdict(weights)}),
    }
    if second is None:
        (folder / SECOND).unlink(missing_ok=True)
    else:
        (folder / SECOND).write_bytes(second.pack())
    write_description(folder, description, (GRAPH, LEXICON, *([] if second is None else [SECOND])))


def copy_language_model(source: Path, target: Path) -> None:
    """Copy the folder of a language model, with its LSTM if it has one.

    Raises:
        ModelError: it is incomplete or altered.
    """
    Description.read(source, "language model", (FORMAT,), REMEDY).copy_to(target)
    copy_lstm(source, target)


def copy_lstm(source: Path, target: Path) -> None:
    """Copy the LSTM of a language model, if it has one, into the folder of another; raises as `copy_language_model`."""
    if (source / LSTM).is_dir():
        Description.read(source / LSTM, lstm.NAME, (lstm.FORMAT,), lstm.REMEDY).copy_to(target / LSTM)
