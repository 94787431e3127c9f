import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import DataError
from asr.words.text import normalise, unusable_characters

NORMAL_FORM = re.compile(r"[a-z']+( [a-z']+)*|")


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("", ""),
        ("  Hello,\tWORLD!\n", "hello world"),
        ("MARLOW’S dog", "marlow's dog"),
        ("well-known — or not…perhaps", "well known or not perhaps"),
        ("either/or", "either or"),
        ("“Don’t,” she said; (twice)", "don't she said twice"),
        ("the sailors' home, 'twas", "the sailors' home 'twas"),
        ("rock ' n ' roll '' it''s", "rock n roll it's"),
        ("?!...", ""),
    ],
)
def test_examples(raw, normal):
    assert normalise(raw) == normal


@pytest.mark.parametrize("raw", ["room 4", "café", "cafe\u0301", "salt & pepper", "50 %", "a@b", "пять", "2²", "£"])
def test_what_cannot_be_written_is_named(raw):
    unusable = unusable_characters(raw)
    assert unusable and not unusable & set("abcdefghijklmnopqrstuvwxyz ")
    with pytest.raises(DataError, match=re.escape(repr(min(unusable)))):
        normalise(raw)


@given(st.text())
def test_every_text_is_refused_or_brought_into_normal_form(raw):
    if unusable_characters(raw):
        with pytest.raises(DataError):
            normalise(raw)
        return
    normal = normalise(raw)
    assert NORMAL_FORM.fullmatch(normal)
    assert normalise(normal) == normal
    assert normalise(raw.upper()) == normalise(raw.lower()) == normal


@given(st.lists(st.from_regex(r"[a-z]+('[a-z]+)?", fullmatch=True)))
def test_words_are_kept(words):
    assert normalise("  ".join(words)).split() == words


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.text(alphabet=" .,-'a"))
def test_unusable_characters_come_from_the_text(left, right):
    assert unusable_characters(left + right) == unusable_characters(left) | unusable_characters(right)
    assert unusable_characters(left) <= set(left)
