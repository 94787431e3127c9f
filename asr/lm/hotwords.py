"""Hotwords: words and phrases that are likelier to be said than the language model thinks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from asr.errors import DataError, UsageError
from asr.words.text import normalise

DEFAULT_BOOST = 3.0
MOST_BOOST = 20.0
MOST_PHRASES = 10_000


@dataclass(frozen=True)
class Hotword:
    """A phrase of words in normal form, and by how many nats each of them is made likelier."""

    words: tuple[str, ...]
    boost: float = DEFAULT_BOOST


def read_hotwords(given: str | Path | Mapping[str, float] | Iterable[str]) -> tuple[Hotword, ...]:
    """Hotwords from any of the forms in which they may be given.

    Args:
        given: the path of a file that has an entry a line (# begins a comment); or entries in one string, commas
            between them; or several entries; or phrases with their boosts. An entry is ``phrase`` or ``phrase:boost``.
    Returns:
        Each phrase once, with the highest of its boosts.
    Raises:
        UsageError: a file that is not there or cannot be read, no entry at all or an empty one, characters that cannot
            be spoken, a boost that is no number or out of range, too many entries.
    """
    entries = _entries(given)
    if not entries:
        raise UsageError(f"hotwords {given!r} have no entry; give words or phrases, each with :BOOST or without")
    if len(entries) > MOST_PHRASES:
        raise UsageError(f"{len(entries)} hotwords are too many; {MOST_PHRASES} can be heeded")
    boosts: dict[tuple[str, ...], float] = {}
    for where, entry in entries:
        phrase, boost = _parsed(where, entry)
        boosts[phrase] = max(boost, boosts.get(phrase, 0.0))
    return tuple(Hotword(phrase, boost) for phrase, boost in boosts.items())


def _entries(given: str | Path | Mapping[str, float] | Iterable[str]) -> list[tuple[str, str]]:
    """Where each entry stands, for complaints, and the entry."""
    if isinstance(given, Mapping):
        given = [f"{phrase}:{boost}" for phrase, boost in given.items()]
    if isinstance(given, Path) or (isinstance(given, str) and _names_a_file(given)):
        try:
            lines = Path(given).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"hotwords {given} cannot be read: {reason}") from None
        stripped = ((number, line.partition("#")[0].strip()) for number, line in enumerate(lines, start=1))
        return [(f"{given}, line {number}", line) for number, line in stripped if line]
    if isinstance(given, str):
        given = given.split(",") if given.strip() else []
    entries = list(given)
    if not all(isinstance(entry, str) for entry in entries):
        raise UsageError(f"hotwords must be text, got {entries!r}")
    return [(f"hotword {number}", entry.strip()) for number, entry in enumerate(entries, start=1)]


def _names_a_file(given: str) -> bool:
    if "," in given or "\n" in given:
        return False
    return "/" in given or given.endswith(".txt") or Path(given).is_file()


def _parsed(where: str, entry: str) -> tuple[tuple[str, ...], float]:
    phrase, colon, number = entry.partition(":")
    try:
        boost = float(number) if colon else DEFAULT_BOOST
    except ValueError:
        raise UsageError(f"{where}: the boost of {phrase!r} must be a number, got {number.strip()!r}") from None
    if not (math.isfinite(boost) and 0 < boost <= MOST_BOOST):
        raise UsageError(f"{where}: the boost of {phrase!r} must be above 0 and at most {MOST_BOOST:g}, got {boost:g}")
    try:
        words = tuple(normalise(phrase).split())
    except DataError as error:
        raise UsageError(f"{where}: {phrase!r}: {error}") from None
    if not words:
        raise UsageError(f"{where}: {entry!r} has no word; write a word or phrase, then :BOOST if you like")
    return words, boost
