"""State from row to row: truncated back-propagation through time.

A row of a batch may begin with the state that other audio has led to; no gradient goes back over that border (Williams
& Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent network trajectories"). Where rows
are the segments of long recordings it is the state of the row before; else that of any earlier row, which teaches the
network to begin in the middle of things (Narayanan et al. 2019, "Recognizing long-form speech using streaming
end-to-end models": random state passing).
"""

from __future__ import annotations

import torch
from torch import Tensor

from asr.models.encoder import EncoderState


class Memory:
    """The states that rows may begin with; `content` is kept in checkpoints."""

    def __init__(self, pass_state: float, recordings: bool = False) -> None:
        """Pass states.

        Args:
            pass_state: probability of a row to begin with one; others begin as before any audio.
            recordings: whether rows go on where the last ones ended, and only such rows remember.
        """
        self.pass_state, self.recordings = pass_state, recordings
        self._after: dict[int, EncoderState] = {}  # of the last batch of so many rows
        self._rows = 0  # of the last batch

    def before(self, follows: Tensor, generator: torch.Generator) -> EncoderState | None:
        """The state that rows begin with; None where nothing was heard.

        Args:
            follows: (B,) bool, which rows go on where the same row of the last batch ended.
            generator: decides which rows remember, and which of the earlier ones.
        """
        remembering = torch.rand(len(follows), generator=generator) < self.pass_state
        order = torch.randperm(len(follows), generator=generator)
        if self.recordings:
            remembering &= follows
            order = torch.arange(len(follows))
        state = self._after.get(len(follows))
        if state is None or not remembering.any() or (self.recordings and self._rows != len(follows)):
            return None
        return passed(EncoderState(*(part[:, order.to(part.device)] for part in state)), remembering)

    def after(self, state: EncoderState) -> None:
        """Keep the state after a batch, without the graph it came from."""
        self._rows = state.hidden.shape[1]
        self._after[self._rows] = EncoderState(*(part.detach() for part in state))

    def content(self) -> dict:
        """Plain values and tensors."""
        return {"rows": self._rows, "after": {rows: tuple(state) for rows, state in self._after.items()}}

    def restore(self, content: dict) -> None:
        """Go on where another was."""
        self._rows = content["rows"]
        self._after = {rows: EncoderState(*state) for rows, state in content["after"].items()}


def passed(state: EncoderState, rows: Tensor) -> EncoderState:
    """The state that the next segment begins with: of ``rows`` (B,) bool as it is, of others as before any audio.

    Gradients end here.
    """
    return EncoderState(*(part.detach().float() * rows[:, None].to(part.device) for part in state))
