"""Numbers read word by word: cardinals, ordinals, digits one by one, pairs as in years and house numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_ONES = "one two three four five six seven eight nine".split()
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
ONES = {word: number for number, word in enumerate(_ONES, 1)}
TEENS = {word: number for number, word in enumerate(_TEENS, 10)}
TENS = {word: 10 * number for number, word in enumerate(_TENS, 2)}
ZEROS = frozenset(("zero", "oh", "o", "nought"))
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_IRREGULAR = {"first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12}
ORDINAL_ONES = {f"{word}th": number for word, number in ONES.items() if word not in ("one", "two", "three", "five")}
ORDINAL_ONES = {word: number for word, number in ORDINAL_ONES.items() if word not in ("eightth", "nineth")}
ORDINAL_ONES |= {word: number for word, number in _IRREGULAR.items() if number < 10}
ORDINAL_TEENS = {f"{word}th": number for word, number in TEENS.items() if word != "twelve"} | {"twelfth": 12}
ORDINAL_TENS = {f"{word[:-1]}ieth": number for word, number in TENS.items()}
ORDINALS = ORDINAL_ONES | ORDINAL_TEENS | ORDINAL_TENS
ORDINAL_SCALES = {"hundredth": 100, "thousandth": 1_000, "millionth": 10**6}
DECADES = {f"{word[:-1]}ies": number for word, number in TENS.items()}
REPEATS = {"double": 2, "triple": 3}
CURRENCIES = {"dollar": "$", "dollars": "$", "euro": "€", "euros": "€"}
UNITS = frozenset(
    """kilometer kilometers kilometre kilometres meter meters metre metres centimeter centimeters centimetre centimetres
    millimeter millimeters mile miles inch inches foot feet yard yards gram grams kilogram kilograms kilo kilos
    pound pounds ounce ounces ton tons liter liters litre litres milliliter milliliters gallon gallons degree degrees
    volt volts watt watts kilowatt kilowatts hertz kilohertz megahertz gigahertz bit bits byte bytes kilobyte kilobytes
    megabyte megabytes gigabyte gigabytes terabyte terabytes cent cents pence tablespoon tablespoons teaspoon teaspoons
    acre acres calories""".split()
)
HOMOPHONES = {"for": 4, "to": 2, "too": 2, "won": 1, "ate": 8}
RARE_HOMOPHONES = frozenset(("won", "ate"))  # hardly ever said between two digits
LEAST_DIGITS = 3  # that are said one by one to be written as one number

# A word of these makes a number; the others below may take part in one.
CORE = frozenset((*ONES, *TEENS, *TENS, *ZEROS, *SCALES, *ORDINALS, *ORDINAL_SCALES, *DECADES, "hundred"))


class Number(NamedTuple):
    """A number that has been read."""

    value: int
    end: int  # one past its last word
    scale: int = 1  # where it was said in millions or more and nothing after: 3 million has the scale 10**6
    ordinal: bool = False


def below_hundred(words: Sequence[str], start: int) -> Number | None:
    """One to ninety nine."""
    if start >= len(words):
        return None
    word = words[start]
    if word in TENS:
        following = words[start + 1] if start + 1 < len(words) else ""
        if following in ONES:
            return Number(TENS[word] + ONES[following], start + 2)
        return Number(TENS[word], start + 1)
    value = TEENS.get(word) or ONES.get(word)
    return None if value is None else Number(value, start + 1)


def cardinal(words: Sequence[str], start: int) -> Number | None:
    """The longest cardinal at a place: ``two thousand three hundred and forty``, ``a hundred``, ``twelve hundred``."""
    group = _below_thousand(words, start)
    if group is None:
        return None
    total, place, scale = 0, group.end, 1
    last = 10**15
    value: Number | None = group
    while value is not None:
        word = words[place] if place < len(words) else ""
        size = SCALES.get(word, 1) if value.value < 1_000 else 1
        if size >= last:
            break
        total += value.value * size
        place = place + 1 if size > 1 else value.end
        scale = size if size >= 10**6 and total == value.value * size else 1
        last = size
        if size == 1:
            break
        following = place + (place < len(words) and words[place] == "and")
        value = _below_thousand(words, following, article=False)
        if value is not None:
            then = SCALES.get(words[value.end], 1) if value.end < len(words) else 1
            if then >= last or (following > place and value.value >= 100 and then == 1 and size == 1):
                break
            place = value.end
    return Number(total, place, scale)


def ordinal(words: Sequence[str], start: int) -> Number | None:
    """The longest ordinal: ``twenty first``, ``hundred and first``, ``thirteenth``."""
    if start >= len(words):
        return None
    word = words[start]
    if word in ORDINALS:
        return Number(ORDINALS[word], start + 1, ordinal=True)
    if word in ORDINAL_SCALES:
        return Number(ORDINAL_SCALES[word], start + 1, ordinal=True)
    if word in TENS and start + 1 < len(words) and words[start + 1] in ORDINAL_ONES:
        return Number(TENS[word] + ORDINAL_ONES[words[start + 1]], start + 2, ordinal=True)
    before = cardinal(words, start)
    if before is None:
        return None
    following = before.end + (before.end < len(words) and words[before.end] == "and")
    if before.end < len(words) and words[before.end] in ORDINAL_SCALES:
        return Number(before.value * ORDINAL_SCALES[words[before.end]], before.end + 1, ordinal=True)
    rest = ordinal(words, following) if before.value >= 100 and before.value % 100 == 0 else None
    if rest is not None and rest.value < 100:
        return Number(before.value + rest.value, rest.end, ordinal=True)
    return None


def pair(words: Sequence[str], start: int) -> tuple[int, Number] | None:
    """A number said in two parts without hundred or thousand: ``nineteen oh five``, ``two twenty one``.

    Returns:
        The first part, and the whole, whose last two digits are the second part.
    """
    first = _single(words, start)
    if first is None or first.end >= len(words):
        return None
    if words[first.end] in ZEROS and first.end + 1 < len(words) and words[first.end + 1] in ONES:
        return first.value, Number(100 * first.value + ONES[words[first.end + 1]], first.end + 2)
    second = below_hundred(words, first.end)
    if second is None or second.value < 10:
        return None
    return first.value, Number(100 * first.value + second.value, second.end)


def digits(words: Sequence[str], start: int) -> tuple[str, int] | None:
    """Digits said one by one, with ``double`` and ``triple``, and with words that sound like one among them.

    Returns:
        At least `LEAST_DIGITS` digits, and the end; None where fewer are there.
    """
    found, sure, place = "", 0, start
    while place < len(words):
        one = _digit(words, place)
        if one is not None:
            found, place, sure = found + one[0], one[1], sure + len(one[0])
            continue
        word = words[place]
        following = _digit(words, place + 1)
        if word not in HOMOPHONES or following is None or (place == start and word != "for"):
            break
        found, place = found + str(HOMOPHONES[word]), place + 1
    spoken = words[start:place]
    doubtful = [word for word in spoken if word in HOMOPHONES]
    needed = LEAST_DIGITS if set(doubtful) - RARE_HOMOPHONES else LEAST_DIGITS - len(doubtful)
    if len(found) < LEAST_DIGITS or sure < max(2, needed):
        return None
    return found, place


def _digit(words: Sequence[str], place: int) -> tuple[str, int] | None:
    """One digit, or two or three of the same, and the end; not the first word of a larger number."""
    if place >= len(words):
        return None
    word = words[place]
    if word in REPEATS:
        one = _digit(words, place + 1)
        return None if one is None or len(one[0]) != 1 else (one[0] * REPEATS[word], one[1])
    if word in ZEROS:
        return "0", place + 1
    following = words[place + 1] if place + 1 < len(words) else ""
    if word in ONES and following not in SCALES and following not in ("hundred", "point", *ORDINAL_SCALES):
        return str(ONES[word]), place + 1
    return None


def _single(words: Sequence[str], start: int) -> Number | None:
    """What may come first in a pair: one to nineteen, or whole tens."""
    if start >= len(words):
        return None
    value = ONES.get(words[start]) or TEENS.get(words[start]) or TENS.get(words[start])
    return None if value is None else Number(value, start + 1)


def _below_thousand(words: Sequence[str], start: int, article: bool = True) -> Number | None:
    if start >= len(words):
        return None
    if article and words[start] == "a":
        if start + 1 < len(words) and words[start + 1] in SCALES:
            return Number(1, start + 1)
        if start + 1 >= len(words) or words[start + 1] != "hundred":
            return None
        first: Number | None = Number(1, start + 1)
    else:
        first = below_hundred(words, start)
    if first is None:
        return None
    if first.end >= len(words) or words[first.end] != "hundred":
        return first
    place = first.end + 1
    following = place + (place < len(words) and words[place] == "and")
    rest = below_hundred(words, following)
    if rest is None or (rest.end < len(words) and words[rest.end] == "hundred"):
        return Number(100 * first.value, place)
    return Number(100 * first.value + rest.value, rest.end)


def ordinal_ending(value: int) -> str:
    """The letters after an ordinal in figures, as th in 11th."""
    if value % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
