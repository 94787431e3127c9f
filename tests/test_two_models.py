"""A large n-gram model beside the graph's, in one pass: against every sentence of a small language."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_lm import LEXICON, PHONE_TABLE, WEIGHTS
from test_graph_decoder import SURE, random_rows, rows, spoken_cost, text

from asr.decoding.beam import GraphDecoder
from asr.lm.folder import LanguageModel
from asr.lm.hotwords import Hotword, with_hotwords
from asr.lm.large_ngrams import LargeNgrams
from asr.lm.ngram import NgramModel

# Trigrams that contradict the graph's bigrams: "sea" is what is seen, and a cat is followed by a cat.
ARPA = """\\data\\
ngram 1=8
ngram 2=5
ngram 3=3

\\1-grams:
-0.8\t</s>
-99\t<s>\t-0.2
-1.2\tcat\t-0.3
-1.1\tcattle\t-0.1
-0.6\tsea\t-0.25
-1.4\tsee\t-0.4
-0.9\ta\t-0.15
-2.0\t<unk>

\\2-grams:
-0.3\ta cat\t-0.2
-0.2\t<s> sea\t-0.3
-0.5\tsea a\t-0.4
-0.9\tcat a\t-0.1
-0.7\tcattle </s>

\\3-grams:
-0.1\tsea a cattle
-0.2\ta cat a
-0.4\t<s> sea a

\\end\\
"""


class Given:
    """A large model that is in memory."""

    def __init__(self, model: LargeNgrams) -> None:
        self._model = model

    def open(self) -> LargeNgrams:
        return self._model


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, small_lm_folder: Path) -> LargeNgrams:
    arpa = tmp_path_factory.mktemp("large") / "large.arpa"
    arpa.write_text(ARPA)
    words = LanguageModel.open(small_lm_folder, PHONE_TABLE).words
    return LargeNgrams.from_model(NgramModel.read(arpa), words[1:])


@pytest.fixture(scope="module")
def model(small_lm_folder: Path, large: LargeNgrams) -> LanguageModel:
    """Where the graph has next to no say: then which of two paths through it leads to a word makes no difference."""
    weights = replace(WEIGHTS, language_weight=0.01, first_weight=0.0, second_weight=0.8)
    return replace(LanguageModel.open(small_lm_folder, PHONE_TABLE), second=Given(large), weights=weights)


def cost_of(model: LanguageModel, large: LargeNgrams, words: list[str]) -> float:
    """Of a sentence by the large model, with the cost per word."""
    ids = [model.words.index(word) for word in words]
    history = [large.vocabulary + 1]
    total = 0.0
    for word in [*ids, 0]:
        total -= large.log_prob(history, word)
        history.append(word)
    return model.weights.second_weight * total + model.weights.word_cost * len(words)


@given(seed=st.integers(0, 10_000), frames=st.integers(1, 9))
@settings(deadline=None)
def test_the_best_of_all_sentences_is_found(model, large, seed: int, frames: int) -> None:
    log_probs = random_rows(seed, frames)
    names = sorted({word for word, _ in LEXICON})
    sentences = [list(words) for count in range(5) for words in product(names, repeat=count)]
    costs = {" ".join(words): spoken_cost(words, log_probs) + cost_of(model, large, words) for words in sentences}
    guess = text(GraphDecoder(model, SURE), log_probs)
    if guess in costs:  # longer ones are not listed
        assert costs[guess] == pytest.approx(min(costs.values()), abs=0.15)
    else:
        assert len(guess.split()) > 4


def test_the_large_model_has_the_last_say(model: LanguageModel, small_lm_folder: Path) -> None:
    weights = replace(WEIGHTS, first_weight=0.15, second_weight=0.8)
    log_probs = rows("S IY - AH K AE T - AH", sureness=0.7)
    alone = GraphDecoder(replace(model, second=None, weights=weights), SURE)
    both = GraphDecoder(replace(model, weights=weights), SURE)
    assert text(alone, log_probs) == "see a cat a"
    assert text(both, log_probs) == "sea a cat a"


def test_hotwords_are_boosted_for_both_models(model: LanguageModel) -> None:
    weights = replace(WEIGHTS, first_weight=0.15, second_weight=0.8)
    both = replace(model, weights=weights)
    log_probs = rows("S IY - AH K AE T", sureness=0.7)
    assert text(GraphDecoder(both, SURE), log_probs) == "sea a cat"
    boosted = with_hotwords(both, [Hotword(("see",), 8.0)], PHONE_TABLE)
    assert text(GraphDecoder(boosted, SURE), log_probs) == "see a cat"
    new = with_hotwords(both, [Hotword(("seek",), 12.0)], PHONE_TABLE)
    assert text(GraphDecoder(new, SURE), rows("S IY K - AH K AE T")) == "seek a cat"


@given(seed=st.integers(0, 10_000), data=st.data())
@settings(deadline=None)
def test_any_chunks_give_the_same_words(model: LanguageModel, seed: int, data: st.DataObject) -> None:
    decoder = GraphDecoder(replace(model, weights=replace(WEIGHTS, second_weight=0.8)), SURE)
    log_probs = random_rows(seed, 30)
    cuts = data.draw(st.lists(st.integers(0, 30), max_size=6))
    state = decoder.start()
    for block in np.split(log_probs, sorted(cuts)):
        state = decoder.advance(state, block)
    assert decoder.finish(state)[0] == decoder.finish(decoder.advance(decoder.start(), log_probs))[0]
