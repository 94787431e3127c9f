"""Marks and capitals of words by an LSTM over words and pauses; a verified folder, and its arithmetic without torch.

The network reads word by word and says of each, a few words later, which mark follows it and how it is capitalised
(Tilk & Alumäe 2015, "LSTM for punctuation restoration in speech transcripts", with look-ahead in place of a second,
backward network, so that it can follow live speech). Its state is a value that is passed in and returned.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.errors import ModelError
from asr.files import Description, write_description
from asr.words.packed_weights import pack_weights, sigmoid, unpack_weights

FORMAT = 1
KIND = "punctuation"
ENGLISH = "en"  # the language whose abbreviations and numbers are known
WEIGHTS, WORDS, FORMS, NAMES = "weights.npz", "words.txt", "forms.txt", "names.txt"
REMEDY = "train one with 'asr train-punctuation'"
BREAK, UNKNOWN = 0, 1  # ids of no word, read where speech breaks off, and of any word outside the vocabulary
MARKS = ("", ",", ".", "?", "!")
ENDINGS = frozenset(".?!")
LOWER, CAPITAL, UPPER = SHAPES = range(3)
SUFFIX_LETTERS = 3
PHRASE_WORDS = 3  # at most
PAUSE_BORDERS = (0.06, 0.15, 0.3, 0.5, 0.8, 1.5)  # seconds; between the classes of pauses
PAUSES = len(PAUSE_BORDERS) + 2  # class 0 is an unknown pause


class Tag(NamedTuple):
    """How a word is written."""

    mark: str  # after it, of `MARKS`
    shape: int  # `LOWER`, `CAPITAL` or `UPPER`


class TaggerState(NamedTuple):
    """What the network remembers; `Tagger.start` makes the first."""

    hidden: np.ndarray  # (L, H)
    cell: np.ndarray  # (L, H)
    embedded: np.ndarray  # (D + 1, E): what was read last, oldest first
    words: int  # how many of the last D words have no tag yet


@dataclass(frozen=True)
class Tagger:
    """Words and the pauses before them in, tags out, `look_ahead` words later."""

    folder: Path
    words: tuple[str, ...]  # by id
    forms: dict[str, str]  # capitalised forms other than the first letter, as mcdonald: McDonald
    names: frozenset[str]  # words in normal form that have a capital wherever they stand
    phrases: dict[tuple[str, ...], tuple[str, ...]]  # in normal form: as written, as bank of america: Bank of America
    language: str
    look_ahead: int  # words after a word that are read before it is tagged
    weights: dict[str, np.ndarray]  # float32, by the names that they have in the network

    @classmethod
    def open(cls, folder: Path) -> Tagger:
        """Read and verify a folder that `write_tagger` wrote.

        Raises:
            ModelError: the folder is another one, or a file is missing or altered.
        """
        description = Description.read(folder, "punctuation model", (FORMAT,), REMEDY)
        if description.value("kind") != KIND:
            raise description.wrong(f"its kind is {description.value('kind')!r}, not {KIND!r}")
        if list(description.value("marks")) != list(MARKS):
            raise description.wrong(f"it was trained for the marks {description.value('marks')!r}, not {list(MARKS)!r}")
        contents = {name: description.verified(name) for name in (WEIGHTS, WORDS, FORMS, NAMES)}
        try:
            look_ahead, weights = int(description.value("look_ahead")), unpack_weights(contents[WEIGHTS])
            forms = {form.lower(): form for form in contents[FORMS].decode("utf-8").split()}
            names = [tuple(line.split()) for line in contents[NAMES].decode("utf-8").splitlines()]
            words = tuple(contents[WORDS].decode("utf-8").split("\n")[:-1])
            known = len(weights["words.weight"])
        except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise ModelError(f"{folder / WEIGHTS} cannot be used ({error}); {REMEDY}") from error
        if len(words) != known:
            raise ModelError(f"{folder}: {len(words)} words, but weights for {known}; {REMEDY}")
        single = frozenset(name[0].lower() for name in names if len(name) == 1)
        phrases = {tuple(word.lower() for word in name): name for name in names if 1 < len(name) <= PHRASE_WORDS}
        tagger = cls(folder, words, forms, single, phrases, str(description.value("language")), look_ahead, weights)
        try:
            tagger.finish(tagger.start())
        except (KeyError, IndexError, ValueError) as error:
            raise ModelError(f"{folder / WEIGHTS}: its weights do not fit together ({error}); {REMEDY}") from error
        return tagger

    def start(self) -> TaggerState:
        """The state before any text."""
        weights = self.weights
        layers = sum(name.startswith("lstm.weight_hh") for name in weights)
        zeros = np.zeros((layers, weights["lstm.weight_hh_l0"].shape[1]), np.float32)
        embedded = np.repeat(self._embedded(BREAK, 0, 0)[None], self.look_ahead + 1, axis=0)
        return TaggerState(zeros, zeros, embedded, 0)

    def read(
        self, words: Sequence[str], pauses: Sequence[float | None], state: TaggerState
    ) -> tuple[list[Tag], TaggerState]:
        """Read words in normal form.

        Args:
            words: T of them, T >= 0.
            pauses: seconds of silence before each; None where that is unknown.
            state: of the text so far.
        Returns:
            Tags of the words for which all `look_ahead` words are there by now, in order; and the next state.
        """
        tags = []
        for word, pause in zip(words, pauses, strict=True):
            entry = self._embedded(self.ids.get(word, UNKNOWN), suffix_id(word, self.suffixes), pause_class(pause))
            output, state = self._step(entry, state)
            if state.words == self.look_ahead:
                tags.append(self._tag(output))
            else:
                state = state._replace(words=state.words + 1)
        return tags, state

    def finish(self, state: TaggerState) -> tuple[list[Tag], TaggerState]:
        """Speech breaks off or ends: tags of the words that have none yet, and the state before the next word."""
        tags = []
        for step in range(self.look_ahead):
            output, state = self._step(self._break, state)
            if step >= self.look_ahead - state.words:
                tags.append(self._tag(output))
        return tags, state._replace(words=0)

    def cased(self, words: Sequence[str], tags: Sequence[Tag]) -> list[str]:
        """Words in normal form with the capitals of their tags; names, and words of phrases, have theirs in any case.

        No word beyond the `look_ahead` words after it has a say.
        """
        shapes = [tag.shape for tag in tags]
        stems = [word.removesuffix("'s") for word in words]
        for place, stem in enumerate(stems):
            if stem in self.names:
                shapes[place] = max(shapes[place], CAPITAL)
            for length in range(2, min(PHRASE_WORDS, self.look_ahead + 1) + 1):
                phrase = self.phrases.get(tuple(stems[place : place + length]), ())
                for number, word in enumerate(phrase, place):
                    shapes[number] = shapes[number] if word.islower() else max(shapes[number], CAPITAL)
        return [self._written(word, shape) for word, shape in zip(words, shapes, strict=True)]

    def _written(self, word: str, shape: int) -> str:
        if shape == LOWER:
            return word
        stem = word.removesuffix("'s")
        if shape == UPPER:
            return stem.upper() + word[len(stem) :]
        return self.forms.get(word) or self.forms.get(stem, capitalised(stem)) + word[len(stem) :]

    @cached_property
    def ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @property
    def suffixes(self) -> int:
        """Classes of endings, that of a break included."""
        return len(self.weights["suffixes.weight"])

    @cached_property
    def _break(self) -> np.ndarray:
        return self._embedded(BREAK, 0, 0)

    @cached_property
    def _matrices(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each layer: input (I, 4 H), recurrent (H, 4 H), bias (4 H,), contiguous for products from the left."""
        weights, found = self.weights, []
        for layer in range(sum(name.startswith("lstm.weight_hh") for name in weights)):
            matrices = (np.ascontiguousarray(weights[f"lstm.weight_{kind}_l{layer}"].T) for kind in ("ih", "hh"))
            found.append((*matrices, weights[f"lstm.bias_ih_l{layer}"] + weights[f"lstm.bias_hh_l{layer}"]))
        return found

    def _embedded(self, word: int, suffix: int, pause: int) -> np.ndarray:
        weights = self.weights
        parts = (weights["words.weight"][word], weights["suffixes.weight"][suffix], weights["pauses.weight"][pause])
        return np.concatenate(parts)

    def _step(self, entry: np.ndarray, state: TaggerState) -> tuple[np.ndarray, TaggerState]:
        """Scores (MARKS + SHAPES,) of what was read D steps ago."""
        hidden, cell, x = [], [], entry
        size = state.hidden.shape[1]
        for layer, (given, recurrent, bias) in enumerate(self._matrices):
            gates = x @ given + state.hidden[layer] @ recurrent + bias
            enter, forget, leave = (sigmoid(gates[k * size : (k + 1) * size]) for k in (0, 1, 3))
            cell.append(forget * state.cell[layer] + enter * np.tanh(gates[2 * size : 3 * size]))
            x = leave * np.tanh(cell[-1])
            hidden.append(x)
        embedded = np.concatenate([state.embedded[1:], entry[None]])
        joint = np.concatenate([x, embedded.ravel()])
        weights = self.weights
        middle = np.maximum(weights["joint.weight"] @ joint + weights["joint.bias"], 0)
        output = weights["output.weight"] @ middle + weights["output.bias"]
        return output, TaggerState(np.stack(hidden), np.stack(cell), embedded, state.words)

    @staticmethod
    def _tag(output: np.ndarray) -> Tag:
        marks = len(MARKS)
        return Tag(MARKS[int(output[:marks].argmax())], int(output[marks:].argmax()))


