"""The written forms of numbers, dates, times and money in text as it is spoken (inverse text normalisation).

A pure function of the words of an utterance, whose forms are settled, for live text, once a few words without numbers
have followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from asr.words.abbreviations import ARTICLES, TITLES, Text, is_letter, letters, title, word_at
from asr.words.dates import PRONOUNS, date, time, year
from asr.words.numbers import (
    CORE,
    CURRENCIES,
    HOMOPHONES,
    ONES,
    REPEATS,
    SCALES,
    UNITS,
    ZEROS,
    Number,
    cardinal,
    digits,
    ordinal,
    ordinal_ending,
    pair,
)

CENTS = frozenset(("cent", "cents"))
FEET = frozenset("on my your his her its our their these those".split())  # before feet that measure nothing
LABELS = frozenset(
    """page pages chapter number question gate platform room route highway interstate exit area apartment suite flat
    building level version python windows extension flight formula verse figure volume track channel pad release boeing
    airbus web code pin""".split()
)
NEVER_FIRST = frozenset(
    "gate room building level track exit area code question pin windows".split()
)  # gate one could see
LETTERED = frozenset("apartment suite flat gate room unit building".split())
STREETS = frozenset("street avenue road lane drive boulevard court place square terrace".split())
POINT_BEFORE = frozenset(("minus", "negative", "is", "was", "about", "of", "by", "than"))
NO_STREETS = frozenset(  # words that are in no name of one
    "the a an and or of in on at to from for by with is are was were other more new men people".split()
)
# Words that a number after them may change, or make a part of itself; others stay as they are whatever follows.
MAYBE = frozenset(("a", "minus", "negative", "point", "and", "numbers", *HOMOPHONES, *REPEATS, *TITLES, "doctor"))
LONG_DIGITS = 5  # that one number has, as that of a telephone: "my numbers ..." before them is "my number's ..."
WORLD_WARS = {"one": "I", "two": "II", "three": "III"}
SETTLING_WORDS = 3  # words without numbers after which a number does not change any more


class Written(NamedTuple):
    """Words [start, end) that are written otherwise than they are spoken."""

    start: int
    end: int
    text: str


def written_forms(words: Sequence[str], is_name: Callable[[int], bool] | None = None) -> list[Written]:
    """What is written otherwise, in order.

    Args:
        words: of an utterance, in normal form.
        is_name: tells of a word's place whether it is a name, for titles and initials; by default any word but those
            that seldom follow a title.
    """
    found: list[Written] = []
    place = 0
    while place < len(words):
        one = _at(words, place, is_name or (lambda k: words[k] not in ARTICLES | PRONOUNS))
        if one is None:
            place += 1
            continue
        found.append(one)
        place = one.end
    return found


def settled(words: Sequence[str]) -> int:
    """How many leading words of an unfinished utterance are written the same whatever follows.

    Titles are not: they wait for the word after them.
    """
    end = _numbers_settled(words)
    while end and is_letter(words[end - 1]):  # more of them may follow
        end -= 1
    return end


def _numbers_settled(words: Sequence[str]) -> int:
    count = len(words)
    active = [False] * (count + 1)
    for place in range(count - 1, -1, -1):
        word = words[place]
        active[place] = word in CORE or (word in MAYBE and (place + 1 == count or active[place + 1]))
    last = max((place for place in range(count) if active[place]), default=None)
    if last is None or count - 1 - last >= SETTLING_WORDS:
        return count
    while True:  # numbers close before it may be of one piece with it
        before = [place for place in range(max(0, last - SETTLING_WORDS), last) if active[place]]
        if not before:
            return last
        last = before[0]


def _at(words: Sequence[str], place: int, is_name: Callable[[int], bool]) -> Written | None:
    word = words[place]
    if word in TITLES or word == "doctor":
        text = title(words, place, is_name)
        return None if text is None else Written(place, text[1], text[0])
    for read in READERS if word in CORE or word in MAYBE else ():
        text = read(words, place)
        if text is not None:
            return Written(place, text[1], text[0])
    text = letters(words, place, is_name) if is_letter(word) else None
    return None if text is None else Written(place, text[1], text[0])


def _toll_free(words: Sequence[str], place: int) -> Text:
    first = place + (words[place] == "one")
    if word_at(words, first) not in ONES or word_at(words, first + 1) != "hundred":
        return None
    rest = digits(words, first + 2)
    if rest is None or len(rest[0]) != 7:
        return None
    return f"{'1-' if first > place else ''}{ONES[words[first]]}00-{rest[0][:3]}-{rest[0][3:]}", rest[1]


def _digits(words: Sequence[str], place: int) -> Text:
    found = digits(words, place)
    if found is None:
        return None
    text, end = found
    if word_at(words, end) in SCALES or word_at(words, end) == "hundred":
        return None
    if len(text) == 7:
        return f"{text[:3]}-{text[3:]}", end
    if len(text) == 10:
        return f"{text[:3]}-{text[3:6]}-{text[6:]}", end
    return text, end


def _number_is(words: Sequence[str], place: int) -> Text:
    """What sounds like ``numbers`` before the digits of one number."""
    found = digits(words, place + 1) if words[place] == "numbers" else None
    return ("number's", place + 1) if found is not None and len(found[0]) >= LONG_DIGITS else None


def _world_war(words: Sequence[str], place: int) -> Text:
    if word_at(words, place - 2) != "world" or word_at(words, place - 1) != "war" or words[place] not in WORLD_WARS:
        return None
    return WORLD_WARS[words[place]], place + 1


def _percent_or_money(words: Sequence[str], place: int) -> Text:
    sign, first = ("-", place + 1) if words[place] in ("minus", "negative") else ("", place)
    amount = _amount(words, first)
    if amount is None or (sign and word_at(words, place - 1) in CORE):
        return None
    text, end, exact = amount
    following = word_at(words, end)
    if following == "percent":
        return f"{sign}{text}%", end + 1
    if following == "per" and word_at(words, end + 1) == "cent":
        return f"{sign}{text}%", end + 2
    if following not in CURRENCIES:
        return None
    if words[first] == "a" and following == "dollar" and exact is None:
        return None
    end, rest = end + 1, ""
    cents_at = end + (word_at(words, end) == "and")
    cents = cardinal(words, cents_at) if exact is not None else None
    if cents is not None and cents.value < 100:
        if word_at(words, cents.end) in CENTS:
            rest, end = f".{cents.value:02d}", cents.end + 1
        elif cents_at == end and cents.value >= 10 and word_at(words, cents.end) not in CORE:
            rest, end = f".{cents.value:02d}", cents.end
    return f"{sign}{CURRENCIES[following]}{text}{rest}", end


def _amount(words: Sequence[str], place: int) -> tuple[str, int, int | None] | None:
    """A number in figures, as 5, 2.5, 3.5 for three and a half, 1.2 million; its end; its value if it is whole."""
    number = cardinal(words, place)
    if number is None and word_at(words, place) in ZEROS:
        number = Number(0, place + 1)
    if number is None:
        return None
    fraction = _fraction(words, number.end)
    if fraction is not None:
        text, end = f"{number.value}.{fraction[0]}", fraction[1]
    elif words[number.end : number.end + 3] in (["and", "a", "half"], ("and", "a", "half")):
        text, end = f"{number.value}.5", number.end + 3
    else:
        return _figures(number), number.end, number.value
    scale = word_at(words, end)
    if scale in SCALES and scale != "thousand":
        return f"{text} {scale}", end + 1, None
    return text, end, None


def _fraction(words: Sequence[str], place: int) -> Text:
    """Digits after a point: ``point one four``, ``point oh``, ``point twelve``; more points as in a version."""
    if word_at(words, place) != "point":
        return None
    place, text = place + 1, ""
    while word_at(words, place) in ONES or word_at(words, place) in ZEROS:
        text, place = text + str(ONES.get(words[place], 0)), place + 1
    if not text:
        number = cardinal(words, place)
        if number is None or number.value >= 100 or word_at(words, place) == "a":
            return None
        text, place = str(number.value), number.end
    more = _fraction(words, place)
    return (text, place) if more is None else (f"{text}.{more[0]}", more[1])


def _labelled(words: Sequence[str], place: int) -> Text:
    """A number that names something: ``flight three eighty``, ``version two point five``, ``apartment four b``."""
    label = word_at(words, place - 1)
    if label not in LABELS:
        return None
    number = cardinal(words, place)
    if number is None or (number.value == 1 and label in NEVER_FIRST):
        return None
    fraction = _fraction(words, number.end)
    if fraction is not None:
        return f"{number.value}.{fraction[0]}", fraction[1]
    both = pair(words, place)
    if both is not None and both[0] < 10:
        number = both[1]
    if word_at(words, number.end) in ("or", "of"):  # page two of them
        return (str(number.value), number.end) if number.value >= 10 else None
    letter = word_at(words, number.end)
    if label in LETTERED and len(letter) == 1 and letter not in "ai":
        return f"{number.value}{letter.upper()}", number.end + 1
    return str(number.value), number.end


def _house(words: Sequence[str], place: int) -> Text:
    """The number of a house: a street follows within three words."""
    both = pair(words, place)
    number = both[1] if both is not None and (both[0] < 10 or both[0] >= 20) else cardinal(words, place)
    if number is None or number.end >= len(words) or words[place] == "a":
        return None
    end, letter = number.end, ""
    if len(words[end]) == 1 and words[end] not in "aio":
        end, letter = end + 1, words[end].upper()
    for last in range(end + 1, min(end + 3, len(words))):
        name = words[end:last]
        if words[last] in STREETS and not set(name) & CORE and not set(name) & NO_STREETS:
            return f"{number.value}{letter}", end
    return None


def _ordinal(words: Sequence[str], place: int) -> Text:
    number = ordinal(words, place)
    if number is None or number.value < 10:
        return None
    before = word_at(words, place - 1)
    if before in ("a", "an") and number.end == place + 1 and number.value >= 100:
        return None
    if words[place] == "a":
        return None
    return f"{number.value:,}{ordinal_ending(number.value)}", number.end


def _cardinal(words: Sequence[str], place: int) -> Text:
    if words[place] in ("minus", "negative"):
        amount = _amount(words, place + 1)
        if amount is None or word_at(words, place - 1) in CORE:
            return None
        return f"-{amount[0]}", amount[1]
    if words[place] == "point":
        first = place == 0 or word_at(words, place - 1) in POINT_BEFORE
        fraction = _fraction(words, place) if first else None
        return None if fraction is None else (f"0.{fraction[0]}", fraction[1])
    amount = _amount(words, place)
    if amount is None:
        return None
    text, end, value = amount
    if value is None:
        if text.endswith(".5") and words[end - 1] == "half":
            return None  # two and a half
        return text, end
    following = word_at(words, end)
    if following in CURRENCIES or following == "percent":
        return f"{text}", end
    if words[place] == "a" and value >= 10**6:
        return None
    if value < 10:
        feet = following == "feet" and word_at(words, place - 1) in FEET
        after_foot = word_at(words, place - 1) == "foot"
        measured = (following in UNITS and value > 1 and not feet) or after_foot
        return (text, end) if value and measured else None
    return text, end


def _figures(number: Number) -> str:
    if number.scale > 1:
        scale = next(word for word, size in SCALES.items() if size == number.scale)
        return f"{number.value // number.scale:,} {scale}"
    return f"{number.value:,}"


READERS = (
    _number_is,
    _world_war,
    _toll_free,
    time,
    date,
    _digits,
    _percent_or_money,
    year,
    _labelled,
    _house,
    _ordinal,
    _cardinal,
)
