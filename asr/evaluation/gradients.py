"""How far back a network's output depends on its input: the size of d output(t) / d input(t - k) against k in time.

Back-propagation through time multiplies one factor a step, so gradients of a plain recurrent network shrink or grow
exponentially with distance; the LSTM's cell was made to let them through (Hochreiter & Schmidhuber 1997; Pascanu et
al. 2013, "On the difficulty of training recurrent neural networks"). What is left of them at a distance is what cutting
the gradient there, truncated back-propagation through time, gives away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr.models.acoustic import AcousticModel

TRUNCATIONS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)  # seconds after which a picture marks what would be cut off


@dataclass(frozen=True)
class GradientDistance:
    """Gradients of the encoder's output with respect to its input, acoustic frame by acoustic frame.

    ``norms`` (P, A + 1 + K): of P moments, estimates of the Frobenius norm of d output(t) / d input(t - k) for k from
    -A, the frames of look-ahead or of a block and its right context, to K. Inputs count in standard deviations of the
    mels.
    """

    norms: np.ndarray
    look_ahead_frames: int
    frame_seconds: float

    @property
    def seconds(self) -> np.ndarray:
        """How far before the output each input lies, negative where it comes after: (A + 1 + K,)."""
        return (np.arange(self.norms.shape[1]) - self.look_ahead_frames) * self.frame_seconds

    def relative(self) -> np.ndarray:
        """Norms as parts of the largest of each moment: (P, A + 1 + K)."""
        return self.norms / self.norms.max(axis=1, keepdims=True)

    def lost(self, seconds: float) -> float:
        """Part of the squared norm of d output(t) / d (all inputs) that lies more than ``seconds`` back."""
        squares = self.norms**2
        return float((squares[:, self.seconds > seconds].sum(axis=1) / squares.sum(axis=1)).mean())

    def reach(self, part: float = 0.01) -> float:
        """Seconds of past after which the median norm stays below this part of the largest."""
        above = np.flatnonzero(np.median(self.relative(), axis=0) >= part)
        return float(self.seconds[above[-1]])


def measure_gradients(
    model: AcousticModel, mels: Tensor, most_seconds: float, moments: int = 16, seed: int = 0
) -> GradientDistance:
    """Back-propagate from moments spread over a recording.

    Each moment takes one backward pass from a random projection of its output vector, the last layer's: over normally
    distributed projections the mean square of the gradient's norm is the square of the Frobenius norm.

    Args:
        model: any encoder; it is put into evaluation mode.
        mels: (F, M) log-mel frames of one recording, as the front end gives them.
        most_seconds: the longest distance; every moment has at least that much past.
        moments: how many.
        seed: of the projections.
    Raises:
        ValueError: the recording is shorter than the distance and the look-ahead.
    """
    config = model.config
    delay, frame_seconds = config.delay_frames, config.frame_samples / config.frontend.sample_rate
    in_block = config.block_frames - 1  # frames that an output may see beyond the delay
    overlap = math.ceil(config.overlap_mel_frames / config.stack)  # and those that the front overlaps
    most = round(most_seconds / frame_seconds)
    frames = config.frames_of_mels(len(mels)) // config.block_frames * config.block_frames
    if most < 1 or frames < most + delay + 1 + in_block:
        raise ValueError(
            f"distances of up to {most_seconds:g} s need a recording of more than "
            f"{(most + delay + 1 + in_block) * frame_seconds:.1f} s; this one has {frames * frame_seconds:.1f} s"
        )
    model.eval()
    inputs = mels[: config.mel_frames(frames)].detach().clone()[None].requires_grad_()  # (1, F, M)
    outputs, _ = model.encode(inputs, model.encoder.initial_state(1))
    late = outputs[-1][:, 0]  # (T, H), row r belongs to frame r - delay
    random = torch.Generator().manual_seed(seed)
    rows = np.unique(np.linspace(most + delay, frames - 1 - in_block, moments).round().astype(int))
    ahead = in_block + overlap
    norms = np.empty((len(rows), ahead + delay + 1 + most))
    for number, row in enumerate(rows.tolist()):
        probe = torch.randn(late.shape[1], generator=random).to(late)
        (gradient,) = torch.autograd.grad(late[row] @ probe, inputs, retain_graph=True)
        gradient = (gradient[0] * model.mel_std).double()
        padding = (frames + overlap) * config.stack - len(gradient)
        gradient = torch.nn.functional.pad(gradient, (0, 0, 0, padding))
        by_frame = gradient.reshape(frames + overlap, -1).norm(dim=1)
        norms[number] = by_frame[row - delay - most : row + 1 + ahead].flip(0).cpu().numpy()
    return GradientDistance(norms, delay + ahead, frame_seconds)


def draw_gradients(
    path: Path,
    title: str,
    curves: Mapping[str, GradientDistance],
    truncations: Sequence[float] = TRUNCATIONS,
) -> None:
    """Draw one or more models: the median over moments, the middle four fifths around it, truncations marked.

    Args:
        path: of the picture; its ending chooses the format.
        title: above it.
        curves: by the name in the legend.
        truncations: seconds of past to mark, each with the part of the gradient that lies beyond.
    Raises:
        ValueError: the ending is of no format that matplotlib writes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axis = figure.subplots()
    for name, curve in curves.items():
        low, middle, high = np.quantile(curve.relative(), (0.1, 0.5, 0.9), axis=0)
        (line,) = axis.plot(curve.seconds, middle, label=name)
        axis.fill_between(curve.seconds, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    farthest = max(curve.seconds[-1] for curve in curves.values())
    for seconds in truncations:
        if seconds < 0.99 * farthest:
            lost = ", ".join(f"{100 * curve.lost(seconds):.2g} %" for curve in curves.values())
            axis.axvline(seconds, color="grey", linestyle="--", linewidth=0.8)
            axis.text(
                seconds,
                0.98,
                f" {seconds:g} s: {lost}",
                rotation=90,
                va="top",
                ha="right",
                fontsize=7,
                transform=axis.get_xaxis_transform(),
            )
    axis.set_yscale("log")
    axis.set_xscale("symlog", linthresh=1.0)
    ticks = [tick for tick in (-0.2, 0, *TRUNCATIONS) if tick <= 1.01 * farthest]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_xlim(min(curve.seconds[0] for curve in curves.values()), farthest)
    axis.set_xlabel("seconds from input to output; dashed: truncations, and the part of the squared norm beyond them")
    axis.set_ylabel("|d output / d input|, part of the largest")
    axis.set_title(title)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower left")
    figure.savefig(path, dpi=110)
