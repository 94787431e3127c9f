"""The level of a stream: quiet speech is amplified, noise is not, and chunks change nothing."""

import numpy as np
import pytest
from chunking import chunk_sizes, chunks
from hypothesis import given

from asr.streaming.engine import Rates
from asr.streaming.level import Level

RATES = Rates(sample_rate=16_000, frame_samples=480, window_samples=1_360, delay_frames=8)
LEVEL = Level(RATES)


def decibels(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-20))


def amplified(samples: np.ndarray) -> np.ndarray:
    blocks, _, state = LEVEL.accept(LEVEL.start(), samples)
    return np.concatenate([blocks, LEVEL.finish(state)[0]])


def rounded(samples: np.ndarray) -> np.ndarray:
    """As 16 bits keep them."""
    return (np.rint(samples * 32_768) / 32_768).astype(np.float32)


@pytest.fixture(scope="module")
def speech_like() -> np.ndarray:
    """Ten seconds of bursts at -23 dB, with pauses 37 dB below."""
    random = np.random.default_rng(0)
    envelope = np.where(np.arange(160_000) // 4_800 % 2, 0.07, 0.001)
    return (random.normal(size=160_000) * envelope).astype(np.float32)


def test_ordinary_levels_pass_unchanged(speech_like):
    assert np.array_equal(amplified(speech_like), speech_like)


@pytest.mark.parametrize(("quieter", "short"), [(20, 20), (30, 10), (40, 8), (50, 8)])  # decibels
def test_quiet_speech_comes_out_nearly_as_loud_as_ordinary_speech(speech_like, quieter, short):
    quiet = rounded(speech_like * 10 ** (-quieter / 20))
    found, ordinary = amplified(quiet)[32_000:], speech_like[32_000:]
    bursts = np.abs(ordinary) > 0.05
    assert decibels(found[bursts]) == pytest.approx(decibels(ordinary[bursts]), abs=short)
    assert decibels(amplified(quiet)[:9_600]) > -45, "from the first burst on"


@pytest.mark.parametrize("level", [0.0, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3])
def test_noise_alone_is_not_made_loud(level):
    noise = (np.random.default_rng(0).normal(size=160_000) * level).astype(np.float32)
    for samples in (noise, rounded(noise)):
        assert decibels(amplified(samples)) < max(-58, decibels(samples) + 0.5)


def test_speech_in_noise_keeps_its_level(speech_like):
    noise = np.random.default_rng(1).normal(size=len(speech_like)).astype(np.float32) * 0.007
    for level in (1.0, 0.3, 0.1):
        noisy = ((speech_like + noise) * level).astype(np.float32)
        assert decibels(amplified(noisy)) < max(decibels(noisy), -23) + 1
    assert np.array_equal(amplified(speech_like + noise), speech_like + noise)


def test_a_gain_falls_at_once_and_rises_slowly(speech_like):
    quiet = speech_like * np.float32(0.01)
    found = amplified(np.concatenate([quiet, speech_like, quiet]))
    assert np.abs(found[160_000:320_000]).max() == np.abs(speech_like).max(), "no burst is amplified twice"
    later = found[320_000:]
    assert decibels(later[:16_000]) < decibels(later[-16_000:]) - 20


@given(sizes=chunk_sizes)
def test_any_chunking_amplifies_alike(speech_like, sizes):
    quiet = speech_like * np.float32(0.01)
    whole = amplified(quiet)
    assert len(whole) == len(quiet)
    state, found = LEVEL.start(), []
    for chunk in chunks(quiet, sizes):
        blocks, _, state = LEVEL.accept(state, chunk)
        found.append(blocks)
    assert np.array_equal(np.concatenate([*found, LEVEL.finish(state)[0]]), whole)


def test_quiet_frames_of_quiet_speech_are_heard(speech_like):
    quiet = rounded(
        speech_like * 10 ** (-52 / 20)
    )  # bursts at -75 dB, weaker than the threshold of hiss in their edges
    _, silent, _ = LEVEL.accept(LEVEL.start(), quiet)
    bursts = np.array([np.abs(block).max() > 0.05 for block in speech_like[: len(silent) * 480].reshape(-1, 480)])
    assert not silent[bursts].any() and silent[~bursts].mean() > 0.9


def test_the_text_does_not_depend_on_the_level(shipped_recognizer, speech):
    """Word errors of half the words at -50 dB without; a word or two may change."""
    loud = shipped_recognizer.transcribe(speech).text.split()
    for quieter in (20, 40):
        quiet = shipped_recognizer.transcribe(rounded(speech * 10 ** (-quieter / 20))).text.split()
        same = sum(one == other for one, other in zip(loud, quiet, strict=False))
        assert same >= 0.6 * len(loud), (loud, quiet)
