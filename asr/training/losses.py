"""What training minimises: a list of losses with their weights. Another one is a class and a line of `LossWeights`."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.acoustic.phone_states import Biphones
from asr.data.rows import Batch, frame_targets
from asr.models.acoustic import AcousticModel, LogProbs
from asr.models.encoder import EncoderState
from asr.training.mmi import LatticeFreeMmi

IGNORED = -100  # target of a frame whose state is not known
CTC, STATES, MMI = "ctc", "states", "mmi"  # stages of training: nothing is aligned; states; sequences of states


class Output(NamedTuple):
    """What losses look at."""

    log_probs: LogProbs  # (B, T, V), the delay taken off
    frame_probs: Tensor  # (B, T, K) of the head that cross-entropy has to itself beside lattice-free MMI; else T = 0
    batch: Batch
    objective: Objective


class Loss(Protocol):
    """One term of the sum; its name is that of its line in `LossWeights`."""

    stages: ClassVar[tuple[str, ...]]  # in which it counts

    def __call__(self, output: Output) -> Tensor:
        """Nats, summed over the batch's frames."""


class Characters:
    """CTC (Graves et al. 2006) of the characters: an open vocabulary, and the greedy decoder."""

    stages = (CTC, STATES, MMI)

    def __call__(self, output: Output) -> Tensor:
        batch = output.batch
        return ctc(output.log_probs.characters, batch.frames, batch.characters, batch.character_lengths)


class Phones:
    """CTC of the phones."""

    stages = (CTC, STATES, MMI)

    def __call__(self, output: Output) -> Tensor:
        batch = output.batch
        return ctc(output.log_probs.phones, batch.frames, batch.phones, batch.phone_lengths)


class States:
    """Cross-entropy of each frame's state, as an alignment has it.

    CTC from scratch says nothing but blank for a hundred hours of audio; this teaches phones within one.
    """

    stages = (STATES,)

    def __call__(self, output: Output) -> Tensor:
        return output.objective.cross_entropy(output.log_probs.states, output.batch)


class Frames:
    """The same on a head of its own, which holds the network while MMI takes the states away (Povey et al. 2016)."""

    stages = (MMI,)

    def __call__(self, output: Output) -> Tensor:
        return output.objective.cross_entropy(output.frame_probs, output.batch)


class Mmi:
    """Lattice-free maximum mutual information; see `asr.training.mmi`."""

    stages = (MMI,)

    def __call__(self, output: Output) -> Tensor:
        batch, objective = output.batch, output.objective
        pair = batch.run_before, batch.run_phones
        chain = objective.first[pair], objective.rest[pair]
        return objective.mmi(output.log_probs.states, batch.frames, *chain, batch.run_counts).sum()


def weighed(loss: type[Loss], weight: float) -> Any:
    """A line of `LossWeights`."""
    return field(default=weight, metadata={"loss": loss()})


@dataclass(frozen=True)
class LossWeights:
    """How much each loss counts; all are in nats a frame. The curve's columns and its picture follow from this list."""

    characters: float = weighed(Characters, 0.1)
    phones: float = weighed(Phones, 0.3)
    states: float = weighed(States, 1.0)
    frames: float = weighed(Frames, 0.3)
    mmi: float = weighed(Mmi, 1.0)

    def of_stage(self, stage: str) -> dict[str, float]:
        """The weights above 0 of a stage's losses; where CTC is alone, its two heads count in full."""
        weights = {name: getattr(self, name) for name, loss in LOSSES.items() if stage in loss.stages}
        return {name: 1.0 if stage == CTC else weight for name, weight in weights.items() if weight}


LOSSES: dict[str, Loss] = {one.name: one.metadata["loss"] for one in fields(LossWeights)}


class Outcome(NamedTuple):
    """What an objective makes of a batch."""

    log_probs: LogProbs  # (B, T, V), the delay taken off
    losses: dict[str, Tensor]  # nats, summed over frames, by name
    state: EncoderState  # after the batch's last frame


class Objective(nn.Module):
    """An acoustic model and what its losses need beside it."""

    def __init__(
        self, model: AcousticModel, biphones: Biphones | None = None, mmi: LatticeFreeMmi | None = None
    ) -> None:
        """Put an objective over a model.

        Args:
            model: what is trained.
            biphones: of a model with states.
            mmi: of a run with a stage of lattice-free MMI.
        """
        super().__init__()
        self.model = model
        self.mmi = mmi
        self.frame_head = deepcopy(model.state_head) if mmi else None
        if biphones:
            for name in ("first", "rest"):
                self.register_buffer(name, torch.from_numpy(getattr(biphones, name)), persistent=False)

    def forward(
        self, mels: Tensor, batch: Batch, names: list[str] | tuple[str, ...] = (), state: EncoderState | None = None
    ) -> Outcome:
        """Run the network and the losses of ``names``.

        Args:
            mels: (B, F, M) log-mel frames of the batch, changed and masked.
            batch: its targets.
            names: of losses.
            state: what earlier audio led to; None: nothing was heard.
        """
        outputs, state = self.model.encode(mels, state or self.model.encoder.initial_state(len(mels)))
        outputs = [output[self.model.config.delay_frames :] for output in outputs]  # (T, B, H)
        log_probs = self.model.heads(outputs)
        frame_probs = log_probs.states[:, :0]
        if "frames" in names:
            frame_probs = self.frame_head(outputs[-1]).float().log_softmax(dim=-1).transpose(0, 1)
        output = Output(log_probs, frame_probs, batch, self)
        return Outcome(log_probs, {name: LOSSES[name](output) for name in names}, state)

    def cross_entropy(self, log_probs: Tensor, batch: Batch) -> Tensor:
        """Of states (B, T, K) against the batch's alignment, summed over the frames that are aligned."""
        targets = frame_targets(batch, self.first, self.rest, log_probs.shape[1], IGNORED)
        return functional.nll_loss(log_probs.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")

    def start_mmi(self) -> None:
        """Let the head for cross-entropy begin where the states are now."""
        self.frame_head.load_state_dict(self.model.state_head.state_dict())


def ctc(log_probs: Tensor, frames: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """The CTC loss (Graves et al. 2006) of a batch, summed; 0 where a target does not fit."""
    return functional.ctc_loss(log_probs.transpose(0, 1), targets, frames, lengths, reduction="sum", zero_infinity=True)
