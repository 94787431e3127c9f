import random

import pytest

from asr.errors import DataError
from asr.words.letter_to_sound import PronunciationModel
from asr.words.lexicon import Lexicon, read_entries
from asr.words.tokens import PHONES


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon.load()


def edit_distance(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        previous, row = row, [i]
        for j, b in enumerate(right, start=1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (a != b)))
    return row[-1]


@pytest.fixture(scope="module")
def learned(lexicon) -> tuple[PronunciationModel, list[str]]:
    """A model of an eighth of the dictionary, and words that it has not seen."""
    words = sorted(word for word in lexicon.words if word.isalpha())
    random.Random(0).shuffle(words)
    training = words[: len(words) // 8]
    examples = [(word, phones) for word in training for phones in lexicon.pronounce(word)]
    return PronunciationModel.train(examples), words[-200:]


def test_dictionary_words(lexicon):
    assert lexicon.pronounce("speech") == (("S", "P", "IY", "CH"),)
    assert set(lexicon.pronounce("read")) == {("R", "IY", "D"), ("R", "EH", "D")}
    assert "speech" in lexicon and "kwyjibo" not in lexicon
    assert len(lexicon) > 100_000


def test_only_phones_of_the_model_and_no_doubles(lexicon):
    for word in lexicon.words:
        pronunciations = lexicon.pronounce(word)
        assert pronunciations and len(set(pronunciations)) == len(pronunciations)
        assert all(phone in PHONES[1:] for phones in pronunciations for phone in phones)


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("speech's", "S P IY CH AH Z"),
        ("backpack's", "B AE K P AE K S"),
        ("pebble's", "P EH B AH L Z"),
        ("pebbles'", "P EH B AH L Z"),
        ("'speech", "S P IY CH"),
        ("gbp", "JH IY B IY P IY"),
        ("gbps", "JH IY B IY P IY Z"),
    ],
)
def test_words_guessed_by_rule(lexicon, word, phones):
    assert word not in lexicon
    assert tuple(phones.split()) in lexicon.pronounce(word)


@pytest.mark.parametrize("word", ["", "'", "Hello", "two words", "naïve", "4"])
def test_what_is_not_a_word_is_refused(lexicon, word):
    with pytest.raises(DataError):
        lexicon.pronounce(word)


def test_unseen_words_are_pronounced_nearly_right(lexicon, learned):
    model, unseen = learned
    errors = phones = 0
    for word in unseen:
        guess = model.pronounce(word)[0]
        distance, length = min((edit_distance(true, guess), len(true)) for true in lexicon.pronounce(word))
        errors, phones = errors + distance, phones + length
    assert errors / phones < 0.15  # 6 % with the whole dictionary


def test_alternatives_are_different_and_the_best_comes_first(learned):
    model, unseen = learned
    for word in unseen[:20]:
        alternatives = model.pronounce(word, alternatives=3)
        assert 1 <= len(alternatives) == len(set(alternatives)) <= 3
        assert alternatives[0] == model.pronounce(word)[0]
    assert model.pronounce("ж") == model.pronounce("") == ()


def test_a_model_survives_its_file(tmp_path, learned):
    model, unseen = learned
    model.save(tmp_path / "folder" / "model.npz")
    loaded = PronunciationModel.load(tmp_path / "folder" / "model.npz")
    assert [loaded.pronounce(word, 3) for word in unseen[:20]] == [model.pronounce(word, 3) for word in unseen[:20]]
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["model.npz"]


def test_the_letter_model_is_kept_and_learned_anew_when_its_file_is_damaged(tmp_path):
    words = ["tak", "pil", "tip", "lak", "kip", "kat", "pit", "lap", "tal", "kil"]
    phones = {"a": "AA", "i": "IY", "t": "T", "k": "K", "p": "P", "l": "L"}
    entries = {word: (tuple(phones[letter] for letter in word),) for word in words}
    guess = Lexicon(entries, guesses=1, cache=tmp_path).pronounce("pal")
    assert guess == (("P", "AA", "L"),)
    (file,) = tmp_path.iterdir()
    assert Lexicon({}, guesses=1, cache=tmp_path).pronounce("pal") == guess  # from the file alone
    file.write_bytes(b"torn")
    assert Lexicon(entries, guesses=1, cache=tmp_path).pronounce("pal") == guess
    assert Lexicon(entries, guesses=1, cache=file / "not a folder").pronounce("pal") == guess


def test_own_entries_come_before_the_dictionary(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("# names\nRill R IH1 L\n\nspeech S P IY CH  # as ever\nspeech S P IH CH\n")
    speech = (("S", "P", "IY", "CH"), ("S", "P", "IH", "CH"))
    assert read_entries(path) == {"rill": (("R", "IH", "L"),), "speech": speech}
    assert Lexicon.load(read_entries(path)).pronounce("speech") == speech


def test_words_may_stand_alone_where_that_is_asked_for(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("rill\nspeech S P IY CH\n")
    entries = read_entries(path, bare_words=True)
    assert entries == {"rill": (), "speech": (("S", "P", "IY", "CH"),)}
    assert Lexicon.load(entries).pronounce("speech") == entries["speech"]
    with pytest.raises(DataError, match="line 1"):
        read_entries(path)


@pytest.mark.parametrize("line", ["rill", "rill R QQ L", "ri11 R IH L", "R IH L rill"])
def test_a_bad_entry_is_named(tmp_path, line):
    path = tmp_path / "words.txt"
    path.write_text(f"good G UH D\n{line}\n")
    with pytest.raises(DataError, match="line 2"):
        read_entries(path)
