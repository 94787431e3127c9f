"""Titles before names, and letters said one by one, as they are written: Mr. Brown, TV, J. K. Rowling, T-shirt.

Functions of the words of an utterance and of which of them are names. A title waits for the word after it, letters for
the word after the last of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from asr.words.numbers import CORE

Text = tuple[str, int] | None  # what is written, and one past the last word of it
TITLES = {"mister": "mr.", "missus": "mrs."}
ARTICLES = frozenset("the a an my your his her our their this that no any every each what which".split())
ALSO_WORDS = ("a", "i")
ACRONYMS = frozenset(  # before a name, or with a letter that is a word at an end
    """abc ac api aol atm bbc bc cbs cd cia cnn cpa dc dna dui dvd epa eu fbi fda gpa gps gui ibm id ip ira irs it iq
    iou la mba nba nbc ncaa nfl nhl ny nyc pa pc phd pr pta rna tv ui uk un us usa va vip ymca""".split()
)
WITH_SMALL_LETTERS = {"phd": "PhD"}
COMPOUNDS = {
    ("t", "shirt"): "T-shirt",
    ("t", "shirts"): "T-shirts",
    ("x", "ray"): "X-ray",
    ("x", "rays"): "X-rays",
    ("u", "turn"): "U-turn",
    ("u", "turns"): "U-turns",
    ("e", "mail"): "email",
    ("e", "mails"): "emails",
}
MOST_INITIALS = 3
SPELT_LETTERS = 4  # from which on letters with a vowel are a word that is spelt
_PLURALS = frozenset(f"{letter}{end}" for letter in "bcdefghjklmnopqrstuvwxyz" for end in ("s", "'s")) - {"us", "os"}


def is_letter(word: str) -> bool:
    """Whether a word is a letter of the alphabet; two of them are articles and pronouns, too."""
    return len(word) == 1 and word.isalpha()


def title(words: Sequence[str], place: int, is_name: Callable[[int], bool]) -> Text:
    """Mr., Mrs. or Dr. before a name, or before another title: ``mister and missus brown``."""
    word, following = words[place], word_at(words, place + 1)
    if word == "doctor":
        named = following and word_at(words, place - 1) not in ARTICLES and is_name(place + 1)
        return ("dr.", place + 1) if named and following not in ("and", "said") else None
    several = following == "and" and word_at(words, place + 2) in TITLES
    return (TITLES[word], place + 1) if several or (following and is_name(place + 1)) else None


def letters(words: Sequence[str], place: int, is_name: Callable[[int], bool]) -> Text:
    """Letters said one by one: an acronym, initials between names, a compound with a letter, or a word that is spelt.

    A first or last letter that may be a word as well, as in ``plan b i think``, belongs to well-known acronyms only.
    """
    end = place
    while is_letter(word_at(words, end)):
        end += 1
    spelt, following = "".join(words[place:end]), word_at(words, end)
    if following in _PLURALS and end > place:
        return spelt.upper() + following[0].upper() + following[1:], end + 1
    if spelt[:1] in ALSO_WORDS and spelt[1:] in ACRONYMS and spelt not in ACRONYMS:  # a t v
        return None
    core = spelt.strip("".join(ALSO_WORDS))
    if len(spelt) >= SPELT_LETTERS and len(core) > 2 and set(core) & set("aeiou") and spelt not in ACRONYMS:
        return "-".join(spelt.upper()), end
    while spelt and spelt not in ACRONYMS and spelt[-1] in ALSO_WORDS:
        end, spelt = end - 1, spelt[:-1]
    if not spelt or (spelt[0] in ALSO_WORDS and spelt not in ACRONYMS):
        return None
    following = word_at(words, end)
    if (spelt, following) in COMPOUNDS:
        return COMPOUNDS[spelt, following], end + 1
    if spelt not in ACRONYMS and spelt != "o" and following and is_name(end) and following not in CORE:
        between = place > 0 and not is_letter(words[place - 1]) and is_name(place - 1)
        if between or 1 < len(spelt) <= MOST_INITIALS:
            return " ".join(f"{letter.upper()}." for letter in spelt), end
    return (WITH_SMALL_LETTERS.get(spelt, spelt.upper()), end) if len(spelt) > 1 else None


def word_at(words: Sequence[str], place: int) -> str:
    """The word at a place, "" before the first and after the last."""
    return words[place] if 0 <= place < len(words) else ""
