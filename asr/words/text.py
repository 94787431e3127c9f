"""The normal form of text: lower-case a-z, the apostrophe and single spaces.

Transcripts, language-model text, hotwords and references for scoring all pass through here, so that they agree.
"""

from __future__ import annotations

import re
import unicodedata

from asr.errors import DataError

# Curly single quotes, modifier apostrophe, prime, backtick, acute accent, full-width apostrophe.
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u2018\u02bc\u2032`\u00b4\uff07", "'"))
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_SPOKEN = frozenset("&%@#\u2030")  # Unicode files them under punctuation; people read them aloud
_SEPARATORS = frozenset("/\\_\u2026")
_SEPARATING_CATEGORIES = frozenset(["Pd", "Zs", "Zl", "Zp", "Cc"])  # dashes, spaces, line ends, control characters
_DROPPED_CATEGORIES = frozenset(["Po", "Ps", "Pe", "Pi", "Pf", "Pc", "Cf"])  # punctuation, quotes, brackets
_LONE_APOSTROPHE = re.compile(r"(?<![a-z])'(?![a-z])")


def unusable_characters(text: str) -> set[str]:
    """Characters of `text` without an unambiguous normal form.

    Digits and letters outside a-z must be spelled out, since their reading depends on the context ("4" may be "four" or
    "fourth"), and so must symbols that are read aloud (& % @ + = $). Plain punctuation is not reported: `normalise`
    drops it.
    """
    return {character for character in set(text.translate(_APOSTROPHES)) if _role(character) is None}


def normalise(text: str) -> str:
    """Bring text into normal form; "" when only punctuation is there. Idempotent.

    Upper case becomes lower case, curly quotes become ', hyphens, dashes, slashes, ellipses and white space become one
    space, other punctuation is dropped, and so is an apostrophe that touches no letter.

    Raises:
        DataError: the text has characters that `unusable_characters` reports.
    """
    unusable = unusable_characters(text)
    if unusable:
        shown = " ".join(repr(character) for character in sorted(unusable))
        raise DataError(f"text has characters other than a-z, apostrophe and punctuation: {shown}; spell them out")
    text = "".join(_role(character) or "" for character in text.translate(_APOSTROPHES))
    text = re.sub("'+", "'", text)
    text = _LONE_APOSTROPHE.sub("", text)
    return " ".join(text.split())


def _role(character: str) -> str | None:
    """The normal form of a character: itself in lower case, " ", "" (dropped), or None when it is unusable."""
    if character in _LETTERS:
        return character.lower()
    if character == "'":
        return character
    if character in _SPOKEN:
        return None
    category = unicodedata.category(character)
    if character in _SEPARATORS or category in _SEPARATING_CATEGORIES:
        return " "
    return "" if category in _DROPPED_CATEGORIES else None
