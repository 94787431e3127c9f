"""Back-off models: probabilities, mixtures and pruning against what they are by definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asr.errors import DataError
from asr.lm.ngram import BEGINS, NgramModel, mixed, pruned

OWN = ("sea", "see", "a", "cat")
WORDS = ("</s>", *OWN, "<s>", "<unk>")
NEXT = [k for k, word in enumerate(WORDS) if word != BEGINS]


def arpa_of(seed: int, grams: int) -> str:
    """A model of order 3 whose probabilities sum to 1 after every history."""
    random = np.random.default_rng(seed)
    unigrams = random.dirichlet(np.ones(len(NEXT)))
    lines = {1: [f"{np.log10(p):.7f}\t{WORDS[k]}\t0" for k, p in zip(NEXT, unigrams, strict=True)] + ["-99\t<s>\t0"]}
    histories = [(k,) for k in range(len(WORDS)) if WORDS[k] not in ("</s>", "<unk>")]
    pairs: list[tuple[int, ...]] = []
    for order in (2, 3):
        lines[order], longer = [], []
        for history in histories:
            among = NEXT if order == 2 else [gram[1] for gram in pairs if gram[0] == history[1]]  # suffixes are listed
            followers = sorted(random.choice(among, size=min(grams, len(NEXT) - 1) - (order == 3), replace=False))
            for k, p in zip(followers, 0.8 * random.dirichlet(np.ones(len(followers))), strict=True):
                gram = (*history, k)
                pairs += [gram] if order == 2 else []
                lines[order].append(f"{np.log10(p):.7f}\t{' '.join(WORDS[i] for i in gram)}\t0")
                longer += [gram] if WORDS[k] not in ("</s>", "<unk>") else []
        histories = longer
    parts = [f"\\{order}-grams:\n" + "\n".join(rows) + "\n" for order, rows in lines.items()]
    return "\\data\\\n" + "\n".join(parts) + "\n\\end\\\n"


def read(tmp_path: Path, seed: int, grams: int = 3) -> NgramModel:
    path = tmp_path / "model.arpa"
    path.write_text(arpa_of(seed, grams))
    return NgramModel.read(path, OWN).normalised()  # with back-off factors that fit


def all_histories() -> np.ndarray:
    inside = [k for k in range(len(WORDS)) if WORDS[k] not in ("</s>", "<unk>")]
    return np.array([(a, b) for a in inside for b in inside if WORDS[b] != BEGINS])


def chances(model: NgramModel) -> np.ndarray:
    """(histories, words) probabilities of every next word."""
    histories = all_histories()
    grams = np.concatenate([np.repeat(histories, len(NEXT), axis=0), np.tile(NEXT, len(histories))[:, None]], axis=1)
    return np.exp(model.log_probs(grams)).reshape(len(histories), len(NEXT))


def test_back_off_factors_make_all_sum_to_one(tmp_path: Path) -> None:
    np.testing.assert_allclose(chances(read(tmp_path, 1)).sum(axis=1), 1, atol=1e-4)


def test_listed_and_unlisted_words_have_the_probabilities_katz_gives_them(tmp_path: Path) -> None:
    path = tmp_path / "model.arpa"
    path.write_text(
        "\\data\\\n\n\\1-grams:\n-0.5\ta\t-0.25\n-1\tcat\t0\n-99\t<s>\t-0.5\n-2\t<unk>\n-3\t</s>\n\n"
        "\\2-grams:\n-0.125\t<s> a\t-0.75\n\n\\3-grams:\n-0.0625\t<s> a cat\n\n\\end\\\n"
    )
    model = NgramModel.read(path)
    ids = {word: k for k, word in enumerate(model.words)}
    texts = ("<s> a cat", "<s> a a", "a a cat", "a <s> cat")
    grams = np.array([[ids[word] for word in text.split()] for text in texts])
    tens = model.log_probs(grams) / np.log(10)
    np.testing.assert_allclose(tens, [-0.0625, -0.75 - 0.25 - 0.5, -0.25 - 1, -0.5 - 1], atol=1e-5)


def test_histories_and_suffixes_that_are_missing_are_added_and_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.arpa"
    path.write_text(
        "\\data\\\n\n\\1-grams:\n-0.5\ta\t-0.25\n-1\tcat\t-0.5\n-99\t<s>\t-0.5\n-3\t</s>\n\n"
        "\\2-grams:\n-0.125\t<s> a\t-0.75\n\n\\3-grams:\n-0.0625\t<s> a cat\n-0.25\ta cat a\n\n\\end\\\n"
    )
    model = NgramModel.read(path)
    assert [len(table.last) for table in model.tables] == [4, 3, 2] and not model.knows_unknown
    added = np.array([[model.ids["cat"], model.ids["a"]]])
    assert model.log_probs(added)[0] / np.log(10) == pytest.approx(-0.5 - 0.5, abs=1e-5)
    for n in (2, 3):
        grams, table = model.grams(n), model.tables[n - 1]
        np.testing.assert_array_equal(model.find(grams[:, :-1]), table.histories)
        np.testing.assert_array_equal(model.find(grams[:, 1:]), table.suffixes)
        np.testing.assert_array_equal(model.find(grams), np.arange(len(grams)))


def test_writing_and_reading_keeps_it(tmp_path: Path) -> None:
    model = read(tmp_path, 2)
    model.write(tmp_path / "again.arpa")
    np.testing.assert_allclose(chances(NgramModel.read(tmp_path / "again.arpa", OWN)), chances(model), atol=1e-4)


def test_a_mixture_is_the_weighted_mean_of_what_it_lists(tmp_path: Path) -> None:
    one, other = read(tmp_path, 3), read(tmp_path, 4)
    both = mixed([one, other], [0.3, 0.7])
    for n, table in enumerate(both.tables, start=1):
        wanted = 0.3 * np.exp(one.log_probs(both.grams(n))) + 0.7 * np.exp(other.log_probs(both.grams(n)))
        np.testing.assert_allclose(np.exp(table.log_probs), wanted, rtol=1e-4, atol=1e-30)
    np.testing.assert_allclose(chances(both).sum(axis=1), 1, atol=1e-3)
    with pytest.raises(ValueError, match="same words"):
        mixed([one, NgramModel(OWN, one.tables)], [0.5, 0.5])


def test_pruning_keeps_a_proper_model_and_loses_less_than_chance_would(tmp_path: Path) -> None:
    model = read(tmp_path, 5, grams=4)
    frequencies = np.full(len(WORDS), 1 / len(WORDS))
    small = pruned(model, model.size * 2 // 3, frequencies)
    assert 0.5 * model.size < small.size <= model.size * 2 // 3 and small.order == 3
    before, after = chances(model), chances(small)
    np.testing.assert_allclose(after.sum(axis=1), 1, atol=1e-3)
    lost = (before * np.log(before / after)).sum(axis=1).mean()
    random = np.random.default_rng(0)
    by_chance = []
    first, second, third = (len(table.last) for table in model.tables)
    for _ in range(20):
        keep = np.arange(third) < small.size - first - second
        kept = [np.ones(first, bool), np.ones(second, bool), random.permutation(keep)]
        rest = chances(model.kept(kept).normalised())
        by_chance.append((before * np.log(before / rest)).sum(axis=1).mean())
    assert lost < min(by_chance)
    assert pruned(model, model.size, frequencies) is model


@pytest.mark.parametrize("content", ["", "hello\n", *(f"\\1-grams:\n{row}\n\n" for row in ("x\ta", "-1\ta b", "-1"))])
def test_what_is_no_arpa_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.arpa").write_text(content)
    with pytest.raises(DataError, match="model.arpa"):
        NgramModel.read(tmp_path / "model.arpa")
    (tmp_path / "model.arpa").write_text(arpa_of(1, 3))
    with pytest.raises(DataError, match="cat"):
        NgramModel.read(tmp_path / "model.arpa", OWN[:-1])
