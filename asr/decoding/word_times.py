"""Word times: the frames of each word on a path."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from asr.words.tokens import BLANK

Sounds = Sequence[tuple[int, ...]]  # the pronunciations of a word


def spans_of_words(tokens: np.ndarray, words: Sequence[Sounds]) -> list[tuple[int, int]]:
    """Frames of each word, [start, end), none of them empty.

    In a determinised graph the output label of a word does not lie where the word is spoken, so the phones on the path
    are divided among the words by their pronunciations.

    Args:
        tokens: (T,) token of each frame on the path.
        words: pronunciations of the words on the path. Of the last some or all phones may be missing yet.
    """
    if not words:
        return []
    starts, ends, phones = _runs(tokens)
    cuts = _cuts(phones, words)
    spans = []
    for first, last in cuts:
        if last > first:
            spans.append((int(starts[first]), int(ends[last - 1])))
        else:  # its label lies before its first phone
            place = int(ends[first - 1]) if first else 0
            place = min(place, len(tokens) - 1)
            spans.append((place, place + 1))
    return spans


def _runs(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """First frame, one past the last, and phone of every run of a phone."""
    borders = np.flatnonzero(np.diff(tokens)) + 1
    starts = np.concatenate([[0], borders])
    ends = np.append(borders, len(tokens))
    spoken = tokens[starts] != BLANK
    return starts[spoken], ends[spoken], tokens[starts[spoken]].tolist()


def _cuts(phones: list[int], words: Sequence[Sounds]) -> list[tuple[int, int]]:
    """Runs [first, last) of each word: the match of the phones with the pronunciations that reaches furthest."""
    reached: list[dict[int, tuple[int, int]]] = [{0: (0, 0)}]  # after each word: end -> (first run, end before it)
    for number, sounds in enumerate(words):
        ends: dict[int, tuple[int, int]] = {}
        for overlap in (0, 1):  # a repeated phone may be one run: a word then begins in the last run of the one before
            for place, sound in product(reached[-1], sounds):
                first = place - overlap
                if first < 0 or (overlap and phones[first] != sound[0]):
                    continue
                last = first + len(sound)
                if tuple(phones[first:last]) == sound:
                    ends.setdefault(last, (min(place, last - 1), place))
                elif number == len(words) - 1 and sound[: len(phones) - first] == tuple(phones[first:]):
                    ends.setdefault(len(phones), (place, place))
        if not ends:
            return _even(len(phones), len(words))
        reached.append(ends)
    place = max(reached[-1])
    cuts = []
    for ends in reversed(reached[1:]):
        first, before = ends[place]
        cuts.append((first, place))
        place = before
    return cuts[::-1]


def _even(phones: int, words: int) -> list[tuple[int, int]]:
    """Equal shares, for a path that the pronunciations do not explain."""
    borders = np.linspace(0, phones, words + 1).astype(int)
    return list(zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True))
