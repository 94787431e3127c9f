"""What training minimises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.corpus import IGNORED, Batch
from asr.ctc_crf import log_denominator
from models.acoustic import AcousticModel, LogProbs
from models.encoder import EncoderState


@dataclass(frozen=True)
class LossWeights:
    """How much each task counts; all losses are in nats a frame."""

    characters: float
    phones: float
    aligned: float
    consistency: float
    rivals: float


CTC_PART = 0.1  # of the CTC score kept beside CTC-CRF, so that it stays anchored (Xiang & Ou 2019)


def loss_weights(progress: float, discriminative: bool = False) -> LossWeights:
    """The weights at a point of training, 0 to 1, as a pure function.

    CTC from scratch says nothing but blank for a hundred hours of audio; cross-entropy against aligned frames teaches
    the lower layers phones within one. So alignment leads at first and is a small regulariser in the end. A
    discriminative stage weighs every transcript against its rivals.
    """
    fading = 0.0 if discriminative else 0.5 * (1 + math.cos(math.pi * min(1.0, progress / 0.5)))
    return LossWeights(characters=0.6, phones=1.0, aligned=0.15 + 0.85 * fading, consistency=0.2,
                       rivals=1 / (1 + CTC_PART) if discriminative else 0.0)  # fmt: skip


class Outcome(NamedTuple):
    """What an objective makes of a batch."""

    log_probs: LogProbs  # (B, T, V), the delay taken off
    losses: dict[str, Tensor]  # nats a frame, by task
    state: EncoderState  # after the batch's last frame, padding included


class Objective(nn.Module):
    """An acoustic model with a third head that exists in training only: the phone of each frame, silence included."""

    def __init__(self, model: AcousticModel, views: int = 1, trigrams: Tensor | None = None) -> None:
        """Put an objective over a model.

        Args:
            model: what is trained.
            views: how many times in a row a training batch holds the same utterances, differently augmented.
            trigrams: (V, V, V) of phones, for a discriminative stage; None for none.
        """
        super().__init__()
        self.model = model
        self.views = views
        self.register_buffer("trigrams", trigrams, persistent=False)
        size = model.config.size
        self.frame_head = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, model.config.phones))

    def forward(self, mels: Tensor, batch: Batch, state: EncoderState | None = None) -> Outcome:
        """Masked mels of a batch, heard after what led to ``state``, or after nothing."""
        config = self.model.config
        outputs, state = self.model.encode(mels, state or self.model.encoder.initial_state(len(mels)))
        rows = slice(config.delay_frames, config.delay_frames + batch.aligned.shape[1])
        outputs = [output[rows] for output in outputs]  # (T, B, H)
        log_probs = self.model.heads(outputs)
        frame_scores = self.frame_head(outputs[config.phone_layer - 1]).float().transpose(0, 1)  # (B, T, V)
        frames = batch.frames.sum()
        losses = {
            "characters": _ctc(log_probs.characters, batch.frames, batch.characters, batch.character_lengths) / frames,
            "phones": _ctc(log_probs.phones, batch.frames, batch.phones, batch.phone_lengths) / frames,
            "aligned": functional.cross_entropy(
                frame_scores.flatten(0, 1), batch.aligned.flatten(), ignore_index=IGNORED, reduction="sum"
            ) / (batch.aligned != IGNORED).sum().clamp(min=1),
        }
        if self.training and self.trigrams is not None:
            losses["rivals"] = log_denominator(log_probs.phones, batch.frames, self.trigrams).sum() / frames
        if self.training and self.views == 2:
            losses["consistency"] = sum(_disagreement(head, batch.frames) for head in log_probs) / frames
        return Outcome(log_probs, losses, state)


def _disagreement(log_probs: Tensor, frames: Tensor) -> Tensor:
    """How differently two views of the same utterances are heard, summed over frames: CR-CTC (Yao et al. 2024)."""
    one, other = log_probs.chunk(2)
    divergences = [
        functional.kl_div(guess, target.detach(), reduction="none", log_target=True).sum(dim=-1)
        for guess, target in ((one, other), (other, one))
    ]  # (B, T) each
    heard = torch.arange(log_probs.shape[1], device=frames.device) < frames[: len(one), None]
    return (sum(divergences) * heard).sum()


def _ctc(log_probs: Tensor, frames: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    return functional.ctc_loss(log_probs.transpose(0, 1), targets, frames, lengths, reduction="sum", zero_infinity=True)
