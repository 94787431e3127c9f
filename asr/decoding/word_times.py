"""Word times: the frames of each word on a path."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from asr.words.tokens import BLANK

Sounds = Sequence[tuple[int, ...]]  # the pronunciations of a word


class Division(NamedTuple):
    """How far the phones of a path were divided among its words: where the division of a longer one may go on from."""

    phones: list[int]  # of the runs
    words: Sequence[Sounds]
    reached: list[dict[int, tuple[int, int]]]  # after each word: end -> (first run, end before it)

    def common(self, phones: list[int], words: Sequence[Sounds]) -> list[dict[int, tuple[int, int]]]:
        """The part of ``reached`` that holds of other phones and words, too."""
        runs = _alike(self.phones, phones)
        count = 0
        for number in range(min(len(self.words), len(words)) - 1):  # of the last word phones may be missing
            sounds = self.words[number]
            if sounds != words[number] or max(self.reached[number]) + max(map(len, sounds)) > runs:
                break
            count = number + 1
        return self.reached[: count + 1]


def spans_of_words(
    tokens: np.ndarray, words: Sequence[Sounds], before: Division | None = None
) -> tuple[list[tuple[int, int]], Division | None]:
    """Frames of each word, [start, end), none of them empty.

    In a determinised graph the output label of a word does not lie where the word is spoken, so the phones on the path
    are divided among the words by their pronunciations.

    Args:
        tokens: (T,) token of each frame on the path.
        words: pronunciations of the words on the path. Of the last some or all phones may be missing yet.
        before: what was returned for another path, often a part of this one; what they share is not divided again.
    Returns:
        The frames, and what the next call may be given.
    """
    if not words:
        return [], None
    starts, ends, phones = _runs(tokens)
    cuts, division = _cuts(phones, words, before)
    spans = []
    for first, last in cuts:
        if last > first:
            spans.append((int(starts[first]), int(ends[last - 1])))
        else:  # its label lies before its first phone
            place = int(ends[first - 1]) if first else 0
            place = min(place, len(tokens) - 1)
            spans.append((place, place + 1))
    return spans, division


def _runs(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """First frame, one past the last, and phone of every run of a phone."""
    borders = np.flatnonzero(np.diff(tokens)) + 1
    starts = np.concatenate([[0], borders])
    ends = np.append(borders, len(tokens))
    spoken = tokens[starts] != BLANK
    return starts[spoken], ends[spoken], tokens[starts[spoken]].tolist()


def _alike(one: list[int], other: list[int]) -> int:
    """How many phones two sequences begin with in common."""
    count = min(len(one), len(other))
    if one[:count] == other[:count]:
        return count
    return next(k for k in range(count) if one[k] != other[k])


def _cuts(
    phones: list[int], words: Sequence[Sounds], before: Division | None
) -> tuple[list[tuple[int, int]], Division | None]:
    """Runs [first, last) of each word: the match of the phones with the pronunciations that reaches furthest."""
    reached = before.common(phones, words) if before else [{0: (0, 0)}]
    for number, sounds in enumerate(words[len(reached) - 1 :], start=len(reached) - 1):
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
            return _even(len(phones), len(words)), None
        reached.append(ends)
    place = max(reached[-1])
    cuts = []
    for ends in reversed(reached[1:]):
        first, start = ends[place]
        cuts.append((first, place))
        place = start
    return cuts[::-1], Division(phones, words, reached)


def _even(phones: int, words: int) -> list[tuple[int, int]]:
    """Equal shares, for a path that the pronunciations do not explain."""
    borders = np.linspace(0, phones, words + 1).astype(int)
    return list(zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True))
