"""Dividing the frames of a path among its words."""

from __future__ import annotations

import numpy as np
import pytest

from asr.decoding.word_times import spans_of_words

ONE, TWO, THREE = ((1, 2),), ((2, 3), (2,)), ((3, 1, 1),)


@pytest.mark.parametrize(
    ("tokens", "words", "spans"),
    [
        ([0, 1, 1, 0, 2, 0, 2, 3, 3], [ONE, TWO], [(1, 5), (6, 9)]),
        ([1, 2, 0, 2, 0, 3, 1, 0, 1], [ONE, TWO, THREE], [(0, 2), (3, 4), (5, 9)]),  # the short pronunciation
        ([1, 2, 2, 3], [ONE, TWO], [(0, 3), (3, 4)]),  # a word that begins in the last run of the one before
        ([0, 1, 1], [ONE], [(1, 3)]),  # heard in part
        ([1, 2, 0], [ONE, TWO], [(0, 2), (2, 3)]),  # the second not heard yet
        ([0, 0], [ONE], [(0, 1)]),
        ([], [], []),
    ],
)
def test_each_word_has_the_frames_of_its_phones(tokens: list[int], words: list, spans: list) -> None:
    assert spans_of_words(np.array(tokens, dtype=int), words)[0] == spans


def test_phones_that_no_pronunciation_explains_are_shared_out() -> None:
    assert spans_of_words(np.array([1, 3, 1, 3]), [ONE, TWO])[0] == [(0, 2), (2, 4)]
