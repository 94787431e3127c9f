"""Frames in which no one can speak: found by level, whatever the network says and however the audio is cut."""

import numpy as np
import pytest
from chunking import chunk_sizes, chunks
from hypothesis import given

from asr.streaming.engine import Rates
from asr.streaming.level import Level
from asr.streaming.quiet import QuietFrames

RATES = Rates(sample_rate=16_000, frame_samples=480, window_samples=1_360, delay_frames=8)
LEVEL = Level(RATES)
QUIET = QuietFrames(RATES)
UNSURE = np.log(np.full((1, 4), 0.25, np.float32))


def quiet_blocks(samples: np.ndarray) -> np.ndarray:
    _, quiet, state = LEVEL.accept(LEVEL.start(), samples)
    return np.concatenate([quiet, LEVEL.finish(state)[1]])


def marked(blocks: np.ndarray, frames: int) -> list[bool]:
    """Which of the next frames are taken for silence."""
    rows = QUIET.silenced(blocks, np.repeat(UNSURE, frames, axis=0))
    assert np.array_equal(rows[:, 0] == 0, rows[:, 1] < -20)
    return (rows[:, 0] == 0).tolist()


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    """A second of digital silence, a second of speech level, a second of the hiss of a good recorder."""
    random = np.random.default_rng(0)
    levels = np.repeat([0.0, 0.1, 0.5e-4], 16_000)
    return (random.normal(size=48_000) * levels).astype(np.float32)


def test_frames_whose_whole_window_is_quiet_are_silence(samples) -> None:
    found = marked(quiet_blocks(samples), RATES.frames_covering(len(samples)))
    for frame, quiet in enumerate(found):
        start, end = frame * 480, frame * 480 + 3 * 480  # the blocks that its window of 1,360 samples lies on
        assert quiet == (end <= 16_000 or start >= 32_160), frame


@given(sizes=chunk_sizes)
def test_any_chunking_marks_the_same_frames(samples, sizes) -> None:
    frames = RATES.frames_covering(len(samples))
    whole = marked(quiet_blocks(samples), frames)
    state, blocks, found = LEVEL.start(), QUIET.start(), []
    for number, chunk in enumerate(chunks(samples, sizes)):
        _, quiet, state = LEVEL.accept(state, chunk)
        blocks = np.concatenate([blocks, quiet])
        count = max(0, RATES.frames_within(sum(sizes[: number + 1])) - RATES.delay_frames - len(found))
        if len(blocks) >= count + 2:  # as many as a network gives by then
            found += marked(blocks, count)
            blocks = blocks[count:]
    blocks = np.concatenate([blocks, LEVEL.finish(state)[1]])
    assert found + marked(blocks, frames - len(found)) == whole


def test_rows_of_audible_frames_stay_as_they_are(samples) -> None:
    rows = np.repeat(UNSURE, 20, axis=0)
    assert QUIET.silenced(quiet_blocks(samples[16_000:32_000]), rows) is rows
    assert QUIET.silenced(QUIET.start(), rows[:0]).shape == (0, 4)
