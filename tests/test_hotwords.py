"""Hotwords: their forms, what they do to a small graph whose every sentence is known, and to real speech."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLES
from hypothesis import given
from hypothesis import strategies as st
from small_lm import PHONE_TABLE
from test_graph_decoder import SURE, random_rows, rows, text
from test_transcribe_command import one_line

from asr.decoding.beam import GraphDecoder
from asr.errors import UsageError
from asr.lm.folder import LanguageModel
from asr.lm.hotwords import DEFAULT_BOOST, NEW_WORD_COST, Hotword, read_hotwords, with_hotwords
from asr.recognizer import Recognizer


@pytest.fixture(scope="module")
def model(small_lm_folder: Path) -> LanguageModel:
    return LanguageModel.open(small_lm_folder, PHONE_TABLE)


def steered(model: LanguageModel, *hotwords: tuple[str, float]) -> GraphDecoder:
    listed = [Hotword(tuple(phrase.split()), boost) for phrase, boost in hotwords]
    return GraphDecoder(with_hotwords(model, listed, PHONE_TABLE), SURE)


def cost(decoder: GraphDecoder, log_probs: np.ndarray, sentence: str) -> float:
    """-log share of a sentence among all, which differs between decoders by what they add to its cost."""
    state = decoder.advance(decoder.start(), log_probs)
    found = {one.text: one.probability for one in decoder.alternatives(state, 1_000)}
    return -np.log(found[sentence])


def test_all_forms_say_the_same(tmp_path: Path) -> None:
    expected = (Hotword(("new", "york"), 2.5), Hotword(("rill",), DEFAULT_BOOST))
    file = tmp_path / "words.list"
    file.write_text("# places\nNew-York:2.5\n\nRill  # ours\nrill:1\n", encoding="utf-8")
    assert read_hotwords("new york:2.5, Rill") == expected
    assert read_hotwords(["New York: 2.5", "rill"]) == expected
    assert read_hotwords({"new york": 2.5, "rill": DEFAULT_BOOST}) == expected
    assert read_hotwords(file) == read_hotwords(str(file)) == expected


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("a,,b", "hotword 2"),
        ("", "no entry"),
        ("  ", "no entry"),
        ([], "no entry"),
        ("a:x", "must be a number"),
        ("a:-1", "above 0"),
        ("a:0", "above 0"),
        ("a:nan", "above 0"),
        ("a:99", "at most 20"),
        (":3", "has no word"),
        ("4 seasons", "spell them out"),
        ("naïve, b", "hotword 1"),
        ("missing/words", "No such file"),
        ("words.txt", "No such file"),
        ([1], "must be text"),
        ("'", "has no word"),
    ],
)
def test_what_cannot_apply_is_refused(given: object, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        read_hotwords(given)
    assert "\n" not in str(caught.value)


def test_a_line_of_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("one\n\ntwo:many\n")
    with pytest.raises(UsageError, match="words.txt, line 3"):
        read_hotwords(file)
    file.write_text("# nothing\n")
    with pytest.raises(UsageError, match="no entry"):
        read_hotwords(file)


def test_a_hotword_wins_over_one_that_sounds_alike(model: LanguageModel) -> None:
    assert text(GraphDecoder(model, SURE), rows("S IY")) == "see"
    assert text(steered(model, ("sea", 3.0)), rows("S IY")) == "sea"


def test_new_words_can_be_said(model: LanguageModel) -> None:
    decoder = steered(model, ("rill", 6.0), ("ribbon", 6.0))
    state = decoder.advance(decoder.start(), rows("- S IY - R IH L - K AE T -"))
    words, _ = decoder.finish(state)
    assert [(word.text, word.start_frame, word.end_frame) for word in words] == [
        ("see", 2, 6),
        ("rill", 8, 14),
        ("cat", 16, 22),
    ]
    assert text(decoder, rows("S IY AH K AE T")) == "see a cat", "nobody said a hotword"


@pytest.fixture(scope="module")
def unfinished(model: LanguageModel) -> tuple[GraphDecoder, GraphDecoder]:
    """Decoders without and with a hot phrase."""
    return GraphDecoder(model, SURE), steered(model, ("a cat rill", 4.0))


@given(seed=st.integers(0, 10_000), frames=st.integers(4, 8))
def test_a_phrase_that_is_not_completed_gains_nothing(unfinished, seed: int, frames: int) -> None:
    log_probs = random_rows(seed, frames)
    log_probs[:, PHONE_TABLE.encode(["L"])] -= 50.0  # "a cat" may be heard, its continuation never
    plain, hot = unfinished
    assert text(hot, log_probs) == text(plain, log_probs)


def test_the_boost_is_what_is_taken_from_the_cost(model: LanguageModel) -> None:
    log_probs = rows("AH - K AE T AH L", sureness=0.6)
    plain = GraphDecoder(model, SURE)
    before = cost(plain, log_probs, "a cattle") - cost(plain, log_probs, "a cat a")
    costs = []
    for boost in (1.0, 1.5):
        decoder = steered(model, ("cattle", boost))
        costs.append(cost(decoder, log_probs, "a cattle") - cost(decoder, log_probs, "a cat a"))
    weight = model.weights.language_weight
    assert costs[0] - costs[1] == pytest.approx(0.5 * weight, abs=0.05)
    assert before - costs[0] == pytest.approx(1.0 * weight, abs=0.3)


def test_no_boost_makes_a_phrase_better_than_free(model: LanguageModel) -> None:
    hot = with_hotwords(model, [Hotword(("cattle",), 20.0), Hotword(("rill",), 20.0)], PHONE_TABLE)
    added = hot.graph.weights[len(model.graph.unpacked().weights) :]
    assert (added >= 0).all() and 20.0 > NEW_WORD_COST
    assert text(GraphDecoder(hot, SURE), rows("- - -")) == ""


def test_phrases_with_a_beginning_in_common(model: LanguageModel) -> None:
    decoder = steered(model, ("rill", 6.0), ("rill sea", 6.0), ("rills", 6.0))
    assert text(decoder, rows("R IH L")) == "rill"
    assert text(decoder, rows("R IH L Z")) == "rills"
    assert text(decoder, rows("R IH L S IY")) == "rill sea"


def test_the_model_is_left_as_it_was(model: LanguageModel) -> None:
    kept = replace(model)
    with_hotwords(model, [Hotword(("sea",), 3.0)], PHONE_TABLE)
    assert text(GraphDecoder(model, SURE), rows("S IY")) == text(GraphDecoder(kept, SURE), rows("S IY")) == "see"
    assert len(model.graph.unpacked().phones) == model.graph.unpacked().counts.sum()


def test_real_speech_follows_hotwords(shipped_recognizer: Recognizer) -> None:
    """The shipped model writes "left the front door" where "lock" is said."""
    assert "lock the front door" not in shipped_recognizer.transcribe(SAMPLES / "request.wav").text
    steered = Recognizer.load(hotwords=["lock the front door", "flabbergastrix"])
    assert "lock the front door" in steered.transcribe(SAMPLES / "request.wav").text
    greeting = SAMPLES / "greeting.wav"
    assert steered.transcribe(greeting).text == shipped_recognizer.transcribe(greeting).text


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--hotwords", "four:lots"], "must be a number"),
        (["--hotwords", "four", "--decoder", "greedy"], "hotwords cannot apply"),
        (["--hotwords", "no/such/file"], "No such file"),
    ],
)
def test_the_command_complains_in_one_line(asr, options: list[str], complaint: str) -> None:
    run = asr("transcribe", *options, SAMPLES / "numbers.wav")
    assert run.returncode == 2 and run.stdout == "" and one_line(run.stderr) and complaint in run.stderr
