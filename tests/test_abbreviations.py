"""Titles, and letters that are said one by one."""

from __future__ import annotations

import pytest

from asr.words.abbreviations import letters, title

NAMES = frozenset("brown rowling bush george army news".split())


def written(text: str) -> str:
    words = text.split()
    found, place = [], 0
    while place < len(words):
        read = title if words[place] in ("mister", "missus", "doctor") else letters
        form = read(words, place, lambda k: words[k] in NAMES)
        found.append(words[place] if form is None else form[0])
        place = place + 1 if form is None else form[1]
    return " ".join(found)


@pytest.mark.parametrize(
    ("spoken", "form"),
    [
        ("mister and missus brown", "mr. and mrs. brown"),
        ("a mister who waits", "a mister who waits"),
        ("doctor brown is no doctor", "dr. brown is no doctor"),
        ("on t v", "on TV"),
        ("a t v and an a t m", "a TV and an ATM"),
        ("the u s army", "the US army"),
        ("the f b i and the u s a", "the FBI and the USA"),
        ("j k rowling met george w bush", "J. K. rowling met george W. bush"),
        ("the t v's on", "the TV's on"),
        ("a p h d", "a PhD"),
        ("my t shirt and an x ray", "my T-shirt and an X-ray"),
        ("two d v ds", "two DVDs"),
        ("on a t v i think", "on a TV i think"),
        ("jack o brown", "jack o brown"),
        ("brown b r o w n", "brown B-R-O-W-N"),
        ("h t t p", "HTTP"),
        ("plan b i think", "plan b i think"),
        ("vitamin c a day", "vitamin c a day"),
        ("i i i i have a a dog", "i i i i have a a dog"),
        ("it's a b from me", "it's a b from me"),
    ],
)
def test_letters_and_titles(spoken: str, form: str) -> None:
    assert written(spoken) == form
