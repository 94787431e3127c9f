"""Packed n-gram models: the probabilities of the model they were made of, kept files, damaged ones."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from small_lm import ARPA, LEXICON, PHONE_TABLE, PRONUNCIATIONS, WEIGHTS

from asr.errors import ModelError
from asr.lm.folder import SECOND, LanguageModel, write_language_model
from asr.lm.large_ngrams import END, NO_CONTEXT, LargeNgrams
from asr.lm.ngram import BEGINS, ENDS, UNKNOWN, NgramModel

WORDS = tuple(f"w{k}" for k in range(1, 40))  # ids 1 to 39
BEGIN = len(WORDS) + 1
SYMBOLS = (ENDS, *WORDS[::-1], BEGINS, UNKNOWN)  # numbered otherwise than the lexicon


def random_model(seed: int, order: int = 4) -> NgramModel:
    """Of random n-grams, whose probabilities sum to 1 after every history."""
    random = np.random.default_rng(seed)
    unigrams = np.log(random.dirichlet(np.ones(len(SYMBOLS)))).astype(np.float32)
    grams = [(np.arange(len(SYMBOLS), dtype=np.int32)[:, None], unigrams, zeros(len(SYMBOLS)))]
    for n in range(2, order + 1):
        below = grams[-1][0]
        inner = below[(below != 0).all(axis=1)]
        histories = inner[random.permutation(len(inner))[: 60 * n]]
        rows = {(*row, last) for row in histories.tolist() for last in random.integers(0, len(SYMBOLS), 6).tolist()}
        ids = np.array(sorted(row for row in rows if BEGIN not in row[1:]), np.int32)
        grams.append((ids, np.log(random.uniform(0.01, 0.15, len(ids))).astype(np.float32), zeros(len(ids))))
        model = NgramModel.of_ngrams(WORDS[::-1], grams, unknown=True).normalised()
        grams = [(model.grams(k), table.log_probs, table.backoffs) for k, table in enumerate(model.tables, start=1)]
    return model


def zeros(size: int) -> np.ndarray:
    return np.zeros(size, np.float32)


def without_unknown(model: NgramModel) -> NgramModel:
    """The same, the probability of the unknown word spread over the others."""
    grams = []
    for n, table in enumerate(model.tables, start=1):
        ids = model.grams(n)
        keep = (ids != BEGIN + 1).all(axis=1)
        grams.append((ids[keep], table.log_probs[keep], table.backoffs[keep]))
    ids, logs, factors = grams[0]
    return NgramModel.of_ngrams(
        WORDS[::-1], [(ids, logs - np.log(np.exp(logs[:-1]).sum()), factors), *grams[1:]]
    ).normalised()


def histories() -> list[list[int]]:
    random = np.random.default_rng(5)
    drawn = [random.integers(1, BEGIN, length).tolist() for length in (0, 1, 2, 3, 5) for _ in range(20)]
    return drawn + [[BEGIN, *row[1:]] for row in drawn if row]


@pytest.fixture(scope="module", params=[2, 3, 4])
def pair(request: pytest.FixtureRequest) -> tuple[LargeNgrams, NgramModel]:
    model = random_model(3, request.param)
    return LargeNgrams.from_model(model, WORDS), without_unknown(model)


def name(word: int) -> str:
    return (ENDS, *WORDS, BEGINS)[word]


def test_probabilities_are_those_of_the_model(pair):
    packed, model = pair
    listed = [
        ([model_id if model_id == BEGIN else BEGIN - model_id for model_id in row[:-1]], (BEGIN - row[-1]) % BEGIN)
        for n in range(2, model.order + 1)
        for row in model.grams(n)[::7].tolist()
    ]
    unlisted = [(history, word) for history in histories() for word in (END, 1, 7, 39)]
    for history, word in listed + unlisted:
        gram = [model.ids[name(k)] for k in (*history, word)][-model.order :]
        wanted = model.log_probs(np.array([gram]))[0]
        assert packed.log_prob(history, word) == pytest.approx(wanted, abs=0.08), (history, word)


def test_probabilities_of_all_words_sum_to_one(pair):
    packed, _ = pair
    for history in histories():
        total = sum(np.exp(packed.log_prob(history, word)) for word in range(BEGIN))
        assert total == pytest.approx(1, abs=0.02), history


def test_the_trie_is_as_described(pair):
    packed, model = pair
    size, contexts = len(packed.last), len(packed.suffixes)
    assert packed.vocabulary == len(WORDS) and packed.children[0] == BEGIN + 1 and packed.children[-1] == size
    assert np.array_equal(packed.last[: BEGIN + 1], np.arange(BEGIN + 1))
    assert 0 in packed.backoff_values
    grams = {k: (k,) for k in range(BEGIN + 1)}
    own = packed.contexts()
    assert len(own) == contexts == len(packed.backoff_codes)
    for context, ngram in enumerate(own):
        start, end = packed.children[context : context + 2]
        assert end > start and (np.diff(packed.last[start:end].astype(int)) > 0).all()
        grams |= {entry: (*grams[ngram], int(packed.last[entry])) for entry in range(start, end)}
    assert len(grams) == size and max(map(len, grams.values())) == model.order
    for ngram, suffix in zip(own, packed.suffixes, strict=True):
        assert suffix == NO_CONTEXT if ngram <= BEGIN else grams[own[suffix]] == grams[ngram][1:]
    for ngram, suffix in enumerate(packed.suffix_ngrams(), start=BEGIN + 1):
        assert grams[suffix] == grams[ngram][1:]
    marked = np.isin(np.arange(size), own)
    for place, before in enumerate(packed.ranks):
        assert before == marked[: 64 * place].sum()
    for array in vars(packed).values():
        assert array.flags.c_contiguous


def test_packing_keeps_everything(pair):
    packed, _ = pair
    again = LargeNgrams.unpack(packed.pack())
    for field, array in vars(packed).items():
        np.testing.assert_array_equal(getattr(again, field), array)
        assert getattr(again, field).dtype == array.dtype


def test_it_can_be_mixed_again(pair):
    packed, model = pair
    again = packed.model(WORDS)
    assert [len(table.last) for table in again.tables] == [len(table.last) for table in model.tables]
    for history in histories()[::5]:
        for word in (END, 3, 21):
            gram = np.array([[*history, word][-model.order :]])
            assert again.log_probs(gram)[0] == pytest.approx(packed.log_prob(history, word), abs=1e-4)
    for field, array in vars(LargeNgrams.from_model(again, WORDS)).items():
        if "codes" not in field and "values" not in field:
            np.testing.assert_array_equal(array, getattr(packed, field))


def test_models_that_do_not_fit_are_refused():
    model = random_model(3)
    with pytest.raises(ValueError, match="1 other words"):
        LargeNgrams.from_model(model, [*WORDS, "other"])
    with pytest.raises(ValueError, match="single words"):
        LargeNgrams.from_model(NgramModel(WORDS[::-1], model.tables[:1], unknown=True), WORDS)


def test_what_is_no_packed_model_is_refused(pair):
    packed, _ = pair
    whole = packed.pack()
    other = io.BytesIO()
    np.savez(other, graph=np.zeros(3))
    middle = len(whole) // 2
    altered = whole[:middle] + bytes(byte ^ 85 for byte in whole[middle : middle + 99]) + whole[middle + 99 :]
    for content in (b"", b"hello", whole[: len(whole) // 2], other.getvalue(), altered):
        with pytest.raises(ModelError, match="second.packed"):
            LargeNgrams.unpack(content, SECOND)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_lm_folder: Path) -> Path:
    """The small language model with a second one of its words."""
    monkeypatch.setenv("RILL_CACHE", str(tmp_path / "kept"))
    (tmp_path / "model.arpa").write_text(ARPA)
    words = list(dict.fromkeys(word for word, _ in LEXICON))
    second = LargeNgrams.from_model(NgramModel.read(tmp_path / "model.arpa"), words)
    graph = LanguageModel.open(small_lm_folder, PHONE_TABLE).graph.unpacked()
    write_language_model(tmp_path / "lm", graph, PRONUNCIATIONS, PHONE_TABLE, WEIGHTS, {}, second)
    return tmp_path / "lm"


def test_a_folder_has_a_second_model_or_none(small, small_lm_folder):
    assert LanguageModel.open(small_lm_folder, PHONE_TABLE).second is None
    model = LanguageModel.open(small, PHONE_TABLE)
    words = {word: k for k, word in enumerate(model.words)}
    second = model.second.open()
    assert second.vocabulary == 5
    assert second.log_prob([words["see"]], words["a"]) == pytest.approx(-0.4 * np.log(10), abs=0.02)


def test_it_is_unpacked_once_and_mapped(small, tmp_path, monkeypatch):
    model = LanguageModel.open(small, PHONE_TABLE)
    first = model.second.open()
    (path,) = (tmp_path / "kept").glob("ngrams-*")
    whole = path.read_bytes()
    monkeypatch.setattr(LargeNgrams, "unpack", lambda *_: pytest.fail("it was to be found"))
    again = model.second.open()
    for field, array in vars(first).items():
        np.testing.assert_array_equal(getattr(again, field), array)
        assert not getattr(again, field).flags.writeable and getattr(again, field).flags.aligned
    monkeypatch.undo()
    monkeypatch.setenv("RILL_CACHE", str(tmp_path / "kept"))
    for damaged in (b"", whole[:30], whole[:-1], whole[:-9] + b"\1" + whole[-8:], bytes(len(whole))):
        path.unlink()
        path.write_bytes(damaged)
        assert model.second.open().log_prob([1], 2) == first.log_prob([1], 2)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("cache", ["", "file/below"])
def test_it_works_where_nothing_can_be_kept(small, tmp_path, monkeypatch, cache):
    kept = LanguageModel.open(small, PHONE_TABLE).second.open()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RILL_CACHE", cache and str(tmp_path / cache))
    made = LanguageModel.open(small, PHONE_TABLE).second.open()
    for field, array in vars(kept).items():
        np.testing.assert_array_equal(getattr(made, field), array)


def test_damage_is_one_clear_error(small):
    whole = (small / SECOND).read_bytes()
    for content in (None, whole[:-5], whole[:99] + b"\0\0" + whole[101:]):
        (small / SECOND).unlink(missing_ok=True)
        if content is not None:
            (small / SECOND).write_bytes(content)
        with pytest.raises(ModelError, match="second.packed.*asr lm build"):
            LanguageModel.open(small, PHONE_TABLE).second.open()


def test_a_second_model_of_other_words_is_refused(small):
    second = LargeNgrams.from_model(random_model(1), WORDS)
    config = json.loads((small / "config.json").read_text())
    (small / SECOND).write_bytes(second.pack())
    config["files"][SECOND] = hashlib.sha256(second.pack()).hexdigest()
    (small / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="has 39 words, the lexicon beside it 5"):
        LanguageModel.open(small, PHONE_TABLE).second.open()
