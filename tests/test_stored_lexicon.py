"""Lexicons of language models: words and pronunciations found in the text of a file, which is read once and kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_lm import PHONE_TABLE

from asr.errors import ModelError
from asr.lm.stored_lexicon import StoredPronunciations, StoredWords, stored_lexicon

# A word may have several lines, and these need not be next to each other.
TEXT = "read R IY D\nread R EH D\nbook B UH K\nréné R EH N\nread R IY\nmm\n"
WORDS = ("", "read", "book", "réné", "mm")
SOUNDS = ((), ("R IY D", "R EH D", "R IY"), ("B UH K",), ("R EH N",), ("",))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RILL_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


def opened(text: str, checksum: str = "a") -> tuple[StoredWords, StoredPronunciations]:
    return stored_lexicon(Path("lexicon.txt"), checksum, text.encode, PHONE_TABLE)


@pytest.mark.parametrize("text", [TEXT, TEXT.removesuffix("\n")])
def test_every_word_has_its_lines(folder, text):
    expected = tuple(tuple(tuple(PHONE_TABLE.encode(sound.split())) for sound in sounds) for sounds in SOUNDS)
    for _ in range(2):  # made, then kept
        words, pronunciations = opened(text)
        assert (len(words), len(pronunciations)) == (len(WORDS), len(WORDS))
        assert tuple(words) == WORDS == tuple(words[k] for k in range(len(words)))
        assert tuple(pronunciations) == expected == tuple(pronunciations[k] for k in range(len(words)))
        assert words[1:3] == WORDS[1:3] and pronunciations[2:] == expected[2:]
        assert words[-1] == "mm" and words.index("book") == 2 and "réné" in words
        with pytest.raises(IndexError):
            words[len(WORDS)]
    assert len(list(folder.iterdir())) == 1


def test_it_is_read_once(folder):
    opened(TEXT)
    words, _ = stored_lexicon(Path("lexicon.txt"), "a", lambda: pytest.fail("it was to be found"), PHONE_TABLE)
    assert tuple(words) == WORDS
    assert tuple(opened("other AH\n", "b")[0]) == ("", "other")


def test_what_cannot_be_read_is_one_clear_error(folder):
    with pytest.raises(ModelError, match="lexicon.txt is not UTF-8"):
        stored_lexicon(Path("lexicon.txt"), "a", lambda: b"\xff AH\n", PHONE_TABLE)
    _, pronunciations = opened("odd AH QQ\n")
    with pytest.raises(ModelError, match="no word 1 in these phones"):
        pronunciations[1]
    with pytest.raises(ModelError, match="no word 7"):
        pronunciations[7]
