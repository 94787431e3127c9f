"""Resampling and rechunking: any chunking of the input gives the same samples."""

import numpy as np
import pytest
from chunking import chunk_sizes, chunks
from conftest import SAMPLE_RATE
from hypothesis import given
from hypothesis import strategies as st

from asr.streaming.sources import Resampler, rechunked, resampled


@pytest.mark.parametrize("source_rate", [8_000, 11_025, 16_000, 44_100, 48_000])
@given(sizes=chunk_sizes)
def test_resampling_in_any_chunks_gives_the_whole(source_rate, sizes):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, source_rate).astype(np.float32)
    whole = np.concatenate(list(resampled([samples], source_rate, SAMPLE_RATE)))
    chunked = np.concatenate(list(resampled(chunks(samples, sizes), source_rate, SAMPLE_RATE)))
    assert len(whole) == pytest.approx(SAMPLE_RATE, abs=1)
    np.testing.assert_allclose(chunked, whole, atol=1e-6)


def test_resampling_keeps_the_place_of_a_sound():
    click = np.zeros(48_000, np.float32)
    click[24_000] = 1.0
    resampler = Resampler(48_000, SAMPLE_RATE)
    samples = np.concatenate([resampler.push(click), resampler.flush()])
    assert np.abs(samples).argmax() == 8_000


@given(sizes=st.lists(st.integers(0, 50), max_size=30), size=st.integers(1, 40))
def test_rechunking_keeps_every_sample(sizes, size):
    samples = np.arange(sum(sizes) + 7, dtype=np.float32)
    pieces = list(rechunked(chunks(samples, sizes), size))
    np.testing.assert_array_equal(np.concatenate(pieces), samples)
    assert all(len(piece) == size for piece in pieces[:-1]) and 0 < len(pieces[-1]) <= size
