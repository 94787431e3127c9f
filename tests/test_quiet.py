"""Frames in which nobody can speak: told by level, whatever the network says and however the audio is cut."""

import numpy as np
import pytest
from chunking import chunk_sizes, chunks
from hypothesis import given

from asr.streaming.engine import Rates
from asr.streaming.quiet import QUIET_RMS, QuietFrames

RATES = Rates(sample_rate=16_000, frame_samples=480, window_samples=1_360, delay_frames=8)
QUIET = QuietFrames(RATES)
UNSURE = np.log(np.full((1, 4), 0.25, np.float32))


def marked(state, frames: int) -> list[bool]:
    """Which of the next frames are taken for silence."""
    rows = QUIET.silenced(state, np.repeat(UNSURE, frames, axis=0))
    assert np.array_equal(rows[:, 0] == 0, rows[:, 1] < -20)
    return (rows[:, 0] == 0).tolist()


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    """A second of digital silence, a second of speech level, a second of hiss below the threshold."""
    random = np.random.default_rng(0)
    levels = np.repeat([0.0, 0.1, 0.5 * QUIET_RMS], 16_000)
    return (random.normal(size=48_000) * levels).astype(np.float32)


def test_frames_whose_whole_window_is_quiet_are_silence(samples) -> None:
    frames = RATES.frames_covering(len(samples))
    found = marked(QUIET.accept(QUIET.start(), samples), frames)
    for frame, quiet in enumerate(found):
        start, end = frame * 480, frame * 480 + 3 * 480  # the blocks that its window of 1,360 samples lies on
        assert quiet == (end <= 16_000 or start >= 32_160), frame


@given(sizes=chunk_sizes)
def test_any_chunking_marks_the_same_frames(samples, sizes) -> None:
    frames = RATES.frames_covering(len(samples))
    whole = marked(QUIET.accept(QUIET.start(), samples), frames)
    state, found = QUIET.start(), []
    for number, chunk in enumerate(chunks(samples, sizes)):
        state = QUIET.accept(state, chunk)
        count = max(0, RATES.frames_within(sum(sizes[: number + 1])) - RATES.delay_frames - len(found))
        if len(state.blocks) >= count + 2:  # as many as a network gives by then
            found += marked(state, count)
            state = QUIET.decoded(state, count)
    assert found + marked(state, frames - len(found)) == whole


def test_rows_of_audible_frames_stay_as_they_are(samples) -> None:
    state = QUIET.accept(QUIET.start(), samples[16_000:32_000])
    rows = np.repeat(UNSURE, 20, axis=0)
    assert QUIET.silenced(state, rows) is rows
    assert QUIET.silenced(QUIET.start(), rows[:0]).shape == (0, 4)
