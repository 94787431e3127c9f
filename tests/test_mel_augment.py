"""Augmentation of log-mel features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asr.data.augment_mels import MelAugment, warp_matrix
from asr.models.frontend import FrontendConfig, LogMel, mel_centres

CONFIG = FrontendConfig()
NOTHING = MelAugment(warp=0.0, gain_db=0.0, channel_db=0.0, noise_probability=0.0)


def mels_of(samples: np.ndarray) -> torch.Tensor:
    return LogMel(CONFIG)(torch.from_numpy(samples.astype(np.float32))[None])


def changed(augment: MelAugment, mels: torch.Tensor, noises: list[np.ndarray] = [], seed: int = 0) -> torch.Tensor:  # noqa: B006
    return augment(mels, torch.full((len(mels),), mels.shape[1]), CONFIG, noises, np.random.default_rng(seed))


def test_strength_nought_changes_nothing(speech: np.ndarray) -> None:
    mels = mels_of(speech)
    torch.testing.assert_close(changed(NOTHING, mels), mels, atol=2e-2, rtol=0)


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


def test_noise_raises_the_energy_as_much_as_its_ratio_says(speech: np.ndarray) -> None:
    mels = mels_of(speech)
    noise = mels_of(np.random.default_rng(1).normal(0, 0.1, 48_000))[0].numpy()
    augment = MelAugment(0.0, 0.0, 0.0, 4, noise_probability=1.0, least_snr_db=6.0, most_snr_db=6.0)
    before, after = mels.exp().mean(), changed(augment, mels, [noise]).exp().mean()
    assert float(after / before) == pytest.approx(1 + 10**-0.6, rel=0.05)


def test_gain_and_channel_are_the_same_in_every_frame(speech: np.ndarray) -> None:
    mels = mels_of(speech)
    moved = changed(MelAugment(warp=0.0, noise_probability=0.0), mels) - mels
    loud = mels[0] > np.log(CONFIG.floor) + 6  # so that the floor does not show
    spread = torch.stack([moved[0, loud[:, k], k].std() for k in range(CONFIG.mels) if loud[:, k].sum() > 10])
    assert spread.max() < 0.02
    assert moved[0][loud].abs().mean() > 0.1


def test_the_seed_decides(speech: np.ndarray) -> None:
    mels = mels_of(speech)
    noise = mels_of(np.random.default_rng(1).normal(0, 0.1, 8_000))[0].numpy()
    augment = MelAugment(noise_probability=1.0)
    assert torch.equal(changed(augment, mels, [noise], 1), changed(augment, mels, [noise], 1))
    assert not torch.equal(changed(augment, mels, [noise], 1), changed(augment, mels, [noise], 2))
