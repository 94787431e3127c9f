"""The written forms of numbers, dates, times, money and titles in text as it is spoken (inverse text normalisation).

A pure function of the words of an utterance, whose forms are settled, for live text, once a few words without numbers
have followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from asr.words.numbers import (
    CORE,
    DECADES,
    HOMOPHONES,
    ONES,
    REPEATS,
    SCALES,
    TEENS,
    ZEROS,
    Number,
    cardinal,
    digits,
    ordinal,
    pair,
)

MONTHS = frozenset("january february march april may june july august september october november december".split())
VERBS = frozenset(("may", "march"))  # months that are verbs, too
PRONOUNS = frozenset("i you he she it we they who that which".split())
YEAR_BEFORE = MONTHS | frozenset("in since by from until till before after year during of to and between circa".split())
TIME_BEFORE = frozenset("at by until till before after around".split())
TIME_AFTER = frozenset("train bus flight news show".split())
CURRENCIES = {"dollar": "$", "dollars": "$", "euro": "€", "euros": "€"}
CENTS = frozenset(("cent", "cents"))
UNITS = frozenset(
    """kilometer kilometers kilometre kilometres meter meters metre metres centimeter centimeters centimetre centimetres
    millimeter millimeters mile miles inch inches foot feet yard yards gram grams kilogram kilograms kilo kilos
    pound pounds ounce ounces ton tons liter liters litre litres milliliter milliliters gallon gallons degree degrees
    volt volts watt watts kilowatt kilowatts hertz kilohertz megahertz gigahertz bit bits byte bytes kilobyte kilobytes
    megabyte megabytes gigabyte gigabytes terabyte terabytes cent cents pence tablespoon tablespoons teaspoon teaspoons
    acre acres calories""".split()
)
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
TITLES = {"mister": "mr.", "missus": "mrs."}
ARTICLES = frozenset("the a an my your his her our their this that no any every each what which".split())
NO_STREETS = frozenset(  # words that are in no name of one
    "the a an and or of in on at to from for by with is are was were other more new men people".split()
)
# Words that a number after them may change, or make a part of itself; others stay as they are whatever follows.
MAYBE = frozenset(("a", "minus", "negative", "point", "and", *HOMOPHONES, *REPEATS, *TITLES, "doctor"))
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
        is_name: tells of a word's place whether it is a name, for titles; by default any word but those that follow a
            title seldom.
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
    """How many leading words of an unfinished utterance are written the same whatever follows."""
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
        return _title(words, place, is_name)
    if word not in CORE and word not in MAYBE:
        return None
    for read in (_toll_free, _time, _date, _digits, _percent_or_money, _year, _labelled, _house, _ordinal, _cardinal):
        text = read(words, place)
        if text is not None:
            return Written(place, text[1], text[0])
    return None


def _word(words: Sequence[str], place: int) -> str:
    return words[place] if 0 <= place < len(words) else ""


def _title(words: Sequence[str], place: int, is_name: Callable[[int], bool]) -> Written | None:
    word, following = words[place], _word(words, place + 1)
    if word == "doctor":
        named = following and _word(words, place - 1) not in ARTICLES and is_name(place + 1)
        return Written(place, place + 1, "dr.") if named and following not in ("and", "said") else None
    several = following == "and" and _word(words, place + 2) in TITLES
    return Written(place, place + 1, TITLES[word]) if several or (following and is_name(place + 1)) else None


Text = tuple[str, int] | None  # what is written, and one past the last word of it


def _toll_free(words: Sequence[str], place: int) -> Text:
    first = place + (words[place] == "one")
    if _word(words, first) not in ONES or _word(words, first + 1) != "hundred":
        return None
    rest = digits(words, first + 2)
    if rest is None or len(rest[0]) != 7:
        return None
    return f"{'1-' if first > place else ''}{ONES[words[first]]}00-{rest[0][:3]}-{rest[0][3:]}", rest[1]


def _time(words: Sequence[str], place: int) -> Text:
    hour = ONES.get(words[place]) or TEENS.get(words[place]) or 0
    if not 1 <= hour <= 12:
        return None
    both = pair(words, place)
    if both is not None and both[1].value % 100 < 60 and both[0] == hour:
        end, minutes = both[1].end, both[1].value % 100
        half = _half_of_day(words, end)
        morning = words[end : end + 2] in (["in", "the"], ("in", "the")) and _word(words, end + 2) in (
            "morning",
            "afternoon",
            "evening",
        )
        following = _word(words, end)
        counted = following in SCALES or following in CURRENCIES or following in ("hundred", "percent", "point")
        if half is not None:
            return f"{hour}:{minutes:02d} {half[0]}", half[1]
        if (_word(words, place - 1) in TIME_BEFORE and not counted) or morning or following in TIME_AFTER:
            return f"{hour}:{minutes:02d}", end
        return None
    half = _half_of_day(words, place + 1)
    return None if half is None else (f"{hour} {half[0]}", half[1])


def _half_of_day(words: Sequence[str], place: int) -> Text:
    first, second = _word(words, place), _word(words, place + 1)
    if first in ("a", "p") and second == "m":
        return f"{first}.m.", place + 2
    if first == "pm" or (first == "am" and second not in PRONOUNS):
        return f"{first[0]}.m.", place + 1
    return None


def _date(words: Sequence[str], place: int) -> Text:
    before = _word(words, place - 1)
    month = _word(words, place - 2) if before == "the" else before
    after_month = month in MONTHS and not (
        month in VERBS and _word(words, place - 2 - (before == "the")) in PRONOUNS | {"to"}
    )
    day = ordinal(words, place)
    if day is not None and day.value <= 31:
        text = f"{day.value}{_ending(day.value)}"
        if after_month:
            year = _full_year(words, day.end)
            return (text, day.end) if year is None else (f"{text}, {year[0]}", year[1])
        if _word(words, day.end) == "of" and _word(words, day.end + 1) in MONTHS:
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


def _digits(words: Sequence[str], place: int) -> Text:
    found = digits(words, place)
    if found is None:
        return None
    text, end = found
    if _word(words, end) in SCALES or _word(words, end) == "hundred":
        return None
    if len(text) == 7:
        return f"{text[:3]}-{text[3:]}", end
    if len(text) == 10:
        return f"{text[:3]}-{text[3:6]}-{text[6:]}", end
    return text, end


def _percent_or_money(words: Sequence[str], place: int) -> Text:
    sign, first = ("-", place + 1) if words[place] in ("minus", "negative") else ("", place)
    amount = _amount(words, first)
    if amount is None or (sign and _word(words, place - 1) in CORE):
        return None
    text, end, exact = amount
    following = _word(words, end)
    if following == "percent":
        return f"{sign}{text}%", end + 1
    if following == "per" and _word(words, end + 1) == "cent":
        return f"{sign}{text}%", end + 2
    if following not in CURRENCIES:
        return None
    if words[first] == "a" and following == "dollar" and exact is None:
        return None
    end, rest = end + 1, ""
    cents_at = end + (_word(words, end) == "and")
    cents = cardinal(words, cents_at) if exact is not None else None
    if cents is not None and cents.value < 100:
        if _word(words, cents.end) in CENTS:
            rest, end = f".{cents.value:02d}", cents.end + 1
        elif cents_at == end and cents.value >= 10 and _word(words, cents.end) not in CORE:
            rest, end = f".{cents.value:02d}", cents.end
    return f"{sign}{CURRENCIES[following]}{text}{rest}", end


def _amount(words: Sequence[str], place: int) -> tuple[str, int, int | None] | None:
    """A number in figures, as 5, 2.5, 3.5 for three and a half, 1.2 million; its end; its value if it is whole."""
    number = cardinal(words, place)
    if number is None and _word(words, place) in ZEROS:
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
    scale = _word(words, end)
    if scale in SCALES and scale != "thousand":
        return f"{text} {scale}", end + 1, None
    return text, end, None


def _fraction(words: Sequence[str], place: int) -> Text:
    """Digits after a point: ``point one four``, ``point oh``, ``point twelve``; more points as in a version."""
    if _word(words, place) != "point":
        return None
    place, text = place + 1, ""
    while _word(words, place) in ONES or _word(words, place) in ZEROS:
        text, place = text + str(ONES.get(words[place], 0)), place + 1
    if not text:
        number = cardinal(words, place)
        if number is None or number.value >= 100 or _word(words, place) == "a":
            return None
        text, place = str(number.value), number.end
    more = _fraction(words, place)
    return (text, place) if more is None else (f"{text}.{more[0]}", more[1])


def _year(words: Sequence[str], place: int) -> Text:
    both = pair(words, place)
    before = _word(words, place - 1)
    first = TEENS.get(words[place]) or (20 if words[place] == "twenty" else 0)
    if first >= 10 and _word(words, place + 1) in DECADES:
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
    following = _word(words, number.end)
    things = following.endswith("s") and following not in ("was", "is", "as")
    if things or following in SCALES or following in UNITS or not _may_be_a_year(number.value):
        return None
    return str(number.value), number.end


def _labelled(words: Sequence[str], place: int) -> Text:
    """A number that names something: ``flight three eighty``, ``version two point five``, ``apartment four b``."""
    label = _word(words, place - 1)
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
    if _word(words, number.end) in ("or", "of"):  # page two of them
        return (str(number.value), number.end) if number.value >= 10 else None
    letter = _word(words, number.end)
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
    before = _word(words, place - 1)
    if before in ("a", "an") and number.end == place + 1 and number.value >= 100:
        return None
    if words[place] == "a":
        return None
    return f"{number.value:,}{_ending(number.value)}", number.end


def _cardinal(words: Sequence[str], place: int) -> Text:
    if words[place] in ("minus", "negative"):
        amount = _amount(words, place + 1)
        if amount is None or _word(words, place - 1) in CORE:
            return None
        return f"-{amount[0]}", amount[1]
    if words[place] == "point":
        first = place == 0 or _word(words, place - 1) in POINT_BEFORE
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
    following = _word(words, end)
    if following in CURRENCIES or following == "percent":
        return f"{text}", end
    if words[place] == "a" and value >= 10**6:
        return None
    if value < 10:
        feet = following == "feet" and _word(words, place - 1) in FEET
        after_foot = _word(words, place - 1) == "foot"
        measured = (following in UNITS and value > 1 and not feet) or after_foot
        return (text, end) if value and measured else None
    return text, end


def _figures(number: Number) -> str:
    if number.scale > 1:
        scale = next(word for word, size in SCALES.items() if size == number.scale)
        return f"{number.value // number.scale:,} {scale}"
    return f"{number.value:,}"


def _ending(value: int) -> str:
    if value % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
