"""Committed words: never revoked, the same for any chunking, kept by the final result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from chunking import heard
from hypothesis import given
from hypothesis import strategies as st
from test_runner import RATES, RULE, SpellingEngine, runner, spelled

from asr.streaming.results import Result, WordSpan
from asr.streaming.runner import Runner
from asr.streaming.stability import NEVER, StabilityRule, StabilityState, Stabilizer

SAME = StabilityRule(look_seconds=0.06, unchanged_seconds=0.12)  # looks every 2 frames, unchanged for 4
BEHIND = StabilityRule(look_seconds=0.06, unchanged_seconds=0.0, behind_seconds=0.3)  # 10 frames


def spans(text: str, length: int = 4) -> tuple[WordSpan, ...]:
    return tuple(WordSpan(word, k * length, (k + 1) * length, 0.5) for k, word in enumerate(text.split()))


def looked(rule: StabilityRule, guesses: list[str], certain: int | None = None) -> list[str]:
    """What has been committed after each look, two frames apart."""
    stabilizer = Stabilizer(rule, RATES)
    state, committed = StabilityState(), []
    for number, guess in enumerate(guesses, start=1):
        state = stabilizer.look(state, spans(guess), 2 * number, certain)
        committed.append(" ".join(word.text for word in state.committed))
    return committed


def test_words_are_committed_once_they_have_stood_long_enough():
    assert looked(SAME, ["a", "a b", "a b", "a c", "a c", "a c"]) == ["", "", "a", "a", "a", "a c"]


def test_a_word_waits_for_those_before_it():
    assert looked(SAME, ["x b", "a b", "a b", "a b"]) == ["", "", "", "a b"]


def test_words_are_committed_once_they_lie_far_enough_behind():
    assert looked(BEHIND, ["", "", "", "", "", "a b", "c d", "c d", "c d"])[5:] == ["", "c", "c", "c d"]


def test_what_the_decoder_is_sure_of_needs_no_waiting():
    assert looked(SAME, ["a b c"], certain=2) == ["a b"]
    assert looked(NEVER, ["a b c"] * 3, certain=2)[-1] == "a b"


def test_a_decoder_that_changes_its_mind_does_not_revoke_them():
    stabilizer = Stabilizer(SAME, RATES)
    state = StabilityState(committed=spans("a b"))
    assert stabilizer.kept(state, spans("a b c")) == spans("a b c")
    assert stabilizer.kept(state, ()) == spans("a b")
    words = stabilizer.kept(state, spans("x y", length=3) + (WordSpan("z", 7, 9, 0.5), WordSpan("end", 9, 12, 0.5)))
    assert [word.text for word in words] == ["a", "b", "z", "end"]
    starts, ends = [word.start_frame for word in words], [word.end_frame for word in words]
    assert starts[2:] == [8, 9] and all(end > start for start, end in zip(starts, ends, strict=True))


class FickleDecoder:
    """Says at every frame what a script has there, whatever it hears."""

    silent_tokens = frozenset((0,))
    border_tokens: frozenset[int] = frozenset()

    def __init__(self, script: list[str]) -> None:
        self._script = script

    def start(self) -> tuple[int, int]:
        return 0, 0  # frame, and that of the utterance's start

    def advance(self, state: tuple[int, int], log_probs: np.ndarray) -> tuple[int, int]:
        return state[0] + len(log_probs), state[1]

    def likeliest(self, log_probs: np.ndarray) -> np.ndarray:
        return log_probs.argmax(axis=1)

    def best(self, state: tuple[int, int]) -> tuple[WordSpan, ...]:
        frame, start = state
        words = self._script[frame % len(self._script)].split()[: frame - start]
        step = (frame - start) // max(1, len(words))
        return tuple(WordSpan(word, start + k * step, start + (k + 1) * step, 0.5) for k, word in enumerate(words))

    def certain(self, state: Any) -> None:
        return None

    def ending_cost(self, state: Any) -> float:
        return float("inf")

    def finish(self, state: tuple[int, int], committed: Any = ()) -> tuple[tuple[WordSpan, ...], Any]:
        return self.best(state), (state[0], state[0])


scripts = st.lists(st.lists(st.sampled_from("abc"), max_size=4).map(" ".join), min_size=1, max_size=40)
speech = st.lists(st.sampled_from(["-", "ab", "-" * 11, "a" * 20]), max_size=20).map("".join)
cuts = st.lists(st.integers(0, 800), max_size=20)


@given(scripts, speech, cuts, st.sampled_from([SAME, BEHIND, NEVER]))
def test_nothing_committed_is_ever_revoked_and_the_final_keeps_it(script, path, cuts, rule):
    promised: tuple = ()
    for result in heard(Runner(SpellingEngine(), FickleDecoder(script), RULE, rule), spelled(path), cuts):
        assert result.words[: len(promised)] == promised
        promised = () if result.final else result.words[: result.committed]
        assert result.committed == len(result.words) or not result.final


@given(scripts, speech, cuts)
def test_any_chunking_gives_the_same_finals_whatever_was_committed(script, path, cuts):
    def finals(cuts: list[int]) -> list[Result]:
        results = heard(Runner(SpellingEngine(), FickleDecoder(script), RULE, SAME), spelled(path), cuts)
        return [result for result in results if result.final and result.text]

    assert finals(cuts) == finals([])


def test_a_partial_is_sent_when_more_of_it_is_committed():
    fickle = Runner(SpellingEngine(), FickleDecoder(["a b"]), RULE, SAME)
    results = heard(fickle, spelled("aaaaaaaaaa"), list(range(3, 30, 3)))
    assert [(result.text, result.committed, result.final) for result in results] == [
        ("a", 0, False),
        ("a b", 0, False),
        ("a b", 2, False),
        ("a b", 2, True),
    ]


def test_a_moment_of_doubt_does_not_wipe_the_screen_but_the_end_does():
    fickle = Runner(SpellingEngine(), FickleDecoder(["a", "a", "", "", "a", ""]), RULE, NEVER)
    results = heard(fickle, spelled("aaaaa"), [3, 6, 9, 12, 15])
    assert [(result.text, result.final) for result in results] == [("a", False), ("", True)]


def test_the_greedy_decoder_commits_words_that_have_ended():
    results = heard(runner, spelled("ab|c" + "-" * 8), [6, 9, 12, 15])
    assert ("ab c", 1) in [(result.text, result.committed) for result in results]


def test_real_speech_live_and_as_a_file(shipped_recognizer, speech):
    promised, finals, most = (), [], 0
    for result in shipped_recognizer.stream(np.array_split(speech, 60)):
        assert result.words[: len(promised)] == promised
        promised = () if result.final else result.words[: result.committed]
        most = max(most, len(promised))
        finals += [result.text] if result.final else []
    assert most > 2, "something is committed before the end"
    assert " ".join(finals) == shipped_recognizer.transcribe(speech).text


@pytest.mark.parametrize("lengths", [{"look_seconds": 0}, {"unchanged_seconds": -1.0}, {"behind_seconds": -0.1}])
def test_impossible_rules_are_refused(lengths):
    with pytest.raises(ValueError, match="positive look_seconds"):
        StabilityRule(**lengths)
