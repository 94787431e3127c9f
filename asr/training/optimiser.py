"""How weights move: the learning rate's schedule, what decays, and the average that is kept."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


def learning_rate(step: int, steps: int, highest: float, warm_up: float) -> float:
    """Rate at a step: linear warm-up over that part of all steps, then half a cosine down to a hundredth."""
    warm_up_steps = max(1, round(warm_up * steps))
    if step < warm_up_steps:
        return highest * (step + 1) / warm_up_steps
    done = (step - warm_up_steps) / max(1, steps - warm_up_steps)
    return highest * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


class MovingAverage:
    """Exponential moving average of a module's weights whose memory grows from a few steps to ``1 / (1 - decay)``."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = deepcopy(module).eval()
        self.decay = decay
        self._pairs = list(self.module.parameters()), list(module.parameters())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the weights after a step, counted from 0."""
        torch._foreach_lerp_(*self._pairs, 1 - min(self.decay, (1 + step) / (10 + step)))


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices, not biases and norms."""
    matrices = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def finish_gradients(parameters: list[Tensor], scale: float, clip_norm: float) -> None:
    """Undo a loss scale and clip the norm, without waiting for the device.

    Under a scale, numbers are short: a gradient that became infinite in them is left out of the step.
    """
    gradients = [one.grad for one in parameters if one.grad is not None]
    if scale != 1:
        torch._foreach_mul_(gradients, 1 / scale)
        for gradient in gradients:
            torch.nan_to_num_(gradient, 0.0, 0.0, 0.0)
    torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