def capitalised(word: str) -> str:
    """A word with a capital, as London; in Irish and Scottish names with two, as O'Brien, McDonald."""
    for prefix in ("o'", "mc"):
        if word.startswith(prefix) and len(word) > len(prefix) + 2 and word not in ("o'clock", "o'er"):
            return prefix.capitalize() + word[len(prefix) :].capitalize()
    return word[:1].upper() + word[1:]


def suffix_id(word: str, classes: int) -> int:
    """The class of a word's last letters, 1 to ``classes`` - 1."""
    return 1 + zlib.crc32(word[-SUFFIX_LETTERS:].encode()) % (classes - 1)


def pause_class(seconds: float | None) -> int:
    """The class of a pause, 0 for an unknown one."""
    return 0 if seconds is None else 1 + sum(seconds >= border for border in PAUSE_BORDERS)


def write_tagger(
    folder: Path,
    words: Sequence[str],
    forms: Sequence[str],
    names: Sequence[str],
    look_ahead: int,
    weights: dict[str, np.ndarray],
    about: dict[str, object],
) -> None:
    """Write a folder, matrices in 8 bits with a scale per row; `config.json` with the checksums is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(pack_weights(weights))
    for name, lines in ((WORDS, words), (FORMS, forms), (NAMES, names)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    about = {
        "format": FORMAT,
        "kind": KIND,
        "language": ENGLISH,
        "marks": list(MARKS),
        "look_ahead": look_ahead,
        **about,
    }
    write_description(folder, about, (WEIGHTS, WORDS, FORMS, NAMES))
