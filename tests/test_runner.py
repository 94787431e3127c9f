"""The runner and the endpoint rule, on an engine that says exactly what its samples spell."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from chunking import heard
from conftest import SAMPLES
from hypothesis import given
from hypothesis import strategies as st

from asr.audio.files import AudioFile
from asr.decoding.greedy import GreedyDecoder
from asr.recognizer import Recognizer
from asr.streaming.endpoint import Endpointer, EndpointRule, EndpointState
from asr.streaming.engine import Rates
from asr.streaming.results import Result, WordSpan, joined
from asr.streaming.runner import Runner

SYMBOLS = ("<blank>", "|", *"abcdefghij")
FRAME_SAMPLES = 3
RATES = Rates(sample_rate=100, frame_samples=FRAME_SAMPLES, window_samples=FRAME_SAMPLES, delay_frames=0)  # 30 ms
RULE = EndpointRule(silence_seconds=0.3, long_seconds=3.0, pause_seconds=0.09, longest_seconds=6.0, reset=False)
# in frames of 30 ms: 10, 100, 3, 200


class SpellingEngine:
    """Each frame of three equal samples is the id of the token to say."""

    rates = RATES

    def start(self) -> np.ndarray:
        return np.zeros(0, np.float32)

    def step(self, state: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, Any]:
        samples = np.concatenate([state, samples])
        frames = len(samples) // FRAME_SAMPLES
        tokens = samples[: frames * FRAME_SAMPLES : FRAME_SAMPLES].astype(int)
        log_probs = np.full((frames, len(SYMBOLS)), -10.0, np.float32)
        log_probs[np.arange(frames), tokens] = -0.001
        return log_probs, samples[frames * FRAME_SAMPLES :].copy()

    def finish(self, state: np.ndarray) -> tuple[np.ndarray, Any]:
        return self.step(state, np.zeros(-len(state) % FRAME_SAMPLES, np.float32))[0], self.start()


runner = Runner(SpellingEngine(), GreedyDecoder(SYMBOLS), RULE)


def spelled(path: str) -> np.ndarray:
    """Samples that make the engine say the path; ``-`` is the blank."""
    tokens = [0 if symbol == "-" else SYMBOLS.index(symbol) for symbol in path]
    return np.repeat(np.array(tokens, np.float32), FRAME_SAMPLES)


def results_of(samples: np.ndarray, cuts: list[int] = ()) -> list[Result]:
    return heard(runner, samples, cuts)


def finals_of(path: str, cuts: list[int] = ()) -> list[Result]:
    return [result for result in results_of(spelled(path), cuts) if result.final]


def test_silence_after_words_ends_an_utterance():
    finals = finals_of("--ab|c" + "-" * 10 + "d")
    assert [result.text for result in finals] == ["ab c", "d"]
    first, second = finals
    assert (first.start_seconds, first.end_seconds) == pytest.approx((0.06, 0.18))
    assert second.words[0].start_seconds == pytest.approx(0.48)


def test_a_shorter_silence_does_not():
    assert [result.text for result in finals_of("--ab|c" + "-" * 8 + "|d")] == ["ab c d"]


def test_silence_alone_says_nothing():
    assert results_of(spelled("-" * 500)) == []


def test_a_long_utterance_ends_at_the_next_border_between_words():
    finals = finals_of("ab-|" * 60)
    assert len(finals) == 3
    assert {len(result.words) for result in finals[:-1]} == {25}
    assert joined(finals, 7.2).text == " ".join(["ab"] * 60)


def test_a_long_utterance_ends_at_a_pause():
    finals = finals_of("ab-" * 33 + "ab----" + "ba-")
    assert [len(result.text) for result in finals] == [68, 2]


def test_the_longest_utterance_ends_anywhere_and_loses_no_token():
    finals = finals_of("ab" * 150)
    assert [len(result.text) for result in finals] == [200, 100]
    assert "".join(result.text for result in finals) == "ab" * 150


def test_partials_come_when_the_text_changes_and_the_final_replaces_them():
    state = runner.start()
    texts = []
    for symbol in "-a-b-" + "-" * 9:
        results, state = runner.step(state, spelled(symbol))
        texts += [(result.text, result.final) for result in results]
    assert texts == [("a", False), ("ab", False), ("ab", True)]


def test_what_is_still_open_becomes_final_at_the_end():
    state = runner.start()
    results, state = runner.step(state, spelled("ab"))
    assert [result.final for result in results] == [False]
    (result,), fresh = runner.finish(state)
    assert (result.text, result.final) == ("ab", True)
    assert fresh.samples == 0 and runner.finish(fresh)[0] == ()


def test_the_end_of_the_last_word_lies_within_the_audio():
    (result,) = [result for result in results_of(spelled("ab")[:-2]) if result.final]
    assert result.end_seconds == pytest.approx(0.04)


paths = st.lists(
    st.one_of(st.sampled_from(["-", "|", "a", "b"]), st.just("-" * 12), st.just("ab|" * 40), st.just("cd" * 120)),
    max_size=30,
).map("".join)


@given(path=paths, cuts=st.lists(st.integers(0, 3_000), max_size=20))
def test_any_chunking_gives_the_same_finals(path, cuts):
    assert finals_of(path, cuts) == finals_of(path)


@given(path=paths, cuts=st.lists(st.integers(0, 3_000), max_size=20))
def test_every_partial_is_news_and_every_utterance_ends_in_a_final(path, cuts):
    shown = ""
    for result in results_of(spelled(path), cuts):
        assert result.final or result.text != shown
        shown = "" if result.final else result.text
    assert shown == ""


def test_an_hour_keeps_the_state_small_and_the_times_true():
    minute = "-" * 100 + "ab|cd" + "-" * 1_895  # 2000 frames of 30 ms
    samples = spelled(minute)
    state = runner.start()
    sizes, finals = [], []
    for _ in range(60):
        for chunk in np.split(samples, 7 * np.arange(1, 800)):
            results, state = runner.step(state, chunk)
            finals += [result for result in results if result.final]
        sizes.append(len(pickle.dumps(state)))
    assert max(sizes) - sizes[0] <= 16  # only the counters need more digits
    assert [result.text for result in finals] == ["ab cd"] * 60
    for number, result in enumerate(finals):
        assert result.words[0].start_seconds == pytest.approx(60 * number + 3.0, abs=1e-9)
        assert result.words[1].end_seconds == pytest.approx(60 * number + 3.15, abs=1e-9)


def test_an_hour_without_a_pause_keeps_the_state_small():
    state = runner.start()
    minute = spelled("ab|cd-|-" * 250)
    sizes, words = [], 0
    for _ in range(60):
        results, state = runner.step(state, minute)
        words += sum(len(result.words) for result in results if result.final)
        sizes.append(len(pickle.dumps(state)))
    assert max(sizes) < 20_000
    assert words + len(runner.finish(state)[0][0].words) == 60 * 500


def test_a_kept_state_can_be_finished_without_disturbing_the_stream():
    state = runner.start()
    _, state = runner.step(state, spelled("ab|c"))
    (speculative,), _ = runner.finish(state)
    assert speculative.text == "ab c"
    results, _ = runner.step(state, spelled("d" + "-" * 10))
    assert results[-1].text == "ab cd" and results[-1].final


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ({"silence_seconds": 0.1}, "pause_seconds"),
        ({"pause_seconds": 0.0}, "pause_seconds"),
        ({"long_seconds": 40.0}, "longest_seconds"),
        ({"complete_seconds": 0.0}, "complete_seconds"),
        ({"lead_seconds": -1.0}, "lead_seconds"),
    ],
)
def test_impossible_rules_are_refused(lengths, message):
    with pytest.raises(ValueError, match=message):
        EndpointRule(**lengths)


tokens = st.lists(
    st.one_of(st.integers(0, 3).map(lambda token: [token]), st.just([0] * 12), st.just([2, 3] * 60)), max_size=40
).map(lambda runs: sum(runs, []))


@given(tokens=tokens, cut=st.integers(0, 400))
def test_the_endpointer_counts_frames_not_blocks(tokens, cut):
    endpointer = Endpointer(replace(RULE, complete_seconds=0.15), RATES, silent=(0, 1), borders=(1,))

    def ends(blocks: list[list[int]]) -> list[tuple[int, bool]]:
        state, heard, found = EndpointState(), 0, []
        for block in blocks:
            while block:
                endpoint, state = endpointer.advance(state, block)
                step = len(block) if endpoint is None else endpoint.rows
                heard += step
                if endpoint is not None:
                    found.append((heard, endpoint.if_complete))
                    state = state if endpoint.if_complete else endpointer.start()
                block = block[step:]
        return found

    assert ends([tokens[:cut], tokens[cut:]]) == ends([tokens])


class Judge(GreedyDecoder):
    """Takes "ab" for a whole sentence, and nothing else."""

    def ending_cost(self, state: Any) -> float:
        return 1.0 if " ".join(word.text for word in self.best(state)) == "ab" else 3.0


@pytest.mark.parametrize(
    ("path", "texts"), [("ab------c", ["ab", "c"]), ("ac------|c", ["ac c"]), ("ab---|c", ["ab c"])]
)
def test_a_whole_sentence_ends_after_a_shorter_silence(path, texts):
    judging = Runner(SpellingEngine(), Judge(SYMBOLS), replace(RULE, complete_seconds=0.15, complete_cost=2.0))
    state = judging.start()
    finals = []
    for sample in spelled(path):
        results, state = judging.step(state, np.array([sample]))
        finals += [result.text for result in results if result.final]
    finals += [result.text for result in judging.finish(state)[0]]
    assert finals == texts


class Forgetful(SpellingEngine):
    """Spells every token one higher for each 9 frames that it has heard: its state matters."""

    def start(self) -> tuple[int, np.ndarray]:
        return 0, np.zeros(0, np.float32)

    def step(self, state: tuple[int, np.ndarray], samples: np.ndarray) -> tuple[np.ndarray, Any]:
        frames, held = state
        rows, held = super().step(held, samples)
        log_probs = np.full_like(rows, -10.0)
        for row, token in enumerate(rows.argmax(axis=1)):
            token = token + (frames + row) // 9 if token > 1 else token
            log_probs[row, min(token, len(SYMBOLS) - 1)] = -0.001
        return log_probs, (frames + len(rows), held)

    def finish(self, state: tuple[int, np.ndarray]) -> tuple[np.ndarray, Any]:
        return self.step(state, np.zeros(-len(state[1]) % FRAME_SAMPLES, np.float32))[0], self.start()


def test_the_network_forgets_at_an_endpoint_if_told_to():
    path = "a-------a---------" + "-a"

    def texts(reset: bool) -> list[str]:
        forgetful = Runner(Forgetful(), GreedyDecoder(SYMBOLS), replace(RULE, reset=reset))
        results, state = forgetful.step(forgetful.start(), spelled(path))
        return [result.text for result in (*results, *forgetful.finish(state)[0]) if result.final]

    assert texts(reset=True) == ["aa", "a"]
    assert texts(reset=False) == ["aa", "c"]


@given(path=paths, cuts=st.lists(st.integers(0, 3_000), max_size=20))
def test_any_chunking_gives_the_same_finals_when_the_network_forgets(path, cuts):
    def finals(cuts: list[int]) -> list[Result]:
        forgetful = Runner(Forgetful(), GreedyDecoder(SYMBOLS), replace(RULE, reset=True))
        state, results = forgetful.start(), []
        for chunk in np.split(spelled(path), sorted(cuts)):
            new, state = forgetful.step(state, chunk)
            results += new
        assert len(state.undecoded) <= 2 * FRAME_SAMPLES
        results += forgetful.finish(state)[0]
        return [result for result in results if result.final]

    assert finals(cuts) == finals([])


def test_a_token_said_again_after_an_endpoint_is_not_lost():
    assert [result.text for result in finals_of("ab" + "-" * 10 + "ba")] == ["ab", "ba"]


@pytest.mark.parametrize("reset", [False, True])
def test_a_word_said_again_after_an_endpoint_is_not_lost(shipped_recognizer, reset):
    rule = EndpointRule(silence_seconds=0.6, reset=reset)
    with AudioFile(SAMPLES / "greeting.wav", shipped_recognizer.sample_rate) as audio:
        once = np.concatenate(list(audio))
    words = Recognizer.load(endpoint=rule).transcribe(once).text.split()
    twice = Recognizer.load(endpoint=rule).transcribe(np.concatenate([once, np.zeros(24_000, np.float32), once]))
    assert len(words) > 3 and [word.text for word in twice.words] == words + words


def test_what_is_held_does_not_grow_while_nobody_speaks():
    class Hoarder(GreedyDecoder):
        def advance(self, state, log_probs):
            state = super().advance(state, log_probs)
            return state._replace(words=(*state.words, *([self._word_of(state)] * len(log_probs))))

        @staticmethod
        def _word_of(state):
            return WordSpan("x", state.frames, state.frames + 1, 0.1)

        def finish(self, state, committed=()):
            return (), super().finish(state)[1]

    hoarding = Runner(SpellingEngine(), Hoarder(SYMBOLS), replace(RULE, lead_seconds=3.0))
    state = hoarding.start()
    for _ in range(10):
        _, state = hoarding.step(state, spelled("-" * 99))
        assert len(state.decoder.words) <= 100
