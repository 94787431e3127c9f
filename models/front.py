"""The front of the network: mel frames in, one vector per acoustic frame out; no padding in time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FRONTS = {"stack": 0, "conv": 4}  # kinds of front, and the mel frames of right context of an acoustic frame
CHANNELS = (32, 48)  # of the two convolutions


class StackFront(nn.Module):
    """Stacks consecutive mel frames and projects them."""

    def __init__(self, mels: int, stack: int, size: int) -> None:
        super().__init__()
        self.stack = stack
        self.linear = nn.Linear(mels * stack, size)

    def forward(self, mels: Tensor) -> Tensor:
        """mels (B, T * stack, M), normalised -> (T, B, H)."""
        batch, frames, bins = mels.shape
        stacked = mels.reshape(batch, frames // self.stack, self.stack * bins)  # (B, T, stack * M)
        return self.linear(stacked.transpose(0, 1))


class ConvFront(nn.Module):
    """Two convolutions in time and frequency, which reduce the mels to a quarter and the frames to acoustic frames.

    Kaldi's and ESPnet's recipes subsample with such convolutions (Kim et al. 2017; Watanabe et al. 2018): a small shift
    in pitch or in time shifts their features, too, instead of changing them.
    """

    def __init__(self, mels: int, stack: int, size: int) -> None:
        super().__init__()
        one, two = CHANNELS
        self.one = nn.Conv2d(1, one, kernel_size=(3, 3), stride=(1, 2), padding=(0, 1))
        self.two = nn.Conv2d(one, two, kernel_size=(stack + 2, 3), stride=(stack, 2), padding=(0, 1))
        quarter = ((mels + 1) // 2 + 1) // 2
        self.linear = nn.Linear(two * quarter, size)
        self.norm = nn.LayerNorm(size)

    def forward(self, mels: Tensor) -> Tensor:
        """mels (B, T * stack + 4, M), normalised -> (T, B, H)."""
        x = torch.relu(self.one(mels.unsqueeze(1)))  # (B, C, T * stack + 2, M / 2)
        x = torch.relu(self.two(x))  # (B, D, T, M / 4)
        return self.norm(self.linear(x.permute(2, 0, 1, 3).flatten(2)))


def front(kind: str, mels: int, stack: int, size: int) -> StackFront | ConvFront:
    """A front of one of the `FRONTS`, for acoustic frames of ``stack`` mel frames."""
    return ConvFront(mels, stack, size) if kind == "conv" else StackFront(mels, stack, size)
