"""Changes of log-mel features, and the front end by Fourier transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asr.data.augment import Augmenter, Changes, warp_matrix
from asr.models.frontend import FrontendConfig, LogMel, mel_centres

CONFIG = FrontendConfig()


def mels_of(samples: np.ndarray) -> torch.Tensor:
    return LogMel(CONFIG)(torch.from_numpy(samples.astype(np.float32))[None])


def changed(changes: Changes, mels: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return Augmenter(changes, CONFIG).mels(mels, torch.Generator().manual_seed(seed))


def test_the_front_end_by_fourier_transform_is_the_front_end(speech: np.ndarray) -> None:
    samples = torch.from_numpy(np.stack([speech[:16_123], 0 * speech[:16_123]]))
    found, wanted = Augmenter(Changes(), CONFIG).log_mels(samples), LogMel(CONFIG)(samples)
    torch.testing.assert_close(found, wanted, atol=2e-4, rtol=0)


@pytest.mark.parametrize("factor", [0.88, 1.0, 1.12])
def test_a_tone_moves_by_the_factor(factor: float) -> None:
    tone = 1_500.0
    mels = mels_of(0.1 * np.sin(2 * np.pi * tone * np.arange(16_000) / 16_000))
    warped = mels @ torch.from_numpy(warp_matrix(CONFIG, factor)).T
    peak = mel_centres(CONFIG)[int(warped[0].mean(dim=0).argmax())]
    assert peak == pytest.approx(tone / factor, rel=0.03)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_warping_interpolates(factor: float) -> None:
    matrix = warp_matrix(CONFIG, factor)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    assert matrix.min() >= 0


def test_a_channel_is_the_same_in_every_frame(speech: np.ndarray) -> None:
    mels = mels_of(speech)
    moved = changed(Changes(warp=0.0), mels) - mels
    loud = mels[0] > np.log(CONFIG.floor) + 6  # so that the floor does not show
    spread = torch.stack([moved[0, loud[:, k], k].std() for k in range(CONFIG.mels) if loud[:, k].sum() > 10])
    assert spread.max() < 0.02
    assert moved[0][loud].abs().mean() > 0.1


def test_each_row_has_its_own_voice_and_channel(speech: np.ndarray) -> None:
    mels = mels_of(speech).expand(3, -1, -1)
    one, two, three = changed(Changes(), mels)
    assert not torch.equal(one, two) and not torch.equal(two, three)
    # Plain code for one row: the warp and the response that were drawn for it.
    generator = torch.Generator().manual_seed(0)
    augmenter = Augmenter(Changes(), CONFIG)
    which = torch.randint(len(augmenter.warps), (3,), generator=generator)
    curves = 1.5 * torch.randn(3, 5, generator=generator)
    angles = np.pi * (np.arange(80) + 0.5) / 80
    for row, found in enumerate((one, two, three)):
        factor = np.linspace(0.86, 1.14, 57)[which[row]]
        warped = mels[row].numpy() @ warp_matrix(CONFIG, factor).T
        response_db = sum(float(curves[row, k]) * np.cos((k + 1) * angles) for k in range(5))
        energy = np.maximum(np.exp(warped) - CONFIG.floor, 0) * 10 ** (response_db / 10)
        np.testing.assert_allclose(found.numpy(), np.log(energy + CONFIG.floor), atol=1e-3)
