"""The lexicon of a language model: words and pronunciations, found in the text of its file when they are asked for.

A recording needs few of them: a hundred thousand strings would take ten times the room of the text, in every process,
and most of the time that opening the folder takes. Where each word's lines are is computed once, kept with the text in
a file of the cache folder and mapped from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from asr.errors import ModelError
from asr.graph.kept_arrays import Arrays, kept_arrays
from asr.words.tokens import TokenTable

FORMAT = 1  # part of every name: raised when files of older versions must not be used

Pronunciations = tuple[tuple[int, ...], ...]  # of a word, as phone ids


class _Lines:
    """The lines ``word phone phone ...`` of a lexicon, as UTF-8, by the numbers of their words; 0 is no word."""

    def __init__(self, arrays: Arrays) -> None:
        self._text = arrays["text"]  # (T,) uint8
        self._begins = arrays["begins"]  # (L + 1,) where each line begins
        self._lines = arrays["lines"]  # (L,) the lines of word after word
        self._first = arrays["first"]  # (W + 1,) where among these each word's are

    def __len__(self) -> int:
        return len(self._first) - 1

    def of(self, word: int) -> list[tuple[str, str]]:
        """Of each line of a word the word and its phones; raises IndexError for a word that is none."""
        if not 0 <= word < len(self):
            raise IndexError(f"{word} is none of {len(self)} words")
        found = []
        for line in self._lines[self._first[word] : self._first[word + 1]]:
            row = self._text[self._begins[line] : self._begins[line + 1]].tobytes().decode("utf-8")
            spelling, _, sound = row.rstrip("\n").partition(" ")
            found.append((spelling, sound))
        return found

    def all(self) -> Iterator[str]:
        """Every word; a hundred thousand are read at once ten times faster than one by one."""
        rows = self._text.tobytes().decode("utf-8").split("\n")
        yield ""
        yield from (rows[line].partition(" ")[0] for line in self._lines[self._first[1:-1]].tolist())


class StoredWords(Sequence[str]):
    """The words of a lexicon by their numbers; 0 is no word, and is spelled so."""

    def __init__(self, lines: _Lines, checksum: str) -> None:
        self.checksum = checksum  # of the file
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, word: int) -> str: ...
    @overload
    def __getitem__(self, word: slice) -> Sequence[str]: ...
    def __getitem__(self, word: int | slice) -> str | Sequence[str]:
        if isinstance(word, slice):
            return tuple(self)[word]
        lines = self._lines.of(word + len(self) if word < 0 else word)
        return lines[0][0] if lines else ""

    def __iter__(self) -> Iterator[str]:
        return self._lines.all()


class StoredPronunciations(Sequence[Pronunciations]):
    """The pronunciations of each word of a lexicon by its number."""

    def __init__(self, lines: _Lines, phones: TokenTable) -> None:
        self._lines = lines
        self._ids = phones.ids
        self._read: dict[int, Pronunciations] = {}

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, word: int) -> Pronunciations: ...
    @overload
    def __getitem__(self, word: slice) -> Sequence[Pronunciations]: ...
    def __getitem__(self, word: int | slice) -> Pronunciations | Sequence[Pronunciations]:
        if isinstance(word, slice):
            return tuple(self)[word]
        found = self._read.get(word)
        if found is None:
            found = self._read[word] = self._parsed(word)
        return found

    def __iter__(self) -> Iterator[Pronunciations]:
        return (self[word] for word in range(len(self)))

    def _parsed(self, word: int) -> Pronunciations:
        try:
            return tuple(tuple(map(self._ids.__getitem__, sound.split())) for _, sound in self._lines.of(word))
        except (KeyError, IndexError) as error:
            raise ModelError(
                f"the lexicon of the language model has no word {word} in these phones; build it again"
            ) from error


def stored_lexicon(
    path: Path, checksum: str, read: Callable[[], bytes], phones: TokenTable
) -> tuple[StoredWords, StoredPronunciations]:
    """The words and pronunciations of a lexicon.

    Args:
        path: of the file, for messages.
        checksum: its SHA-256.
        read: returns its verified content, when it is not kept yet.
        phones: of the pronunciations.
    Raises:
        ModelError: the file is missing, altered, or not UTF-8.
    """

    def make() -> Arrays:
        try:
            return _arrays(read().decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ModelError(f"{path} is not UTF-8; fetch it again, or build one with 'asr lm build'") from error

    lines = _Lines(kept_arrays(f"lexicon-{FORMAT}-{checksum[:32]}", make))
    return StoredWords(lines, checksum), StoredPronunciations(lines, phones)


def _arrays(text: str) -> Arrays:
    text = text if text.endswith("\n") else f"{text}\n"
    content = np.frombuffer(text.encode(), np.uint8)
    numbers = {"": 0}  # no word has no line
    words = [numbers.setdefault(row.partition(" ")[0], len(numbers)) for row in text.split("\n")[:-1]]
    return {
        "text": content,
        "begins": np.concatenate([[0], np.flatnonzero(content == ord("\n")) + 1]).astype(np.uint32),
        "lines": np.argsort(words, kind="stable").astype(np.uint32),
        "first": np.concatenate([[0], np.cumsum(np.bincount(words, minlength=len(numbers)))]).astype(np.uint32),
    }
