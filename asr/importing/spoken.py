"""Numbers and symbols of written transcripts, spelled out as people read them aloud, by num2words."""

from __future__ import annotations

import re
from decimal import Decimal

from asr.errors import DataError
from asr.words.text import normalise, unusable_characters

YEARS = range(1_100, 2_100)  # four digits without a comma are read as a year
MOST_DIGITS = 15
CURRENCIES = {"$": "USD", "£": "GBP", "€": "EUR"}
SYMBOLS = {"%": " percent ", "&": " and ", "+": " plus ", "=": " equals ", "@": " at ", "°": " degrees "}
_MONEY = re.compile(r"([$£€])\s?(\d{1,3}(?:,\d{3})+|\d+)(\.\d\d)?(?![\d.]*\d)")
_TIME = re.compile(r"\b(\d{1,2}):([0-5]\d)\b(?!:)")
_ORDINAL = re.compile(r"\b(\d{1,3}(?:,\d{3})+|\d+)(st|nd|rd|th)\b", re.IGNORECASE)
_MINUS = re.compile(r"(?<![\w.-])[-\u2212](?=\d)")
_NUMBER = re.compile(r"(?<![\w.:/])(?<!\d[-,])(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(?!\w|[.:/,-]\d)")


def spelled_out(text: str) -> str:
    """A transcript in normal form, with its numbers as words.

    Years are read as years (1984), clock times without "o'clock" (9:30), dollars, pounds and euros with their cents.
    What has several readings, such as codes of letters and digits, dates in figures and phone numbers, is not guessed.

    Raises:
        DataError: characters are left of which the reading is not known.
    """
    if not unusable_characters(text):
        return normalise(text)
    text = _MONEY.sub(_money, text)
    text = _TIME.sub(_time, text)
    text = _ORDINAL.sub(lambda found: _words(found[1], "ordinal"), text)
    text = _NUMBER.sub(_number, _MINUS.sub(" minus ", text))
    for symbol, spoken in SYMBOLS.items():
        text = text.replace(symbol, spoken)
    return normalise(text)


def _words(digits: str, kind: str = "cardinal") -> str:
    from num2words import num2words

    plain = digits.replace(",", "")
    if len(plain) > MOST_DIGITS:
        raise DataError(f"the number {digits[:40]} is too long to be read as one")
    # "and" and commas are for the eye: people say "one thousand two hundred fifty" and "... and fifty" alike.
    return f" {num2words(int(plain), to=kind).replace(',', '')} "


def _number(found: re.Match[str]) -> str:
    whole, fraction = found[1], found[2]
    if fraction:
        return f"{_words(whole)} point {' '.join(_words(digit) for digit in fraction[1:])} "
    if len(whole) > 1 and whole.startswith("0"):  # a code: digit by digit
        return " ".join(_words(digit) for digit in whole)
    if len(whole) == 4 and int(whole) in YEARS:
        return _words(whole, "year")
    return _words(whole)


def _time(found: re.Match[str]) -> str:
    hour, minute = int(found[1]), int(found[2])
    if hour > 24:
        return found[0]
    if minute == 0:
        return _words(found[1].lstrip("0") or "0") + ("hundred " if hour > 12 else "o'clock ")
    return _words(str(hour)) + ("oh " if minute < 10 else "") + _words(str(minute))


def _money(found: re.Match[str]) -> str:
    from num2words import num2words

    amount = Decimal(found[2].replace(",", "") + (found[3] or ""))
    if amount >= 10**MOST_DIGITS:
        return found[0]
    if amount == int(amount):
        name = {"$": "dollar", "£": "pound", "€": "euro"}[found[1]]
        return f"{_words(found[2])}{name if amount == 1 else f'{name}s'} "
    said = num2words(amount, lang="en", to="currency", currency=CURRENCIES[found[1]], separator=" and")
    return f" {said.replace(',', '')} "
