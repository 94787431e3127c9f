"""Greedy CTC decoding: the collapsing rule, times, confidences, and blocks that do not matter."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.greedy import GreedyDecoder
from asr.errors import ModelError
from asr.words.tokens import CHARACTERS, PHONES

SMALL = ("<blank>", "|", "a", "b")  # few symbols, so that random frames repeat and collapse often
decoder = GreedyDecoder(SMALL)


def rows(path: str, probability: float = 0.9, symbols: tuple[str, ...] = SMALL) -> np.ndarray:
    """Log-probabilities (T, V) whose best tokens spell the path; ``-`` is the blank."""
    log_probs = np.full((len(path), len(symbols)), np.log((1 - probability) / (len(symbols) - 1)), np.float32)
    for frame, symbol in enumerate(path):
        log_probs[frame, 0 if symbol == "-" else symbols.index(symbol)] = np.log(probability)
    return log_probs


def words_of(log_probs: np.ndarray, cuts: list[int] = (), greedy: GreedyDecoder = decoder):
    state = greedy.start()
    for block in np.split(log_probs, sorted(cuts)):
        state = greedy.advance(state, block)
    return greedy.best(state)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("", ""),
        ("---", ""),
        ("|||", ""),
        ("aab--b|a", "abb a"),
        ("a-a", "aa"),
        ("aaa", "a"),
        ("|a||-|b|", "a b"),
        ("a--|--|--b--", "a b"),
    ],
)
def test_repeats_merge_blanks_vanish_borders_part_words(path, text):
    assert " ".join(word.text for word in words_of(rows(path))) == text


paths = st.text(alphabet="-|ab", max_size=40)


@given(path=paths, cuts=st.lists(st.integers(0, 40), max_size=8))
def test_any_blocks_give_the_same_words(path, cuts):
    log_probs = rows(path)
    assert words_of(log_probs, cuts) == words_of(log_probs)


@given(path=paths)
def test_text_is_what_the_collapsing_rule_says(path):
    collapsed = "".join(symbol for symbol, _ in groupby(path) if symbol != "-")
    assert [word.text for word in words_of(rows(path))] == collapsed.replace("|", " ").split()


@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 200), max_size=20))
def test_any_blocks_give_the_same_words_of_real_sized_rows(seed, cuts):
    logits = np.random.default_rng(seed).normal(size=(200, len(CHARACTERS))).astype(np.float32) * 3
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    greedy = GreedyDecoder(CHARACTERS)
    assert words_of(log_probs, cuts, greedy) == words_of(log_probs, greedy=greedy)


def test_times_are_the_frames_of_the_first_and_last_token():
    first, second = words_of(rows("--aa-bb--|-a--"))
    assert (first.text, first.start_frame, first.end_frame) == ("ab", 2, 7)
    assert (second.text, second.start_frame, second.end_frame) == ("a", 11, 12)


def test_times_go_on_counting_over_utterances():
    state = decoder.advance(decoder.start(), rows("-a-"))
    words, state = decoder.finish(state)
    assert [word.start_frame for word in words] == [1]
    state = decoder.advance(state, rows("--b"))
    (word,) = decoder.best(state)
    assert (word.text, word.start_frame, word.end_frame) == ("b", 5, 6)


def test_confidence_is_the_mean_of_the_highest_probability_of_each_token():
    log_probs = np.concatenate([rows("a", 0.5), rows("a", 0.9), rows("-", 0.9), rows("b", 0.7)])
    for cuts in ([], [1], [2], [1, 2, 3]):
        (word,) = words_of(log_probs, cuts)
        assert word.confidence == pytest.approx((0.9 + 0.7) / 2)


def test_a_token_that_goes_on_over_the_end_of_an_utterance_is_said_once():
    _, state = decoder.finish(decoder.advance(decoder.start(), rows("-aa")))
    assert decoder.best(decoder.advance(state, rows("aa-"))) == ()


def test_a_token_said_again_after_the_end_of_an_utterance_is_kept():
    _, state = decoder.finish(decoder.advance(decoder.start(), rows("-aa-")))
    (word,) = decoder.best(decoder.advance(state, rows("aa-")))
    assert word.text == "a"


def test_a_state_can_be_forked():
    state = decoder.advance(decoder.start(), rows("a"))
    other = decoder.advance(state, rows("b"))
    assert decoder.best(decoder.advance(state, rows("-a")))[0].text == "aa"
    assert decoder.best(other)[0].text == "ab"


def test_tokens_without_a_word_border_are_refused():
    with pytest.raises(ModelError, match="word border"):
        GreedyDecoder(PHONES)
