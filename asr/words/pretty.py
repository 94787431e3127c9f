"""Formatting results for readers: capitals, full stops and figures.

A pure function of a result, so partial and final results agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from asr.streaming.results import Result, Word

I_WORDS = frozenset(("i", "i'm", "i'll", "i've", "i'd"))
NAMES = Path(__file__).with_name("proper_names.txt")
ISOLATED = 3.0  # a number up to this that stands alone stays a word
CONNECTING = frozenset("and point minus plus of oh o a".split())  # may stand within a number, or beside one


class _Token(NamedTuple):
    word: str

    def text(self) -> str:
        return self.word

    def nt_separated(self, previous: _Token) -> bool:
        return False

    def not_a_number_part(self) -> bool:
        return False


class _Group(NamedTuple):
    """Words [start, end) of a result that are written as one."""

    text: str
    start: int
    end: int


def pretty(result: Result) -> Result:
    """Format a result: the first word, names and "I" with capitals, numbers in figures, a full stop.

    Each result counts as a sentence, since a pause ends it; a partial one has no full stop yet. The words of a number
    become one word, with the times of all of them and the mean of their confidences. Committed words stay committed
    only as far as the words that follow cannot change their form.
    """
    words = result.words
    if not words:
        return result
    groups = _groups([word.text for word in words])
    texts = [_capitals(group.text) for group in groups]
    texts[0] = texts[0][0].upper() + texts[0][1:]
    if result.final:
        texts[-1] += "."
    merged = tuple(_merged(text, words[group.start : group.end]) for text, group in zip(texts, groups, strict=True))
    settled = _settled([word.text for word in words[: result.committed]])
    committed = sum(group.end <= settled for group in groups)
    return Result(" ".join(texts), merged, result.start_seconds, result.end_seconds, result.final, committed)


def _groups(texts: Sequence[str]) -> list[_Group]:
    from text_to_num import find_numbers

    groups: list[_Group] = []
    place = 0
    for number in find_numbers([_Token(text) for text in texts], "en", ISOLATED):
        start = number.start
        if start > place and texts[start - 1] == "a" and texts[start] in ("hundred", "thousand", "million", "billion"):
            start -= 1  # "a hundred" is 100
        groups += [_Group(texts[k], k, k + 1) for k in range(place, start)]
        groups.append(_Group(number.text, start, number.end))
        place = number.end
    return groups + [_Group(texts[k], k, k + 1) for k in range(place, len(texts))]


def _settled(texts: Sequence[str]) -> int:
    """How many leading words keep their form whatever follows: all before the last of two consecutive plain words.

    Numbers end there; and the last word may still get a full stop.
    """
    for end in range(len(texts), 1, -1):
        if not (_numeric(texts[end - 1]) or _numeric(texts[end - 2])):
            return end - 1
    return 0


@cache
def _numeric(text: str) -> bool:
    from text_to_num import find_numbers

    return text in CONNECTING or bool(find_numbers([_Token(text)], "en", 0.0))


@cache
def _names() -> dict[str, str]:
    """Proper names by their lower-case form: words that are nearly always capitalised inside a sentence."""
    return {name.lower(): name for name in NAMES.read_text(encoding="utf-8").split()}


def _capitals(text: str) -> str:
    if text in I_WORDS:
        return "I" + text[1:]
    stem, mark, ending = text.partition("'")
    return _names().get(stem, stem) + mark + ending


def _merged(text: str, words: Sequence[Word]) -> Word:
    confidence = sum(word.confidence for word in words) / len(words)
    return Word(text, words[0].start_seconds, words[-1].end_seconds, confidence)
