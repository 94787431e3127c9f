"""What training minimises."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.data.batches import IGNORED, Batch
from asr.models.acoustic import AcousticModel, LogProbs
from asr.models.encoder import EncoderState
from asr.training.discriminative import Rivals


@dataclass(frozen=True)
class LossWeights:
    """How much each task counts; all losses are in nats a frame."""

    characters: float
    phones: float
    aligned: float = 0.0
    consistency: float = 0.2
    rivals: float = 0.0
    phone_rivals: float = 0.0


CTC_PART = 0.1  # of the CTC score kept beside CTC-CRF, so that it stays anchored (Xiang & Ou 2019)


def loss_weights(states: bool, discriminative: bool = False) -> LossWeights:
    """The weights of the tasks.

    CTC from scratch says nothing but blank for a hundred hours of audio; cross-entropy against aligned states teaches
    phones within one. So where there are states they lead, and the CTC heads follow. A discriminative stage weighs
    every transcript against its rivals, with cross-entropy beside it to hold it (Povey et al. 2016).
    """
    if not states:
        return LossWeights(characters=0.6, phones=1.0)
    if discriminative:
        return LossWeights(characters=0.15, phones=0.5, aligned=0.3, rivals=1.0, phone_rivals=0.5 / (1 + CTC_PART))
    return LossWeights(characters=0.15, phones=0.15, aligned=1.0)


class Outcome(NamedTuple):
    """What an objective makes of a batch."""

    log_probs: LogProbs  # (B, T, V), the delay taken off
    losses: dict[str, Tensor]  # nats a frame, by task
    state: EncoderState  # after the batch's last frame, padding included


class Objective(nn.Module):
    """An acoustic model and the tasks it learns."""

    def __init__(self, model: AcousticModel, views: int = 1, rivals: Rivals | None = None) -> None:
        """Put an objective over a model.

        Args:
            model: what is trained.
            views: how many times in a row a training batch holds the same utterances, differently augmented.
            rivals: of a discriminative stage, for a model with states; None for none. Cross-entropy then has a head of
                its own, as sequence training takes the other one away from frame probabilities.
        """
        super().__init__()
        self.model = model
        self.views = views
        self.rivals = rivals
        self.frame_head = deepcopy(model.state_head) if rivals else None

    def forward(self, mels: Tensor, batch: Batch, state: EncoderState | None = None) -> Outcome:
        """Masked mels of a batch, heard after what led to ``state``, or after nothing."""
        config = self.model.config
        outputs, state = self.model.encode(mels, state or self.model.encoder.initial_state(len(mels)))
        rows = slice(config.delay_frames, config.delay_frames + batch.aligned.shape[1])
        outputs = [output[rows] for output in outputs]  # (T, B, H)
        log_probs = self.model.heads(outputs)
        frames = batch.frames.sum()
        losses = {
            "characters": _ctc(log_probs.characters, batch.frames, batch.characters, batch.character_lengths) / frames,
            "phones": _ctc(log_probs.phones, batch.frames, batch.phones, batch.phone_lengths) / frames,
        }
        if config.states:
            frame_probs = log_probs.states
            if self.frame_head is not None:
                frame_probs = self.frame_head(outputs[-1]).float().log_softmax(dim=-1).transpose(0, 1)  # (B, T, K)
            losses["aligned"] = functional.nll_loss(
                frame_probs.flatten(0, 1), batch.aligned.flatten(), ignore_index=IGNORED, reduction="sum"
            ) / (batch.aligned != IGNORED).sum().clamp(min=1)
        if self.training and self.rivals is not None:
            losses |= {task: nats / frames for task, nats in self.rivals(log_probs, batch).items()}
        if self.training and self.views == 2:
            heads = log_probs.characters, log_probs.phones
            losses["consistency"] = sum(_disagreement(head, batch.frames) for head in heads) / frames
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
