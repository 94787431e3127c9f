"""The written forms of times, dates and years: 5:30 p.m., May 21st, 1995, the 1890s."""

from __future__ import annotations

from collections.abc import Sequence

from asr.words.abbreviations import Text, word_at
from asr.words.numbers import CURRENCIES, DECADES, ONES, SCALES, TEENS, UNITS, cardinal, ordinal, ordinal_ending, pair

MONTHS = frozenset("january february march april may june july august september october november december".split())
VERBS = frozenset(("may", "march"))  # months that are verbs, too
PRONOUNS = frozenset("i you he she it we they who that which".split())
YEAR_BEFORE = MONTHS | frozenset("in since by from until till before after year during of to and between circa".split())
TIME_BEFORE = frozenset("at by until till before after around".split())
TIME_AFTER = frozenset("train bus flight news show".split())


def time(words: Sequence[str], place: int) -> Text:
    """A time of day that begins at a place, as 5:30, 5 p.m., 9:05 before train."""
    hour = ONES.get(words[place]) or TEENS.get(words[place]) or 0
    if not 1 <= hour <= 12:
        return None
    both = pair(words, place)
    if both is not None and both[1].value % 100 < 60 and both[0] == hour:
        end, minutes = both[1].end, both[1].value % 100
        half = _half_of_day(words, end)
        morning = words[end : end + 2] in (["in", "the"], ("in", "the")) and word_at(words, end + 2) in (
            "morning",
            "afternoon",
            "evening",
        )
        following = word_at(words, end)
        counted = following in SCALES or following in CURRENCIES or following in ("hundred", "percent", "point")
        if half is not None:
            return f"{hour}:{minutes:02d} {half[0]}", half[1]
        if (word_at(words, place - 1) in TIME_BEFORE and not counted) or morning or following in TIME_AFTER:
            return f"{hour}:{minutes:02d}", end
        return None
    half = _half_of_day(words, place + 1)
    return None if half is None else (f"{hour} {half[0]}", half[1])


def _half_of_day(words: Sequence[str], place: int) -> Text:
    first, second = word_at(words, place), word_at(words, place + 1)
    if first in ("a", "p") and second == "m":
        return f"{first}.m.", place + 2
    if first == "pm" or (first == "am" and second not in PRONOUNS):
        return f"{first[0]}.m.", place + 1
    return None


def date(words: Sequence[str], place: int) -> Text:
    """The day beside the name of a month, and the year after it: as 21st in May 21st, 1995."""
    before = word_at(words, place - 1)
    month = word_at(words, place - 2) if before == "the" else before
    after_month = month in MONTHS and not (
        month in VERBS and word_at(words, place - 2 - (before == "the")) in PRONOUNS | {"to"}
    )
    day = ordinal(words, place)
    if day is not None and day.value <= 31:
        text = f"{day.value}{ordinal_ending(day.value)}"
        if after_month:
            year = _full_year(words, day.end)
            return (text, day.end) if year is None else (f"{text}, {year[0]}", year[1])
        if word_at(words, day.end) == "of" and word_at(words, day.end + 1) in MONTHS:
            return text, day.end
        return None
    if not after_month or before == "the":
        return None
    number = cardinal(words, place)
    day = number if number is not None and number.value <= 31 else None
    year = _full_year(words, day.end) if day else None
    if day and year is not None:
        return f"{day.value}, {year[0]}", year[1]
    year = _full_year(words, place)
    if year is not None:
        return str(year[0]), year[1]
    if day is None or month in VERBS or day.scale > 1:
        return None
    return str(day.value), day.end


def year(words: Sequence[str], place: int) -> Text:
    """A year or a decade without a month, as in 1995, the 1890s."""
    both = pair(words, place)
    before = word_at(words, place - 1)
    first = TEENS.get(words[place]) or (20 if words[place] == "twenty" else 0)
    if first >= 10 and word_at(words, place + 1) in DECADES:
        return f"{first}{DECADES[words[place + 1]]}s", place + 2
    if both is not None and first >= 10:
        second = both[1].value % 100
        sure = first >= 13 or second >= 60
        row = second == first + 1  # eighteen, nineteen
        if (sure and not row) or before in YEAR_BEFORE - {"to", "and", "of"}:
            return str(both[1].value), both[1].end
    number = cardinal(words, place)
    if number is None or before not in YEAR_BEFORE - {"to", "and", "of"}:
        return None
    following = word_at(words, number.end)
    things = following.endswith("s") and following not in ("was", "is", "as")
    if things or following in SCALES or following in UNITS or not _may_be_a_year(number.value):
        return None
    return str(number.value), number.end


def _full_year(words: Sequence[str], place: int) -> tuple[int, int] | None:
    """A year where there can be little else: as ``nineteen ninety five``, ``two thousand and five``."""
    both = pair(words, place)
    if both is not None and (11 <= both[0] < 20 or both[0] == 20):
        return both[1].value, both[1].end
    number = cardinal(words, place)
    return (number.value, number.end) if number is not None and _may_be_a_year(number.value) else None


def _may_be_a_year(value: int) -> bool:
    """Of a number said with hundred or thousand."""
    return 2_000 <= value < 2_100 or value in range(1_100, 2_000, 100)
