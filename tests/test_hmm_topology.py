"""Decoding with hidden Markov states: against every sentence, alignment and pause of a small language."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_lm import LEXICON, PHONE_TABLE, PRONUNCIATIONS, WEIGHTS
from test_graph_decoder import SURE, language_cost, text

from asr.acoustic.phone_states import SILENCE, Biphones
from asr.decoding.acoustic_units import StateUnits
from asr.decoding.beam import GraphDecoder
from asr.graph.word_starts import word_starts
from asr.lm.folder import LanguageModel
from asr.lm.grammar import grammar_model
from asr.lm.hotwords import Hotword, with_hotwords
from asr.words.tokens import PHONES

STATE_WEIGHTS = replace(WEIGHTS, blank_penalty=0.25, silence_cost=0.4)


@pytest.fixture(scope="module")
def biphones() -> Biphones:
    """Pairs within the words of the lexicon have states of their own; those over their borders share."""
    sounds = [sound for _, sound in PRONUNCIATIONS]
    alignments = [np.repeat([SILENCE, *sound, SILENCE], 6) for sound in sounds]
    return Biphones.estimate(alignments, len(PHONES), stack=3, least_first=1, least_rest=2)


@pytest.fixture(scope="module")
def model(small_lm_folder: Path) -> LanguageModel:
    return replace(LanguageModel.open(small_lm_folder, PHONE_TABLE), weights=STATE_WEIGHTS)


@pytest.fixture(scope="module")
def decoder(model: LanguageModel, biphones: Biphones) -> GraphDecoder:
    return GraphDecoder(model, SURE, units=StateUnits(biphones))


def rows(biphones: Biphones, phones: str, sureness: float = 0.9) -> np.ndarray:
    """Log-probabilities (T, K) of someone who says these phones, each for two frames; - is silence."""
    ids = np.repeat([0 if phone == "-" else PHONE_TABLE.ids[phone] for phone in phones.split()], 2)
    states = biphones.of_frames(ids, np.arange(len(ids)))
    probabilities = np.full((len(ids), len(biphones)), (1 - sureness) / (len(biphones) - 1))
    probabilities[np.arange(len(ids)), states] = sureness
    return np.log(probabilities).astype(np.float32)


@pytest.mark.parametrize(
    ("phones", "words"),
    [
        ("- S IY - AH K AE T -", "see a cat"),
        ("K AE T AH L", "cattle"),
        ("S IY EY K AE T", "see a cat"),
        ("K AE T - AH - S IY", "cat a sea"),
        ("- - -", ""),
    ],
)
def test_what_is_said_clearly_is_found(decoder: GraphDecoder, biphones: Biphones, phones: str, words: str) -> None:
    assert text(decoder, rows(biphones, phones)) == words


def test_words_begin_where_the_lexicon_says(model: LanguageModel) -> None:
    """Where a word is over another may begin, and not before."""
    graph = model.graph.unpacked()
    ends = np.cumsum(graph.counts)

    def after(states: set[int], phone: int) -> set[int]:
        arcs = (arc for state in states for arc in range(ends[state] - graph.counts[state], ends[state]))
        return {int(graph.targets[arc]) for arc in arcs if graph.phones[arc] == phone}

    def silently(states: set[int]) -> set[int]:
        more = states | after(states, 0)
        return states if more == states else silently(more)

    assert graph.word_starts[graph.start] and not graph.word_starts.all()
    for word, sound in LEXICON:
        states = silently({graph.start})
        for place, phone in enumerate(PHONE_TABLE.encode(sound.split())):
            assert place == 0 or not any(graph.word_starts[state] for state in states), word
            states = after(states, phone)
        assert any(graph.word_starts[state] for state in silently(states)), word
    with pytest.raises(ValueError, match="no pronunciation"):
        word_starts(graph.counts, graph.phones, graph.targets, graph.start, [(1, 2)])


def test_nobody_pauses_within_a_word(decoder: GraphDecoder, biphones: Biphones) -> None:
    """The pause is long: a path that has none must read silence as something else."""
    said = text(decoder, rows(biphones, "K AE T - - - - - - AH L"))
    assert said != "cattle" and said.startswith("cat")


@given(seed=st.integers(0, 10**6), frames=st.integers(1, 5))
@settings(max_examples=15)
def test_finds_the_best_of_all_sentences(decoder: GraphDecoder, biphones: Biphones, seed: int, frames: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (frames, len(biphones)))
    log_probs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    scores = log_probs.astype(float) - biphones.log_priors
    scores[:, SILENCE] -= STATE_WEIGHTS.blank_penalty
    costs = {" ".join(words): cost for words, cost in sentence_costs(scores, biphones)}
    found = text(decoder, log_probs)
    assert found in costs and costs[found] == pytest.approx(min(costs.values()), abs=0.05)  # stored in steps


def sentence_costs(scores: np.ndarray, biphones: Biphones):
    for count in range(min(3, len(scores)) + 1):
        for words in product(sorted({word for word, _ in LEXICON}), repeat=count):
            graph_cost = STATE_WEIGHTS.language_weight * language_cost(list(words)) + STATE_WEIGHTS.word_cost * count
            spoken = min(
                chain_cost(scores, states) + STATE_WEIGHTS.silence_cost * pauses
                for chain, pauses in spoken_ways(words)
                for states in [states_of(biphones, chain)]
            )
            yield words, spoken + graph_cost


@cache
def spoken_ways(words: tuple[str, ...]) -> list[tuple[tuple[int, ...], int]]:
    """Phones and silences, and how many of the silences cost something: the one before the first word does not."""
    sounds = [[tuple(sound) for word, sound in PRONUNCIATIONS if word == one] for one in words]
    ways = []
    for choice in product(*sounds):
        for pauses in product((False, True), repeat=len(words) + 1):
            chain = [SILENCE] * pauses[0]
            for sound, pause in zip(choice, pauses[1:], strict=True):
                chain += [*sound, *([SILENCE] if pause else [])]
            ways.append((tuple(chain), sum(pauses[1:])))
    return ways


def states_of(biphones: Biphones, chain: tuple[int, ...]) -> list[tuple[int, int]]:
    pairs = zip((SILENCE, *chain), chain, strict=False)
    return [(int(biphones.first[pair]), int(biphones.rest[pair])) for pair in pairs]


def chain_cost(scores: np.ndarray, states: list[tuple[int, int]]) -> float:
    """Of the best alignment of a chain, each phone at least a frame long."""
    best = np.array([0.0, *[np.inf] * len(states)])
    for row in scores:
        after = np.full_like(best, np.inf)
        for place, (first, rest) in enumerate(states, start=1):
            after[place] = min(best[place - 1] - row[first], best[place] - row[rest])
        best = after
    return float(best[-1])


@given(cuts=st.lists(st.integers(0, 5), max_size=8))
@settings(max_examples=25)
def test_any_chunking_gives_the_same(decoder: GraphDecoder, biphones: Biphones, cuts: list[int]) -> None:
    log_probs = rows(biphones, "- S IY - AH K AE T AH L -", sureness=0.6)
    state, start = decoder.start(), 0
    for size in cuts:
        state, start = decoder.advance(state, log_probs[start : start + size]), start + size
    words, _ = decoder.finish(decoder.advance(state, log_probs[start:]))
    whole, _ = decoder.finish(decoder.advance(decoder.start(), log_probs))
    assert words == whole and [word.text for word in words] == ["see", "a", "cattle"]
    assert [(word.start_frame, word.end_frame) for word in words] == [(2, 6), (8, 10), (10, 20)]
    assert all(0.9 < word.confidence < 0.99 for word in words)  # of phones that reach 0.6, as lattice-free MMI has them


def test_alternatives_hotwords_and_grammars_know_states(
    decoder: GraphDecoder, model: LanguageModel, biphones: Biphones, tmp_path: Path
) -> None:
    units = StateUnits(biphones)
    said = rows(biphones, "S IY", sureness=0.7)
    assert text(decoder, said) == "see"
    assert {"see", "sea"} <= {one.text for one in decoder.alternatives(decoder.advance(decoder.start(), said), 5)}
    hot = with_hotwords(model, [Hotword(("sea",), 4.0), Hotword(("cat", "sea"), 4.0)], PHONE_TABLE)
    assert text(GraphDecoder(hot, SURE, units=units), said) == "sea"
    assert text(GraphDecoder(hot, SURE, units=units), rows(biphones, "K AE T - S IY")) == "cat sea"
    grammar = tmp_path / "grammar.txt"
    grammar.write_text("see [a] cat | sea\n")
    strict = GraphDecoder(grammar_model(grammar, PHONE_TABLE), SURE, units=units)
    assert text(strict, rows(biphones, "- S IY - K AE T -")) == "see cat"
    assert text(strict, rows(biphones, "- - -")) == ""
