"""Decoding with a lexicon and a language model, on a small graph whose every sentence can be listed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_lm import ARPA, LEXICON, PHONE_TABLE, PRONUNCIATIONS, WEIGHTS

from asr.decoding.acoustic_units import SearchOptions
from asr.decoding.beam import GraphDecoder, Memo
from asr.decoding.scratches import Scratches
from asr.errors import ModelError
from asr.graph.graph import Graph
from asr.lm.folder import LanguageModel
from asr.streaming.results import WordSpan
from asr.words.tokens import PHONES, TokenTable

SURE = SearchOptions(beam=1_000.0, most_active=100_000, certain_blank=1.0)


@pytest.fixture(scope="module")
def model(small_lm_folder: Path) -> LanguageModel:
    return LanguageModel.open(small_lm_folder, PHONE_TABLE)


@pytest.fixture(scope="module")
def decoder(model: LanguageModel) -> GraphDecoder:
    return GraphDecoder(model, SURE)


def rows(phones: str, frames_each: int = 2, sureness: float = 0.9) -> np.ndarray:
    """Log-probabilities (T, V) of someone who says these phones; - is the blank."""
    ids = [0 if phone == "-" else PHONE_TABLE.ids[phone] for phone in phones.split()]
    probabilities = np.full((len(ids) * frames_each, len(PHONES)), (1 - sureness) / (len(PHONES) - 1))
    probabilities[np.arange(len(probabilities)), np.repeat(ids, frames_each)] = sureness
    return np.log(probabilities).astype(np.float32)


def random_rows(seed: int, frames: int) -> np.ndarray:
    """Log-probabilities that favour the phones of the lexicon, otherwise at random."""
    logits = np.random.default_rng(seed).normal(0, 2, (frames, len(PHONES)))
    used = sorted({phone for _, sound in PRONUNCIATIONS for phone in sound} | {0})
    logits[:, used] += 4
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def text(decoder: GraphDecoder, log_probs: np.ndarray) -> str:
    words, _ = decoder.finish(decoder.advance(decoder.start(), log_probs))
    return " ".join(word.text for word in words)


@pytest.mark.parametrize(
    ("phones", "words"),
    [
        ("- S IY - AH K AE T -", "see a cat"),
        ("K AE T AH L", "cattle"),
        ("S IY EY K AE T", "see a cat"),
        ("- - -", ""),
        ("AH - AH", "a a"),
    ],
)
def test_clear_speech_is_read(decoder: GraphDecoder, phones: str, words: str) -> None:
    assert text(decoder, rows(phones)) == words


def test_the_language_model_chooses_between_words_that_sound_alike(decoder: GraphDecoder) -> None:
    assert text(decoder, rows("S IY")) == "see", "<s> see is a bigram"
    assert text(decoder, rows("K AE T - S IY")) == "cat sea", "sea is the likelier unigram"


def test_words_lie_where_they_are_spoken(decoder: GraphDecoder) -> None:
    state = decoder.advance(decoder.start(), rows("- - S IY - - AH - K AE T -", frames_each=3))
    words, _ = decoder.finish(state)
    assert [(word.text, word.start_frame, word.end_frame) for word in words] == [
        ("see", 6, 12),
        ("a", 18, 21),
        ("cat", 24, 33),
    ]
    assert all(word.confidence == pytest.approx(0.9, abs=1e-4) for word in words)


@given(seed=st.integers(0, 10_000), frames=st.integers(1, 9))
def test_the_best_of_all_sentences_is_found(decoder: GraphDecoder, seed: int, frames: int) -> None:
    log_probs = random_rows(seed, frames)
    found, cost = best_sentence(log_probs)
    guess = text(decoder, log_probs)
    assert guess == found or sentence_cost(guess.split(), log_probs) == pytest.approx(cost, abs=0.15)


@given(seed=st.integers(0, 10_000), data=st.data())
def test_any_chunks_give_the_same_words(decoder: GraphDecoder, seed: int, data: st.DataObject) -> None:
    log_probs = random_rows(seed, 40)
    cuts = data.draw(st.lists(st.integers(0, 40), max_size=8))
    state = decoder.start()
    for block in np.split(log_probs, sorted(cuts)):
        state = decoder.advance(state, block)
        decoder.best(state)
    whole = decoder.advance(decoder.start(), log_probs)
    assert decoder.best(state) == decoder.best(whole)
    assert decoder.finish(state)[0] == decoder.finish(whole)[0]


@given(seed=st.integers(0, 10_000), data=st.data())
def test_words_read_again_and_again_are_those_read_once(decoder: GraphDecoder, seed: int, data: st.DataObject) -> None:
    log_probs = random_rows(seed, 40)
    forked = random_rows(seed + 1, 40)
    state, earlier = decoder.start(), decoder.start()
    for cut in data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=12)):
        taken = forked if data.draw(st.integers(0, 4)) == 0 else log_probs  # what a fork has heard differs
        if data.draw(st.integers(0, 5)) == 0:
            state = earlier
        earlier, state = state, decoder.advance(state, taken[state.frames : state.frames + cut])
        assert decoder.best(state) == decoder.best(state._replace(memo=Memo()))
        words, _ = decoder.finish(state)
        assert words == decoder.finish(state._replace(memo=Memo()))[0]


def test_a_state_can_be_forked_and_returned_to(decoder: GraphDecoder) -> None:
    start = decoder.advance(decoder.start(), rows("S IY"))
    kept = decoder.best(start)
    one = decoder.advance(start, rows("AH - K AE T"))
    other = decoder.advance(start, rows("- S IY"))
    assert [word.text for word in decoder.finish(one)[0]] == ["see", "a", "cat"]
    assert [word.text for word in decoder.finish(other)[0]] == ["see", "sea"]
    assert decoder.best(start) == kept
    assert decoder.finish(one) == decoder.finish(one)


def test_frames_go_on_counting_in_the_next_utterance(decoder: GraphDecoder) -> None:
    words, state = decoder.finish(decoder.advance(decoder.start(), rows("S IY -")))
    assert [word.text for word in words] == ["see"]
    words, _ = decoder.finish(decoder.advance(state, rows("K AE T")))
    assert [(word.text, word.start_frame, word.end_frame) for word in words] == [("cat", 6, 12)]


def test_skipping_sure_blanks_changes_nothing(model: LanguageModel) -> None:
    log_probs = rows("- - - S IY - - - - - AH - - - K AE T - - -", sureness=0.999)
    skipping = GraphDecoder(model, SearchOptions(beam=1_000.0, most_active=100_000, certain_blank=0.99))
    state = skipping.advance(skipping.start(), log_probs)
    assert state.searched < len(log_probs) / 2
    everything = GraphDecoder(model, SURE)
    assert skipping.best(state) == everything.best(everything.advance(everything.start(), log_probs))


def test_a_word_heard_in_part_is_shown_no_longer_than_it_was_heard(decoder: GraphDecoder) -> None:
    log_probs = rows("- S IY AH K AE T -")
    for frames in range(len(log_probs)):
        words = decoder.best(decoder.advance(decoder.start(), log_probs[:frames]))
        assert all(0 <= word.start_frame < word.end_frame <= frames for word in words)


def test_what_was_hardly_heard_is_not_said(model: LanguageModel) -> None:
    careful = GraphDecoder(replace(model, weights=replace(WEIGHTS, least_confidence=0.5)), SURE)
    assert text(careful, rows("S IY AH K AE T", sureness=0.7)) == "see a cat"
    assert text(careful, rows("S IY AH K AE T", sureness=0.3)) == ""
    strict = GraphDecoder(replace(model, weights=replace(WEIGHTS, lone_confidence=0.5)), SURE)
    assert text(strict, rows("- S IY -", sureness=0.7)) == "see"
    assert text(strict, rows("- S IY -", sureness=0.3)) == ""
    assert text(strict, rows("S IY AH K AE T", sureness=0.3)) == "see a cat"  # more words than one


def test_nothing_heard_is_nothing_said(decoder: GraphDecoder) -> None:
    state = decoder.advance(decoder.start(), np.zeros((0, len(PHONES)), np.float32))
    assert decoder.best(state) == ()
    assert decoder.finish(state) == ((), decoder.start())


def test_alternatives_are_distinct_and_the_best_comes_first(model: LanguageModel) -> None:
    wide = GraphDecoder(model, SearchOptions(1_000.0, 100_000, 1.0, alternatives_beam=20.0))
    log_probs = rows("S IY - AH K AE T", sureness=0.6)
    state = wide.advance(wide.start(), log_probs)
    found = wide.alternatives(state, 5)
    texts = [alternative.text for alternative in found]
    assert texts[0] == text(wide, log_probs) == "see a cat"
    assert len(set(texts)) == 5 and "sea a cat" in texts
    shares = [alternative.probability for alternative in found]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1)
    costs = [sentence_cost(one.split(), log_probs) for one in texts]
    assert costs == sorted(costs)
    assert [a.text for a in wide.alternatives(wide.start(), 3)] == [""]


def test_packing_keeps_the_graph(model: LanguageModel) -> None:
    again = Graph.unpack(model.graph.unpacked().packed())
    for column in ("counts", "phones", "words", "weights", "targets", "finals"):
        np.testing.assert_array_equal(getattr(again, column), getattr(model.graph.unpacked(), column))


def test_damage_is_named(small_lm_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no decoding graph"):
        Graph.unpack(b"PK\x03\x04 nothing")
    with pytest.raises(ModelError, match="asr lm build"):
        LanguageModel.open(tmp_path, PHONE_TABLE)
    with pytest.raises(ModelError, match="other tokens"):
        LanguageModel.open(small_lm_folder, TokenTable(PHONES[:-1]))
    copy = tmp_path / "lm"
    copy.mkdir()
    for file in small_lm_folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    content = bytearray((copy / "graph.packed").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "graph.packed").write_bytes(content)
    with pytest.raises(ModelError, match="altered or damaged"):
        LanguageModel.open(copy, PHONE_TABLE).graph.unpacked()


def best_sentence(log_probs: np.ndarray) -> tuple[str, float]:
    """The cheapest of all sentences of up to four words, by trying every one."""
    vocabulary = sorted({word for word, _ in LEXICON})
    sentences = [list(words) for count in range(5) for words in product(vocabulary, repeat=count)]
    costs = {" ".join(words): sentence_cost(words, log_probs) for words in sentences}
    return min(costs.items(), key=lambda item: item[1])


def sentence_cost(words: list[str], log_probs: np.ndarray) -> float:
    return (
        spoken_cost(words, log_probs) + WEIGHTS.language_weight * language_cost(words) + WEIGHTS.word_cost * len(words)
    )


def spoken_cost(words: list[str], log_probs: np.ndarray) -> float:
    """Of the best pronunciations."""
    sounds = product(*([sound for word, sound in PRONUNCIATIONS if word == one] for one in words))
    return min(acoustic_cost([phone for sound in choice for phone in sound], log_probs) for choice in sounds)


def acoustic_cost(phones: list[int], log_probs: np.ndarray) -> float:
    """Of the best alignment: each phone at least a frame, blanks between wherever one likes."""
    costs = -log_probs.astype(np.float64)
    costs[:, 0] += WEIGHTS.blank_penalty
    labels = [0, *(label for phone in phones for label in (phone, 0))]
    best = np.full(len(labels), np.inf)
    best[:2] = costs[0, labels[:2]]
    for row in costs[1:]:
        stay, step = best, np.concatenate([[np.inf], best[:-1]])
        skip = np.concatenate([[np.inf, np.inf], best[:-2]])[: len(best)]
        skip[[label == 0 for label in labels]] = np.inf
        best = np.minimum(np.minimum(stay, step), skip) + row[labels]
    return float(best[-2:].min())


def language_cost(words: list[str]) -> float:
    """Nats, by the cheaper of a bigram and backing off, as a graph with free back-off arcs has it."""
    unigrams, backoffs, bigrams = {}, {}, {}
    for line in ARPA.splitlines():
        fields = line.split("\t")
        if len(fields) > 1 and " " in fields[1]:
            bigrams[tuple(fields[1].split())] = -float(fields[0])
        elif len(fields) > 1:
            unigrams[fields[1]] = -float(fields[0])
            backoffs[fields[1]] = -float(fields[2]) if len(fields) > 2 else 0.0
    history, cost = "<s>", 0.0
    for word in [*words, "</s>"]:
        cost += min(bigrams.get((history, word), np.inf), backoffs[history] + unigrams[word])
        history = word
    return cost * np.log(10)


def test_memory_to_work_in_is_lent_one_by_one() -> None:
    scratches = Scratches(most=2)
    with scratches.lent() as one, scratches.lent() as two, scratches.lent() as three:  # the last after a little wait
        assert len({one, two, three}) == 3
    with scratches.lent() as again, scratches.lent() as last:
        assert {again, last} < {one, two, three}
    assert len(scratches.idle) == 2, "no more are kept"


def test_streams_share_the_memory_they_work_in(model: LanguageModel) -> None:
    decoder = GraphDecoder(model)
    spoken = [random_rows(seed, 40) for seed in range(24)]

    def decoded(log_probs: np.ndarray) -> tuple[WordSpan, ...]:
        state = decoder.start()
        for row in log_probs:
            state = decoder.advance(state, row[None])
        return decoder.finish(state)[0]

    alone = [decoded(one) for one in spoken]
    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(decoded, spoken)) == alone
