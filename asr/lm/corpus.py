"""Text in normal form as numbers of words, a sentence after the other."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from asr.errors import DataError
from asr.files import text_lines
from asr.words.text import normalise, unusable_characters

ENDS, BEGINS = 0, 1  # numbers of what ends and what begins a sentence
LINES = 4_096  # looked at together
_PLAIN = re.compile(r"[a-z' \n]*")
_ODD_APOSTROPHE = re.compile(r"'(?:(?=')|(?<![a-z]')(?![a-z]))")  # that `normalise` changes
_EMPTY_LINE = re.compile(r"(?:\A|\n) *(?:\n|\Z)")


class WordNumbers(dict[str, int]):
    """Numbers of words from 2 on, given as the words come."""

    def __init__(self) -> None:
        super().__init__({"</s>": ENDS, "<s>": BEGINS})

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


@dataclass(frozen=True)
class TextCorpus:
    """Sentences as numbers, and what was counted in them."""

    tokens: np.ndarray  # (T,) int32; each sentence is BEGINS, its words, ENDS
    sentences: int
    left_out: int  # lines with digits, symbols or foreign letters, which must be spelled out by hand

    @property
    def words(self) -> int:
        return len(self.tokens) - 2 * self.sentences

    @classmethod
    def read(cls, texts: Sequence[Path], numbers: WordNumbers) -> TextCorpus:
        """Bring text files (plain, .gz, .xz, .bz2) into normal form, a sentence a line; new words get numbers.

        Raises:
            DataError: a file cannot be read or is not text, or no words are left of all of them.
        """
        tokens = array("i")
        count = left_out = 0
        for text in texts:
            lines = text_lines(text)
            while block := list(islice(lines, LINES)):
                together = "\n".join(block).lower()
                if _plain(together) and not _EMPTY_LINE.search(together):  # most text: at the speed of string functions
                    words = f"<s> {together} </s>".replace("\n", " </s> <s> ").split()
                    tokens.extend(map(numbers.__getitem__, words))
                    count += len(block)
                    continue
                for sentence in map(_normal_words, block):
                    if sentence is None:
                        left_out += 1
                    elif sentence:
                        count += 1
                        tokens.extend(map(numbers.__getitem__, ("<s>", *sentence, "</s>")))
        if not count:
            names = ", ".join(map(str, texts))
            raise DataError(f"{names}: no words to learn from ({left_out} lines have characters to be spelt out)")
        return cls(np.frombuffer(tokens, np.int32), count, left_out)


def sentences(text: Path) -> Iterator[list[str]]:
    """Words of each sentence of a text in normal form, without lines that must be spelled out by hand.

    Raises:
        DataError: it cannot be read or is not text.
    """
    return filter(None, map(_normal_words, text_lines(text)))


def _normal_words(line: str) -> list[str] | None:
    """The words of a line, perhaps none; None if it has characters that must be spelt out."""
    lower = line.lower()
    if _plain(lower):
        return lower.split()
    if unusable_characters(line.strip()):
        return None
    return [word for word in normalise(line).split() if word.strip("'")]


def _plain(text: str) -> bool:
    """Whether lower-case text, of one line or more, is in normal form but for its spaces."""
    return bool(_PLAIN.fullmatch(text)) and not _ODD_APOSTROPHE.search(text)
