"""What one step of training learns from: a batch cut into parts, each changed and masked by its own chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.data.batches import IGNORED, Batch, Corpus
from asr.models.acoustic import AcousticModel
from asr.models.encoder import EncoderState
from asr.training.options import TrainOptions
from asr.training.tbptt_walk import SegmentWalk

PARTS_APART = 2**40  # between the seeds of a batch's parts
DROPOUT = 2**39  # from a part's seed to that of its dropout


class Part(NamedTuple):
    """What a process learns from at once."""

    batch: Batch
    mels: Tensor  # (B, F, M)
    state: EncoderState | None
    frames: int  # that the losses are means over
    aligned: int  # of them, those whose phone an alignment names
    dropout_seed: int


class Parts:
    """Makes the parts of every step.

    All randomness comes from the seed, the step and the part's number: a resumed run repeats itself, and it does not
    matter which process learns from a part.
    """

    def __init__(
        self, corpus: Corpus, options: TrainOptions, model: AcousticModel, move: Callable[[Tensor], Tensor]
    ) -> None:
        """Take parts from a corpus for a model; ``move`` puts a tensor on its device."""
        self._corpus, self._options, self._model, self._move = corpus, options, model, move
        self._noises = corpus.noises()
        self.walk = (
            SegmentWalk(corpus, options.segments, options.views, options.seed, self._change)
            if (options.segments)
            else None
        )

    def part(self, members: Sequence[Any], step: int, number: int) -> Part:
        """Part ``number`` of the batch that a step learns from.

        Args:
            members: (example, variant) pairs of the batch; or its segments, where training walks over recordings.
            step: counted over the run.
            number: below the options' ``parts``.
        """
        options = self._options
        seed = options.seed * 1_000_003 + step + number * PARTS_APART
        torch.manual_seed(seed)
        random = np.random.default_rng((options.seed, step, *([number] if number else [])))
        chosen = members
        if self.walk:
            batch, state = self.walk.begin(members, step, random, self._move)
            mels, heard = batch.mels, batch.frames * self._model.config.stack
        else:
            chosen = members[number :: options.parts]
            # A batch with fewer utterances than parts leaves some empty: they get the shape of one and no weight.
            batch, state = self._corpus.collate(chosen or members[:1], random).repeated(options.views), None
            batch = batch.to(self._move)
            heard = batch.frames * self._model.config.stack
            mels = self._change(batch.mels, heard, random)
        mels = options.masks(mels, heard, self._model.mel_mean, random)
        frames = int(batch.frames.sum()) if chosen else 0
        aligned = int((batch.aligned != IGNORED).sum()) if chosen else 0
        return Part(batch, mels, state, frames, aligned, seed + DROPOUT)

    def _change(self, mels: Tensor, frames: Tensor, random: np.random.Generator) -> Tensor:
        return self._options.changes(mels, frames, self._model.config.frontend, self._noises, random)
