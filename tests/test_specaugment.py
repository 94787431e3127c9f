"""Masking: within its limits, repeatable, never beyond the utterance's share."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.data.specaugment import SpecAugment

FILL = torch.arange(80.0) - 500


@given(seed=st.integers(0, 10_000), frames=st.lists(st.integers(1, 600), min_size=1, max_size=4))
def test_masks_stay_within_their_limits(seed, frames):
    masks = SpecAugment()
    mels = torch.ones(len(frames), max(frames), 80)
    masked = masks(mels, torch.tensor(frames), FILL, np.random.default_rng(seed))
    hidden = masked != 1
    assert torch.equal(masked[hidden], FILL.expand_as(masked)[hidden])
    for row, length in enumerate(frames):
        assert hidden[row].all(dim=0).sum() <= masks.mel_masks * masks.mel_width or length <= masks.time_width_frames
        whole_frames = hidden[row, :length].all(dim=1)
        assert whole_frames.sum() <= masks.time_fraction * length


def test_the_same_seed_masks_the_same():
    mels = torch.randn(3, 200, 80)
    frames = torch.tensor([200, 150, 20])
    one, two = (SpecAugment()(mels, frames, FILL, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, mels)


def test_strength_zero_masks_nothing():
    mels = torch.randn(2, 300, 80)
    assert torch.equal(SpecAugment().scaled(0)(mels, torch.tensor([300, 300]), FILL, np.random.default_rng(0)), mels)
