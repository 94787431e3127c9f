"""The encoder: a stack of recurrent layers of one kind, whose state is passed in and returned."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from asr.models.bidirectional import BidirectionalLayer
from asr.models.recurrent import RecurrentLayer

ENCODERS = ("rnn", "lstm", "blstm")


class EncoderState(NamedTuple):
    """State of the encoder between chunks; all zeros at the start of a stream."""

    hidden: Tensor  # (L, B, H); (L, B, H / 2) of the forward LSTMs of a blstm
    cell: Tensor  # as hidden; (0, B, H) of an rnn, which has none
    context: Tensor  # (C, B, H) frames that wait for their right context, layer after layer


class Encoder(nn.Module):
    """Acoustic frames -> hidden vectors; the state is passed in and returned."""

    def __init__(
        self,
        kind: str,
        size: int,
        late_frames: tuple[int, ...],
        block_frames: int,
        full_context: float,
        dropout: float,
    ) -> None:
        """Build a stack.

        Args:
            kind: one of `ENCODERS`.
            size: of a frame, and units of every layer; a blstm has half of them in each direction.
            late_frames: delay of each layer's output in frames: its look-ahead or its right context.
            block_frames: after which the backward LSTMs of a blstm restart; 1 for the other kinds.
            full_context: share of the training batches in which they do not restart: a block is as long as the batch.
            dropout: after every layer.
        """
        super().__init__()
        self.kind = kind
        self.size = size
        self.late_frames = late_frames
        self.block_frames = block_frames
        self.full_context = full_context
        self.layers = nn.ModuleList(
            BidirectionalLayer(size, late, dropout) if kind == "blstm" else RecurrentLayer(kind, size, late, dropout)
            for late in late_frames
        )

    def initial_state(self, batch: int) -> EncoderState:
        """The state before any audio, on the device and in the precision of the weights."""
        zeros = self.layers[0].norm.weight.new_zeros
        layers = len(self.layers)
        units = self.size // 2 if self.kind == "blstm" else self.size
        return EncoderState(
            hidden=zeros(layers, batch, units),
            cell=zeros(0 if self.kind == "rnn" else layers, batch, units),
            context=zeros(sum(self.late_frames), batch, self.size),
        )

    def forward(
        self, frames: Tensor, state: EncoderState, block_frames: int | Tensor | None = None
    ) -> tuple[list[Tensor], EncoderState]:
        """Run T >= 1 frames.

        Args:
            frames: (T, B, H); T a multiple of ``block_frames``.
            state: what the previous chunk returned.
            block_frames: of a blstm, instead of its own.
        Returns:
            The output of every layer, each (T, B, H) and delayed by the look-ahead or right context up to it, and the
            next state.
        Raises:
            ValueError: T is no whole number of blocks.
        """
        x = frames
        blocks = (self._blocks(len(frames), block_frames),) if self.kind == "blstm" else ()
        outputs, hidden, cell, context = [], [], [], []
        waiting = torch.split(state.context, list(self.late_frames))
        for index, layer in enumerate(self.layers):
            one = slice(index, index + 1)
            x, (h, c, late) = layer(x, state.hidden[one], state.cell[one], waiting[index], *blocks)
            outputs.append(x)
            hidden.append(h)
            cell.append(c)
            context.append(late)
        return outputs, EncoderState(torch.cat(hidden), torch.cat(cell), torch.cat(context))

    def _blocks(self, frames: int, block_frames: int | Tensor | None) -> int | Tensor:
        """Frames in a block of this call."""
        if isinstance(block_frames, Tensor):  # in a graph being exported, which cannot check it
            return block_frames
        block = block_frames or self.block_frames
        if frames % block:
            raise ValueError(f"a blstm runs whole blocks of {block} frames, got {frames} frames")
        whole = self.training and self.full_context and block_frames is None and torch.rand(()) < self.full_context
        return frames if whole else block
