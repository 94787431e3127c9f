"""An LSTM beside the n-grams, in one pass: against every sentence of a small language, and as users meet it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_lm import LEXICON, PHONE_TABLE, WEIGHTS
from test_graph_decoder import SURE, random_rows, rows, spoken_cost
from test_two_models import ARPA, large, model  # noqa: F401 - fixtures

from asr.decoding.beam import GraphDecoder, GraphState
from asr.decoding.rescoring import Rescorer, Rescoring
from asr.errors import ModelError, UsageError
from asr.lm.folder import LanguageModel, copy_language_model
from asr.lm.hotwords import Hotword, with_hotwords
from asr.lm.large_ngrams import LargeNgrams
from asr.lm.lstm import LstmLanguageModel, write_lstm_language_model
from asr.lm.perplexity import ArpaModel, Perplexities, SecondModel, SentenceModel, measure_perplexity
from asr.models.language import LanguageConfig, LanguageModelNetwork
from asr.recognizer import Recognizer

NAMES = sorted({word for word, _ in LEXICON})
WORDS = ("</s>", "<unk>", *NAMES)
WIDE = replace(SURE, alternatives_beam=1_000.0)


def write_model(folder: Path, likes: str = "", words: tuple[str, ...] = WORDS, scale: float = 0.1) -> Path:
    """A network of small weights, which knows next to nothing but perhaps a word that it likes; or of large ones, to
    which all it has read matters."""
    torch.manual_seed(0)
    config = LanguageConfig((len(words),), (8,), 8) if likes else LanguageConfig((4, len(words)), (8, 4), 8)
    network = LanguageModelNetwork(config)
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(scale)
        if likes:
            network.words.bias[words.index(likes)] = 8.0
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    write_lstm_language_model(folder, words, network.config.bands, weights, {})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("lstm"), scale=2.0)


@pytest.fixture(scope="module")
def lstm(folder: Path) -> LstmLanguageModel:
    return LstmLanguageModel.open(folder)


def decoder_of(model: LanguageModel, folder: Path, weight: float = 0.5, carry: bool = True) -> GraphDecoder:  # noqa: F811
    return GraphDecoder(model, WIDE, Rescorer(folder, Rescoring(None, weight, carry), model.words))


def likelihoods(lstm: LstmLanguageModel, words: list[str]) -> list[float]:
    """Probability of each word of a sentence, and of its end."""
    ids = [*lstm.encode(words), 0]
    outputs, _ = lstm.read(np.array([0, *ids[:-1]])[:, None], lstm.start())
    return np.exp(lstm.log_probs(outputs[:, 0], np.array(ids))).tolist()


def cost_of(model: LanguageModel, large: LargeNgrams, lstm: LstmLanguageModel, words: list[str]) -> float:  # noqa: F811
    """Of a sentence by the mean of both, with the cost per word."""
    history, total = [large.vocabulary + 1], 0.0
    for word, chance in zip([*(model.words.index(one) for one in words), 0], likelihoods(lstm, words), strict=True):
        total -= np.log(0.5 * chance + 0.5 * np.exp(large.log_prob(history, word)))
        history.append(word)
    return model.weights.second_weight * total + model.weights.word_cost * len(words)


def best(decoder: GraphDecoder, log_probs: np.ndarray) -> tuple[str, float]:
    """Text and cost of the best path."""
    state = decoder._scored(decoder.advance(decoder.start(), log_probs))
    path = decoder._path(state, ended=True)
    return " ".join(decoder._texts[word] for word in path.words), path.cost


@given(seed=st.integers(0, 10_000), frames=st.integers(1, 70))
@settings(deadline=None)
def test_a_path_costs_what_its_sentence_costs(model, large, lstm, folder, seed: int, frames: int) -> None:  # noqa: F811
    log_probs = random_rows(seed, frames)
    text, cost = best(decoder_of(model, folder), log_probs)
    words = text.split()
    assert cost == pytest.approx(spoken_cost(words, log_probs) + cost_of(model, large, lstm, words), abs=0.15)


@given(seed=st.integers(0, 10_000), frames=st.integers(1, 9))
@settings(deadline=None)
def test_the_best_of_all_sentences_is_found(model, large, tmp_path_factory, seed: int, frames: int) -> None:  # noqa: F811
    """By an LSTM to which no word matters that it has read, as paths with the same n-gram context go on together."""
    log_probs = random_rows(seed, frames)
    folder = write_model(tmp_path_factory.mktemp("unigrams"), "sea", scale=1e-6)
    lstm = LstmLanguageModel.open(folder)
    sentences = [list(words) for count in range(5) for words in product(NAMES, repeat=count)]
    costs = {" ".join(one): spoken_cost(one, log_probs) + cost_of(model, large, lstm, one) for one in sentences}
    text, _ = best(decoder_of(model, folder), log_probs)
    if text in costs:  # longer ones are not listed
        assert costs[text] == pytest.approx(min(costs.values()), abs=0.2)
    else:
        assert len(text.split()) > 4


@given(seed=st.integers(0, 10_000), data=st.data())
@settings(deadline=None, max_examples=50)
def test_any_chunks_give_the_same_words_and_alternatives_change_nothing(
    model: LanguageModel,  # noqa: F811
    folder: Path,
    seed: int,
    data: st.DataObject,
) -> None:
    decoder = decoder_of(replace(model, weights=replace(WEIGHTS, second_weight=0.8)), folder)
    log_probs = random_rows(seed, 70)
    cuts = data.draw(st.lists(st.integers(0, 70), max_size=6))
    state = decoder.start()
    for block in np.split(log_probs, sorted(cuts)):
        found = decoder.alternatives(state, 3)
        assert found[0].text == " ".join(word.text for word in decoder.finish(state)[0])
        state = decoder.advance(state, block)
    assert decoder.finish(state)[0] == decoder.finish(decoder.advance(decoder.start(), log_probs))[0]


def test_the_cheapest_of_the_alternatives_cost_what_they_cost(model, large, lstm, folder) -> None:  # noqa: F811
    log_probs = rows("S IY - AH K AE T", sureness=0.6)
    decoder = decoder_of(model, folder)
    state = decoder._scored(decoder.advance(decoder.start(), log_probs))
    found = decoder.alternatives(state, 4)
    assert len(found) == 4
    costs = [spoken_cost(one, log_probs) + cost_of(model, large, lstm, one) for one in (a.text.split() for a in found)]
    assert costs[0] == pytest.approx(min(costs), abs=0.01)
    shares = np.exp(costs[0] - np.array(costs))
    assert [one.probability for one in found] == pytest.approx((shares / shares.sum()).tolist(), abs=0.1)


@pytest.mark.parametrize("likes", ["see", "sea"])
def test_it_decides_between_words_that_sound_alike_before_the_end(
    small_lm_folder: Path, tmp_path: Path, likes: str
) -> None:
    words = LanguageModel.open(small_lm_folder, PHONE_TABLE)
    decoder = decoder_of(words, write_model(tmp_path, likes), weight=0.9)
    log_probs = rows("S IY - AH K AE T", frames_each=6)
    state = decoder.advance(decoder.start(), log_probs)
    assert [word.text for word in decoder.best(state)][0] == likes
    said, after = decoder.finish(state)
    assert [word.text for word in said] == [likes, "a", "cat"]
    places = [place for word in said for place in (word.start_frame, word.end_frame)]
    assert places == sorted(places) and places[-1] <= len(log_probs) and places[0] == 0
    assert all(word.confidence > 0.9 for word in said)
    assert remembers(after, decoder)


def remembers(state: GraphState, decoder: GraphDecoder) -> bool:
    return not np.array_equal(state.context, decoder.start().context)


def test_memory_of_earlier_utterances_can_be_left_out(model: LanguageModel, folder: Path) -> None:  # noqa: F811
    for carry in (True, False):
        decoder = decoder_of(model, folder, carry=carry)
        words, after = decoder.finish(decoder.advance(decoder.start(), rows("S IY")))
        assert words and remembers(after, decoder) == carry
    assert not remembers(decoder.finish(decoder.start())[1], decoder), "nothing was said"


def test_what_is_kept_does_not_grow(model: LanguageModel, folder: Path) -> None:  # noqa: F811
    decoder = decoder_of(model, folder)
    state, sizes = decoder.start(), []
    for _ in range(30):
        state = decoder.advance(state, rows("S IY - AH K AE T - S IY -"))
        sizes.append(decoder._search.rows(state.search))
    assert max(sizes[10:]) <= max(sizes[:10]) + 2


def test_words_that_no_model_knows_are_left_to_the_graph(model: LanguageModel, folder: Path) -> None:  # noqa: F811
    """New words have no place in the second model; behind them the LSTM goes on from a word that it does not know."""
    new = with_hotwords(model, [Hotword(("seek", "cat"), 12.0), Hotword(("keys",), 9.0)], PHONE_TABLE)
    log_probs = rows("S IY K - K AE T - AH - K IY Z - S IY", frames_each=4)
    decoder = decoder_of(new, folder)
    whole, after = decoder.finish(decoder.advance(decoder.start(), log_probs))
    assert [word.text for word in whole[:2]] == ["seek", "cat"] and "keys" in [word.text for word in whole]
    assert remembers(after, decoder)
    state = decoder.start()
    for block in np.array_split(log_probs, 9):
        state = decoder.advance(state, block)
    assert decoder.finish(state)[0] == whole


@pytest.fixture
def rescored(model_folder: Path, small_lm_folder: Path, tmp_path: Path) -> Callable[..., Recognizer]:
    """Recognisers whose language model has an LSTM of its own."""
    copy_language_model(small_lm_folder, tmp_path / "lm")
    write_model(tmp_path / "lm" / "lstm", "cattle")

    def load(**options: object) -> Recognizer:
        return Recognizer.load(model_folder, lm=tmp_path / "lm", engine="onnx", **options)

    return load


def test_a_language_models_own_lstm_is_used_unless_told_otherwise(rescored, small_lm_folder, speech, tmp_path) -> None:
    usual, without = rescored().transcribe(speech).text, rescored(rescoring=False).transcribe(speech).text
    assert usual != without
    assert rescored(rescoring=Rescoring(weight=0.0)).transcribe(speech).text == without
    assert rescored(rescoring=write_model(tmp_path / "same", "cattle")).transcribe(speech).text == usual
    copy_language_model(tmp_path / "lm", tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy" / "lstm").iterdir()) == sorted(
        path.name for path in (tmp_path / "lm" / "lstm").iterdir()
    )


def test_a_stream_says_what_the_whole_says(rescored, speech) -> None:
    recognizer = rescored()
    pieces = list(recognizer.stream(np.array_split(speech, 20)))
    assert recognizer.transcribe(speech).text == " ".join(result.text for result in pieces if result.final)


def test_perplexities_are_those_of_each_and_of_the_mean(model, large, lstm, tmp_path) -> None:  # noqa: F811
    sentences = [["sea", "a", "cattle"], ["a", "cat", "zebra", "cat"]]
    (tmp_path / "text.txt").write_text("".join(" ".join(one) + "\n" for one in sentences))
    (tmp_path / "large.arpa").write_text(ARPA)
    found = measure_perplexity(tmp_path / "text.txt", lstm, SecondModel(model))
    assert (found.words, found.unknown) == (8, 1)
    first = sentences[0]
    alone = measure_perplexity_of(first, tmp_path, lstm, SecondModel(model))
    cost = cost_of(replace(model, weights=replace(model.weights, second_weight=1.0, word_cost=0.0)), large, lstm, first)
    assert alone.mixed == pytest.approx(np.exp(cost / 4))
    assert alone.lstm == pytest.approx(np.exp(-np.log(likelihoods(lstm, first)).mean()), rel=1e-5)
    written = measure_perplexity_of(first, tmp_path, lstm, ArpaModel(tmp_path / "large.arpa"))
    assert written.ngram == pytest.approx(10 ** ((0.2 + 0.4 + 0.1 + 0.7) / 4), rel=1e-4)


def measure_perplexity_of(
    sentence: list[str], scratch: Path, lstm: LstmLanguageModel, ngram: SentenceModel
) -> Perplexities:
    (scratch / "one.txt").write_text(" ".join(sentence) + "\n")
    return measure_perplexity(scratch / "one.txt", lstm, ngram)


def test_wrong_use_is_told(model_folder, small_lm_folder, tmp_path) -> None:
    other = write_model(tmp_path / "other", words=("</s>", "<unk>", "ein", "zwei", "hund", "katze"))
    with pytest.raises(ModelError, match="knows 0 of the 5 words"):
        Recognizer.load(model_folder, lm=small_lm_folder, rescoring=other)
    with pytest.raises(UsageError, match="rescoring cannot apply"):
        Recognizer.load(model_folder, decoder="greedy", rescoring=other)
    with pytest.raises(ModelError, match="no LSTM language model"):
        Recognizer.load(model_folder, lm=small_lm_folder, rescoring=tmp_path)
    with pytest.raises(UsageError, match="has no LSTM"):
        Recognizer.load(model_folder, lm=small_lm_folder, rescoring=Rescoring(weight=0.2))
    with pytest.raises(UsageError, match="0 to 1"):
        Rescoring(other, weight=2.0)
