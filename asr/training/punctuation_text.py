"""Written text as words with their marks and capitals: what a punctuation model is trained on and measured with."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from asr.words.tagger import CAPITAL, LOWER, MARKS, UPPER

NO_LABEL = -1
UNKNOWN_SHAPE = -1  # of a word whose capital may come from the place alone, as the first of a sentence
COMMA, STOP, QUESTION, SHOUT = (MARKS.index(mark) for mark in ",.?!")
ENDING = frozenset((STOP, QUESTION, SHOUT))

_CHARACTERS = str.maketrans(
    {"\u2019": "'", "\u2018": "'", "\u02bc": "'", "`": "'", "\u201c": '"', "\u201d": '"', "\u2026": "...", "\u00ad": ""}
)
_DASHES = re.compile(r"\s*(?:-{2,}|[\u2012-\u2015]|(?<=\s)-(?=\s))\s*")
_TOKEN = re.compile(r"""^(["'(\[{*_]*)(.*?)([.,;:?!"')\]}*_]*)$""")
_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*'?")
_DOTTED = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]?")
_NUMBER = re.compile(r"([$£€]?)(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d{1,4}))?(%|st|nd|rd|th|s)?")
_CLOCK = re.compile(r"(\d{1,2}):([0-5]\d)")
_CURRENCIES = {"$": "dollars", "£": "pounds", "€": "euros"}
_SPOKEN = {  # how abbreviations are read; a full stop after them ends no sentence
    "mr": "mister",
    "mrs": "missus",
    "ms": "miss",
    "dr": "doctor",
    "st": "saint",
    "prof": "professor",
    "capt": "captain",
    "col": "colonel",
    "gen": "general",
    "lt": "lieutenant",
    "sgt": "sergeant",
    "rev": "reverend",
    "hon": "honorable",
    "gov": "governor",
    "sen": "senator",
    "vs": "versus",
    "jr": "junior",
    "sr": "senior",
    "messrs": "messieurs",
    "mme": "madame",
    "mlle": "mademoiselle",
    "mt": "mount",
    "no": "number",
    "vol": "volume",
}
_PHRASES = {"e.g": "for example", "i.e": "that is", "etc": "et cetera", "&": "and"}
_WITHOUT_A_STOP = frozenset(("mr", "mrs", "dr"))  # read so without it, too


class TaggedWord(NamedTuple):
    """A word in normal form and how it is written."""

    word: str
    mark: int  # after it, of `MARKS`
    shape: int  # LOWER, CAPITAL, UPPER or `UNKNOWN_SHAPE`
    written: str  # without the mark
    first: bool  # of a line


class Stream(NamedTuple):
    """Words of a text in order."""

    words: np.ndarray  # (N,) int32, all distinct words are numbered
    marks: np.ndarray  # (N,) int8, index of `MARKS`
    shapes: np.ndarray  # (N,) int8, `NO_LABEL` where the place decides
    first: np.ndarray  # (N,) bool, of a line

    def part(self, start: int, end: int) -> Stream:
        return Stream(*(values[start:end] for values in self))


def tagged_words(line: str) -> list[TaggedWord]:
    """The words of a line of written text: a paragraph, a sentence or what somebody said.

    Dashes, colons and semicolons count as commas, quotes and brackets are dropped, hyphens separate words, numbers are
    spelt out. A line with a word that has no sure reading, without a mark at its end, or wholly in upper or lower case
    gives nothing.
    """
    line = line.translate(_CHARACTERS)
    if not line.isascii():
        line = unicodedata.normalize("NFKD", line)
        line = "".join(character for character in line if not unicodedata.combining(character))
    if line.islower() or line.isupper():
        return []
    tokens = [_token(token) for token in _DASHES.sub(" \u2014 ", line).split()]
    words: list[TaggedWord] = []
    quoted = False  # the word before opened a quotation
    start = True  # of a sentence
    for number, token in enumerate(tokens):
        if not token.sure:
            return []
        lower = number + 1 < len(tokens) and tokens[number + 1].lower
        mark = token.mark_before_lower if lower else token.mark
        if not token.words:  # marks alone
            if words and mark > words[-1].mark:
                words[-1] = words[-1]._replace(mark=mark)
                start = mark in ENDING
            quoted = quoted or token.opening
            continue
        quoted = quoted or token.opening
        last = len(token.words) - 1
        for place, (word, form, shape) in enumerate(zip(token.words, token.written, token.shapes, strict=True)):
            if (start or quoted) and shape == CAPITAL and form[:2] not in ("I", "I'"):
                shape = UNKNOWN_SHAPE
            words.append(TaggedWord(word, mark if place == last else 0, shape, form, not words))
            start = quoted = False
        start = mark in ENDING
    if not words or (words[-1].mark not in ENDING and words[-1].mark != COMMA):
        return []
    if words[-1].mark == COMMA and line.rstrip(" \"'").endswith(("\u2014", "-")):
        words[-1] = words[-1]._replace(mark=STOP)
    return words


def tagged_text(lines: Iterator[str]) -> Iterator[TaggedWord]:
    """The words of all lines."""
    for line in lines:
        yield from tagged_words(line)


class _Token(NamedTuple):
    """What stands between two spaces."""

    sure: bool  # how it is read
    opening: bool  # whether a quotation begins with it
    words: tuple[str, ...]
    written: tuple[str, ...]
    shapes: tuple[int, ...]
    mark: int
    mark_before_lower: int  # where a word in lower case follows
    lower: bool  # begins with a small letter


@lru_cache(maxsize=1_000_000)
def _token(token: str) -> _Token:
    if token == "\u2014":
        return _Token(True, False, (), (), (), COMMA, COMMA, False)
    parts = _TOKEN.match(token)
    opening, core, closing = parts.groups() if parts else ("", token, "")
    if core and core[-1] == "s" and closing.startswith("'"):  # boys'
        core, closing = core + "'", closing[1:]
    read = _read(core, closing) if core else ([], [], closing)
    spoken, written, closing = read or ([], [], "")
    marks = (0, 0) if opening and not core else (_mark(closing, False), _mark(closing, True))
    quotation = '"' in opening or "'" in opening
    shapes = tuple(map(_shape, written))
    return _Token(read is not None, quotation, tuple(spoken), tuple(written), shapes, *marks, core[:1].islower())


def _read(core: str, closing: str) -> tuple[list[str], list[str], str] | None:
    """Spoken and written words of a token without its marks, and the marks left; None if its reading is not sure."""
    lower = core.lower()
    if lower in _PHRASES:
        spoken = _PHRASES[lower].split()
        return spoken, spoken, closing if lower == "etc" else closing.replace(".", "", 1)
    if lower in _SPOKEN and (closing.startswith(".") or lower in _WITHOUT_A_STOP):
        if lower == "no" or (lower in ("st", "col", "gen", "mt", "hon", "sen") and core[0].islower()):
            return [lower], [core], closing  # "no." is a word at the end of a sentence
        spoken = [_SPOKEN[lower]]
        return spoken, [spoken[0].capitalize() if core[0].isupper() else spoken[0]], closing.replace(".", "", 1)
    if _DOTTED.fullmatch(core) and "." in core or len(core) == 1 and core.isupper() and closing.startswith("."):
        letters = [letter for letter in core if letter != "."]
        rest = closing.replace(".", "", 1) if core not in ("I", "A") else closing
        return [letter.lower() for letter in letters], letters, rest
    spoken, written = [], []
    for part in re.split(r"[-/]", core):
        if _WORD.fullmatch(part):
            spoken.append(part.lower().strip("'") or part)
            written.append(part.strip("'"))
        elif part:
            number = _spelt(part)
            if number is None:
                return None
            spoken += number
            written += number
    return (spoken, written, closing) if spoken else None


def _mark(closing: str, lower: bool) -> int:
    if "?" in closing:
        return QUESTION
    if "!" in closing:
        return COMMA if lower else SHOUT
    if "..." in closing:
        return COMMA if lower else STOP
    if "." in closing:
        return 0 if lower else STOP
    return COMMA if set(closing) & set(",;:") else 0


def _shape(form: str) -> int:
    stem = form.removesuffix("'s")
    if form.islower():
        return LOWER
    return UPPER if len(stem) > 1 and stem.isupper() and "'" not in stem else CAPITAL


def _spelt(part: str) -> list[str] | None:
    from num2words import num2words

    clock = _CLOCK.fullmatch(part)
    if clock:
        minutes = "o'clock" if clock[2] == "00" else ("oh " if clock[2][0] == "0" else "") + num2words(int(clock[2]))
        return _plain(f"{num2words(int(clock[1]))} {minutes}")
    found = _NUMBER.fullmatch(part)
    if found is None or len(found[2]) > 12:
        return None
    currency, whole, fraction, ending = found.groups()
    value = int(whole.replace(",", ""))
    if ending in ("st", "nd", "rd", "th"):
        return _plain(num2words(value, to="ordinal"))
    year = 1100 <= value < 2100 and "," not in whole and not currency and not fraction
    text = num2words(value, to="year") if year else num2words(value)
    if ending == "s":
        if not year and value % 10:
            return None
        text = re.sub(r"y$", "ie", text) + "s"
    if currency and fraction:
        return _plain(f"{text} {_CURRENCIES[currency]} and {num2words(int(fraction))} cents")
    if fraction:
        text += " point " + " ".join(num2words(int(digit)) for digit in fraction)
    return _plain(f"{text} {_CURRENCIES[currency] if currency else ''} {'percent' if ending == '%' else ''}")


def _plain(text: str) -> list[str]:
    return text.replace(",", "").replace("-", " ").split()
