"""How transcripts are written: the marks and capitals of recorded sentences, from the texts that were read out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from asr.data.manifest import Utterance
from asr.files import text_lines
from asr.training.punctuation_text import TaggedWord, tagged_text

KEY_WORDS = 5  # in a row that a place in a text is known by
LEAST_ALIKE = 0.9  # of the words of a transcript and of its place in a text
BLOCK = 100_000  # words of text that are searched at a time
MARGIN = 500  # words that two blocks share, more than an utterance has


class Spoken(NamedTuple):
    """An utterance and the words that were read out."""

    utterance: Utterance
    before: TaggedWord | None  # the word before it in the text
    words: tuple[TaggedWord, ...]
    place: tuple[int, int]  # number of the text, and of the first word in it


def found_in(utterances: Iterable[Utterance], texts: Iterable[Path]) -> list[Spoken]:
    """Those utterances whose transcripts are in the texts, in the order of the texts.

    Args:
        utterances: with transcripts in normal form.
        texts: as they are written, with their marks, a paragraph, a sentence or what somebody said a line.
    """
    keys: dict[tuple[str, ...], list[tuple[Utterance, list[str], int]]] = defaultdict(list)
    for utterance in utterances:
        words = utterance.text.split()
        for offset in range(0, len(words) - KEY_WORDS + 1, KEY_WORDS):
            keys[tuple(words[offset : offset + KEY_WORDS])].append((utterance, words, offset))
    found: dict[str, Spoken] = {}
    for number, text in enumerate(texts):
        for first, block in _blocks(tagged_text(text_lines(text))):
            plain = [tagged.word for tagged in block]
            for place, key in enumerate(zip(*(plain[k:] for k in range(KEY_WORDS)), strict=False)):
                for utterance, words, offset in keys.get(key, ()):
                    span = None if utterance.id in found else _span(words, plain, place - offset)
                    if span is not None:
                        start, end = span
                        before = block[start - 1] if start else None
                        found[utterance.id] = Spoken(
                            utterance, before, tuple(block[start:end]), (number, first + start)
                        )
    return sorted(found.values(), key=lambda spoken: spoken.place)


def _blocks(words: Iterator[TaggedWord]) -> Iterator[tuple[int, list[TaggedWord]]]:
    first, kept = 0, list[TaggedWord]()
    while block := list(chain(kept, islice(words, BLOCK))):
        if len(block) == len(kept):
            return
        yield first, block
        kept = block[-MARGIN:]
        first += len(block) - len(kept)


def _span(words: list[str], text: list[str], start: int) -> tuple[int, int] | None:
    """Where in the text the words are, if they are there, near a start."""
    first = max(0, start - KEY_WORDS)
    window = text[first : start + len(words) + KEY_WORDS]
    pairs = [pair for pair in SequenceMatcher(None, words, window, autojunk=False).get_matching_blocks() if pair.size]
    if sum(pair.size for pair in pairs) < LEAST_ALIKE * len(words):
        return None
    head, last = pairs[0], pairs[-1]
    begin = first + head.b - head.a  # words before the first pair were misread or misheard
    end = first + last.b + len(words) - last.a
    return (begin, end) if 0 <= begin and end <= len(text) else None
