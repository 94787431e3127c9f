"""A picture of a recognition: waveform, mel energies, words with their times, and the tokens of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asr.models.frontend import FrontendConfig, LogMel
from asr.streaming.results import Word
from asr.words.tokens import BLANK

INCHES_PER_SECOND = 1.6
LEAST_INCHES, MOST_INCHES = 8.0, 60.0
CHARACTER_INCHES = 0.1
UNSURE, SURE = 0.5, 0.8  # confidences from which a word is amber, and green


def draw_recognition(
    path: Path,
    title: str,
    samples: np.ndarray,
    words: Sequence[Word],
    probabilities: np.ndarray,
    symbols: Sequence[str],
    frame_seconds: float,
    span: tuple[float, float],
) -> None:
    """Write a picture; its format is that of the path's ending.

    Args:
        path: of the picture, such as ``weather.png``, ``.svg`` or ``.pdf``.
        title: above it.
        samples: (N,) at the rate of `FrontendConfig`.
        words: that were recognised, with their times.
        probabilities: (T, V) of the tokens in each frame.
        symbols: of the V tokens.
        frame_seconds: from one frame to the next.
        span: first and last second to show.
    Raises:
        ValueError: the ending is of no format that matplotlib writes.
    """
    rate = FrontendConfig().sample_rate
    first, last = span
    width = min(MOST_INCHES, max(LEAST_INCHES, INCHES_PER_SECOND * (last - first)))
    figure = Figure(figsize=(width, 8), layout="constrained")
    wave, mel, spoken, tokens = figure.subplots(4, 1, sharex=True, height_ratios=(1, 2.2, 0.8, 3.2))
    times = np.arange(len(samples)) / rate
    inside = (times >= first) & (times <= last)
    wave.plot(times[inside], samples[inside], linewidth=0.4, color="tab:blue")
    wave.set_ylabel("waveform")
    wave.set_title(title)
    _draw_mel(mel, samples)
    _draw_words(spoken, words, span, width / (last - first))
    _draw_tokens(tokens, probabilities, symbols, frame_seconds, span)
    for word in words:
        for axis in (wave, mel, tokens):
            axis.axvline(word.start_seconds, color="white" if axis is mel else "grey", linewidth=0.6, alpha=0.6)
    tokens.set_xlabel("seconds")
    tokens.set_xlim(first, last)
    figure.savefig(path, dpi=110)


def _draw_mel(axis: Axes, samples: np.ndarray) -> None:
    config = FrontendConfig()
    axis.set_ylabel("mel band")
    if len(samples) < config.window_samples:
        return
    with torch.inference_mode():
        energies = LogMel(config)(torch.from_numpy(samples)[None])[0].numpy()  # (F, M)
    hop = config.hop_samples / config.sample_rate
    low, high = np.quantile(energies, (0.05, 0.999))
    axis.imshow(
        energies.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=low,
        vmax=high,
        interpolation="nearest",
        extent=(0, len(energies) * hop, 0, config.mels),
    )


def _draw_words(axis: Axes, words: Sequence[Word], span: tuple[float, float], inches_per_second: float) -> None:
    """Each word over its time, coloured by its confidence."""
    axis.set_ylabel("words")
    axis.set_ylim(0, 1)
    axis.set_yticks([])
    for word in words:
        if word.end_seconds < span[0] or word.start_seconds > span[1]:
            continue
        colour = "#8fd19e" if word.confidence >= SURE else "#ffe08a" if word.confidence >= UNSURE else "#f5a3a3"
        length = max(word.end_seconds - word.start_seconds, 0.02)
        axis.broken_barh([(word.start_seconds, length)], (0.05, 0.9), facecolor=colour, edgecolor="grey")
        upright = length * inches_per_second < CHARACTER_INCHES * len(word.text)
        axis.text(
            word.start_seconds + length / 2,
            0.5,
            word.text,
            ha="center",
            va="center",
            clip_on=True,
            rotation=90 if upright else 0,
            fontsize=7 if upright and len(word.text) > 7 else 9,
        )


def _draw_tokens(
    axis: Axes, probabilities: np.ndarray, symbols: Sequence[str], seconds: float, span: tuple[float, float]
) -> None:
    """Probabilities of the tokens that some frame of the span finds likely, the blank at the bottom."""
    shown = probabilities[int(span[0] / seconds) : int(np.ceil(span[1] / seconds))]
    used = [BLANK, *(k for k in range(1, len(symbols)) if len(shown) and shown[:, k].max() > 0.1)]
    axis.imshow(
        probabilities[:, used].T,
        origin="lower",
        aspect="auto",
        cmap="Greys",
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(0, len(probabilities) * seconds, -0.5, len(used) - 0.5),
    )
    axis.set_yticks(range(len(used)), ["(blank)", *(symbols[k] for k in used[1:])], fontsize=7)
    axis.set_ylabel("token of each frame")
