"""Arrays of every kind, brought to float32 mono or refused in one line."""

import numpy as np
import pytest

from asr.audio.samples import as_samples, check_rate
from asr.errors import AudioError, UsageError


@pytest.mark.parametrize(
    ("audio", "samples"),
    [
        (np.array([0.5, -1.0]), [0.5, -1.0]),
        (np.array([0.5, -1.0], np.float16), [0.5, -1.0]),
        (np.array([16_384, -32_768], np.int16), [0.5, -1.0]),
        (np.array([2**30, -(2**31)], np.int32), [0.5, -1.0]),
        (np.array([[0.5, 0.0], [-1.0, -0.5]]), [0.25, -0.75]),
        (np.array([[16_384, 0]], np.int16), [0.25]),
        ([0.5, -1.0], [0.5, -1.0]),
        (np.zeros(0), []),
    ],
)
def test_arrays_are_brought_to_float_mono(audio, samples):
    result = as_samples(audio)
    assert result.dtype == np.float32 and result.ndim == 1
    np.testing.assert_allclose(result, samples, atol=1e-7)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.array([0.0, np.nan]), "NaN or infinite"),
        (np.array([0.0, np.inf], np.float32), "NaN or infinite"),
        (np.array([0.0, 20_000.0]), "up to 20000; scale them"),
        (np.zeros(10, bool), "type bool"),
        (np.zeros(10, np.int64), "type int64"),
        (np.zeros(10, np.uint8), "type uint8"),
        (np.zeros(10, complex), "type complex128"),
        (np.array(["a"]), "type <U1"),
        (None, "shape ()"),
        (0.5, "shape ()"),
        (np.zeros((2, 16_000)), "shape (2, 16000)"),
        (np.zeros((10, 0)), "shape (10, 0)"),
        (np.zeros((2, 3, 4)), "shape (2, 3, 4)"),
        ([[0.1], [0.1, 0.2]], "no array of numbers"),
    ],
)
def test_arrays_that_are_no_audio_are_told_in_one_line(audio, message):
    with pytest.raises(AudioError) as caught:
        as_samples(audio, "chunk 3")
    assert message in str(caught.value) and str(caught.value).startswith("chunk 3")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [0, -16_000, 999, 10_000_000, 16_000.5, float("nan"), True])
def test_impossible_sample_rates_are_told(rate):
    with pytest.raises(UsageError, match="sample rate"):
        check_rate(rate)
