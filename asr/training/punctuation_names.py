"""Names, phrases and odd forms that nearly always have capitals, counted in written text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from asr.training.punctuation_text import NO_LABEL, Stream
from asr.words.abbreviations import TITLES
from asr.words.tagger import CAPITAL, PHRASE_WORDS, SHAPES, capitalised

LEAST_FORMS = 20  # how often a form as McDonald, or a name, must be there to be kept
LINKING = ("of", "the", "and", "de")  # small words in phrases such as Bank of America
NAME_SHARE = 0.97  # of the occurrences of a name inside sentences that have a capital


def usual_forms(written: dict[str, Counter[str]]) -> Iterator[str]:
    """Capitalised forms other than the first letter, as McDonald; from how often each word has which."""
    for word, counts in sorted(written.items()):
        form, count = counts.most_common(1)[0]
        if form != capitalised(word) and count >= LEAST_FORMS and "'" not in form[-2:]:
            yield form


def names_in(streams: Sequence[Stream], words: Sequence[str]) -> Iterator[str]:
    """Words, of those that are numbered, with capitals wherever they stand, as they are written."""
    counts = np.zeros((len(SHAPES), len(words)), np.int64)
    for stream in streams:
        for shape in SHAPES:
            counts[shape] += np.bincount(stream.words[stream.shapes == shape], minlength=len(words))
    capital, total = counts[CAPITAL], counts.sum(axis=0)
    for number in np.flatnonzero((total >= LEAST_FORMS) & (capital >= NAME_SHARE * total)).tolist():
        if len(words[number]) > 1 and "'" not in words[number] and words[number] not in TITLES:
            yield words[number].capitalize()


def phrases_in(streams: Sequence[Stream], words: Sequence[str], names: frozenset[str]) -> Iterator[str]:
    """Two words with capitals, as Super Bowl; two with a small one between them, as Bank of America."""
    linking = np.isin(np.array(words), LINKING)
    for length in range(2, PHRASE_WORDS + 1):
        seen, found = [], []  # numbers of phrases, wherever they stand and with capitals
        for stream in streams:
            count = max(0, len(stream.words) - length + 1)
            numbers, joined, capital = np.zeros(count, np.int64), np.ones(count, bool), np.ones(count, bool)
            for place in range(length):
                part = stream.part(place, place + count)
                outer = place in (0, length - 1)
                numbers = numbers * len(words) + part.words
                capital &= part.shapes == CAPITAL if outer else linking[part.words]
                if place < length - 1:
                    joined &= part.marks == 0
            joined &= stream.shapes[:count] != NO_LABEL
            seen.append(numbers[joined])
            found.append(numbers[joined & capital])
        phrases, capitals = np.unique(np.concatenate(found), return_counts=True)
        phrases, capitals = phrases[capitals >= LEAST_FORMS], capitals[capitals >= LEAST_FORMS]
        total = np.zeros(len(phrases), np.int64)
        for numbers in seen if len(phrases) else ():
            places = np.searchsorted(phrases, numbers).clip(max=len(phrases) - 1)
            total += np.bincount(places[phrases[places] == numbers], minlength=len(phrases))
        for phrase in phrases[capitals >= NAME_SHARE * total].tolist():
            parts = [words[phrase // len(words) ** place % len(words)] for place in reversed(range(length))]
            first, last = parts[0].capitalize(), parts[-1].capitalize()
            known = {first, last} <= names or parts[0] in TITLES
            if min(map(len, parts)) > 1 and "'" not in "".join(parts) and not known:
                yield " ".join([first, *parts[1:-1], last])
