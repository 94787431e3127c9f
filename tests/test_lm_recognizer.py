"""Recognition with a language model, from samples to results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from chunking import chunk_sizes, chunks
from hypothesis import given, settings
from small_lm import LEXICON

from asr.errors import ModelError, UsageError
from asr.recognizer import Recognizer

WORDS = {word for word, _ in LEXICON}


@pytest.fixture(scope="module")
def reader(model_folder: Path, small_lm_folder: Path) -> Recognizer:
    return Recognizer.load(model_folder, lm=small_lm_folder, engine="onnx")


def test_it_says_words_of_its_lexicon_only(reader: Recognizer, speech: np.ndarray) -> None:
    result = reader.transcribe(speech)
    assert reader.decoder == "lm"
    assert result.words and {word.text for word in result.words} <= WORDS
    times = [time for word in result.words for time in (word.start_seconds, word.end_seconds)]
    assert times == sorted(times) and times[-1] <= len(speech) / reader.sample_rate


@settings(max_examples=10)
@given(sizes=chunk_sizes)
def test_any_chunks_give_the_same_text(reader: Recognizer, speech: np.ndarray, sizes: list[int]) -> None:
    finals = [result for result in reader.stream(chunks(speech, sizes)) if result.final]
    whole = [result for result in reader.stream([speech]) if result.final]
    assert [result.text for result in finals] == [result.text for result in whole]
    for one, other in zip(finals, whole, strict=True):
        for a, b in zip(one.words, other.words, strict=True):
            assert (a.start_seconds, a.end_seconds) == (b.start_seconds, b.end_seconds)


def test_alternatives_of_an_open_utterance(reader: Recognizer, speech: np.ndarray) -> None:
    state = reader.start()
    _, state = reader.step(state, speech[: 2 * reader.sample_rate])
    found = reader.alternatives(state, 4)
    assert 1 < len(found) <= 4 and len({one.text for one in found}) == len(found)
    results, _ = reader.finish(state)
    assert results[-1].text == found[0].text
    with pytest.raises(UsageError, match="from 1"):
        reader.alternatives(state, 0)


def test_what_does_not_go_together_is_said(model_folder: Path, small_lm_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no language model"):
        Recognizer.load(model_folder, decoder="lm")
    with pytest.raises(UsageError, match="uses no language model"):
        Recognizer.load(model_folder, decoder="greedy", lm=small_lm_folder)
    with pytest.raises(ModelError, match="asr lm build"):
        Recognizer.load(model_folder, lm=tmp_path)
    greedy = Recognizer.load(model_folder)
    assert greedy.decoder == "greedy"
    with pytest.raises(UsageError, match="only decoder lm"):
        greedy.alternatives(greedy.start())
