"""Numbers, dates, times, money and titles as people write them."""

from __future__ import annotations

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from asr.words.written_forms import SETTLING_WORDS, settled, written_forms

TABLE = ROOT / "benchmarks/written_forms.tsv"
WORDS = (
    "one two three twenty hundred thousand and point a zero first second five oh minus of million nineteen four third "
    "for to won double may the fifth percent dollars p m at in flight mister doctor smith london cat seen street i "
    "numbers"
).split()


def written(text: str) -> str:
    words = text.split()
    found, place = [], 0
    for form in written_forms(words):
        found += [*words[place : form.start], form.text]
        place = form.end
    return " ".join(found + words[place:])


def rows() -> list[tuple[str, str, str]]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines if not line.startswith("#")]


def test_the_table_of_phrases() -> None:
    wrong = [(spoken, written(spoken), form) for _, spoken, form in rows() if written(spoken).lower() != form.lower()]
    assert len(rows()) >= 300
    assert len(wrong) <= 0.01 * len(rows()), wrong


@pytest.mark.parametrize(
    "text",
    [
        "the cat sat on the mat and the dog lay for a while to rest",
        "oh no said the third man for the second time i won and ate it too",
        "one of them wanted to go first and no one minded",
        "may i ask you to march on",
        "at this point a few of them were of one mind",
    ],
)
def test_text_without_numbers_stays(text: str) -> None:
    assert written(text) == text


@pytest.mark.parametrize(
    ("spoken", "form"),
    [
        ("my numbers for one seven to nine zero five six", "my number's 41729056"),
        ("the numbers four and five", "the numbers four and five"),
        ("the numbers one two three", "the numbers 123"),
        ("in world war two", "in world war II"),
        ("his t v set", "his TV set"),
    ],
)
def test_words_that_are_written_otherwise_in_context(spoken: str, form: str) -> None:
    assert written(spoken) == form


@given(st.lists(st.sampled_from(WORDS), max_size=16), st.data())
def test_settled_words_stay_as_they_are_written(spoken: list[str], data: st.DataObject) -> None:
    heard = data.draw(st.integers(0, len(spoken)))
    fixed = settled(spoken[:heard])
    assert fixed <= settled(spoken) or heard == len(spoken)

    def beginning(words: list[str]) -> list[tuple[int, int, str]]:
        return [tuple(form) for form in written_forms(words) if form.start < fixed]

    titled = fixed and spoken[fixed - 1] in ("mister", "missus", "doctor")  # what follows decides
    if not titled:
        assert beginning(spoken) == beginning(spoken[:heard])
        assert all(end <= fixed for _, end, _ in beginning(spoken))


def test_plain_words_are_settled_at_once() -> None:
    words = "the cat sat on the mat".split()
    assert settled(words) == len(words)
    assert settled(["two", *words[:SETTLING_WORDS]]) == 1 + SETTLING_WORDS
    assert settled([*words, "two"]) == len(words)
