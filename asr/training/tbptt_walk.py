"""Walking over a batch of long recordings, a segment a training step, with the state carried along."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from asr.data.batches import Batch, Corpus
from asr.models.encoder import EncoderState
from asr.training.tbptt_batches import LongRecordings
from asr.training.tbptt_plan import SegmentOptions, SegmentStep

Change = Callable[[Tensor, Tensor, np.random.Generator], Tensor]  # mels (B, F, M), frames (B,), random -> changed mels


class SegmentWalk:
    """Gives each step its batch and the state it begins with.

    Recordings are joined and changed (voice, channel, noise) once, so that a speaker stays the same from segment to
    segment. All randomness comes from the seed and the step, so with its ``state`` a walk can be taken up at any step.
    """

    def __init__(self, corpus: Corpus, options: SegmentOptions, views: int, seed: int, change: Change) -> None:
        """Walk over a corpus.

        Args:
            corpus: whose examples the steps name.
            options: of segments.
            views: of each recording, the whole batch after the whole batch, each changed differently.
            seed: of the run.
            change: of the recordings' features.
        """
        self.recordings = LongRecordings(corpus)
        self.options, self.views, self.seed, self.change = options, views, seed, change
        self.state: EncoderState | None = None  # after the last step: (L, B * views, H), ...
        self._of: tuple | None = None  # the recordings that are held
        self._segments: list[Batch] = []

    def begin(
        self, step: SegmentStep, at: int, random: np.random.Generator, move: Callable[[Tensor], Tensor]
    ) -> tuple[Batch, EncoderState | None]:
        """The changed features and the targets of a step, and the state to begin with; None where nothing was heard.

        Args:
            step: from `plan_segments`.
            at: the step's number in the run.
            random: of this step: which recordings remember.
            move: puts a tensor on the device.
        """
        if self._of is not step.recordings or step.number == 0:
            self._hold(step, np.random.default_rng((self.seed, at - step.number, 1)), move)
        batch = self._segments[step.number]
        remembering = random.random(len(step.recordings)) < self.options.pass_state
        if step.number == 0 or self.state is None:
            return batch, None
        remembering &= [not recording[step.number].first for recording in step.recordings]
        return batch, passed(self.state, torch.from_numpy(np.tile(remembering, self.views)))

    def end(self, state: EncoderState) -> None:
        """Keep the state after the step, without the graph it came from."""
        self.state = EncoderState(*(part.detach() for part in state))

    def _hold(self, step: SegmentStep, random: np.random.Generator, move: Callable[[Tensor], Tensor]) -> None:
        long = self.recordings.collate(step.recordings, random)
        mels = move(torch.cat([long.mels] * self.views))
        mels = self.change(mels, torch.full((len(mels),), mels.shape[1]), random)
        self._segments = [
            batch._replace(mels=torch.empty(0)).repeated(self.views).to(move)._replace(mels=heard)
            for batch, heard in zip(long.segments, long.views(mels), strict=True)
        ]
        self._of = step.recordings


def passed(state: EncoderState, rows: Tensor) -> EncoderState:
    """The state that the next segment begins with: of ``rows`` (B,) bool as it is, of others as before any audio.

    Gradients end here.
    """
    return EncoderState(*(part.detach().float() * rows[:, None].to(part.device) for part in state))
