"""What shapes a training run, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass

from asr.data.augment_mels import MelAugment
from asr.data.specaugment import SpecAugment
from asr.errors import UsageError
from asr.training.tbptt_plan import SegmentOptions


@dataclass(frozen=True)
class TrainOptions:
    """What shapes the learning curve; saved in the checkpoint and checked on resume."""

    epochs: int = 30
    batch_seconds: float = 80.0  # audio in a batch, padding and both views included
    learning_rate: float = 1e-3  # the highest
    warm_up: float = 0.05  # of all steps
    weight_decay: float = 0.01
    clip_norm: float = 2.0
    ema_decay: float = 0.999
    seed: int = 0
    masks: SpecAugment = SpecAugment().scaled(0.5)
    changes: MelAugment = MelAugment()
    shares: tuple[tuple[str, float], ...] = ()  # of a source, the part of its utterances heard in an epoch; else all
    discriminative: bool = False  # lattice-free MMI: a later stage, started from a run without it
    views: int = 2  # of each utterance in a batch, differently augmented; 2 makes their outputs agree
    segments: SegmentOptions | None = None  # of long recordings, walked over with carried state; None: utterances
    parts: int = 1  # of a batch, learnt from one after the other or by several processes at once

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_seconds <= 0 or self.learning_rate <= 0:
            raise UsageError(
                f"epochs, batch seconds and learning rate must be positive; "
                f"got {self.epochs}, {self.batch_seconds}, {self.learning_rate}"
            )
        if any(not 0 < share <= 1 for _, share in self.shares):
            raise UsageError(f"the share of a source must be above 0 and at most 1, got {dict(self.shares)}")
        if self.views not in (1, 2):
            raise UsageError(f"views of an utterance must be 1 or 2, got {self.views}")
        if self.segments and self.parts > 1:
            raise UsageError(f"segments go with one process and whole batches, not with {self.parts} parts")


@dataclass(frozen=True)
class Progress:
    """Where a run stands; ``report`` callbacks receive one after every step."""

    step: int
    steps: int
    epoch: int
    loss: float
    audio_hours: float
