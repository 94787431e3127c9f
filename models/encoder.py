"""Unidirectional LSTM stack with a little look-ahead after each layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class EncoderState(NamedTuple):
    """What the encoder remembers between chunks; all zeros at the start of a stream."""

    hidden: Tensor  # (L, B, H)
    cell: Tensor  # (L, B, H)
    context: Tensor  # (C, B, H) frames each look-ahead is still waiting to use, layers one after the other


class SequenceDropout(nn.Module):
    """Dropout with one mask for all frames of a sequence (Gal & Ghahramani 2016).

    It regularises recurrent layers as well as a mask a frame, and draws a few hundred times fewer random numbers, which
    are a seventh of the cost of training on a CPU otherwise.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """x (T, B, H) -> the same shape; unchanged in evaluation mode."""
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        return x * torch.empty_like(x[:1]).bernoulli_(keep).div_(keep)


class LookAhead(nn.Module):
    """Mixes each frame with the next ones: a residual convolution over ``t .. t + frames``.

    Kaldi's TDNN-LSTM recipes put such layers between the recurrent ones (Peddinti et al. 2018, "Low latency acoustic
    modeling using temporal convolution and LSTMs"). The future is not guessed: output is late by ``frames``, and the
    frames still waiting for their future travel in the state.
    """

    def __init__(self, size: int, frames: int, dropout: float) -> None:
        super().__init__()
        self.frames = frames
        self.norm = nn.LayerNorm(size)
        self.mix = nn.Linear(size * (frames + 1), size)
        self.dropout = SequenceDropout(dropout)

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """x (T, B, H), context (frames, B, H) -> output (T, B, H) for frames ``-frames .. T - frames``, new context."""
        late = torch.cat([context, x])  # (frames + T, B, H)
        steps = x.shape[0]
        normal = self.norm(late)
        window = torch.cat([normal[k : k + steps] for k in range(self.frames + 1)], dim=-1)  # (T, B, (frames + 1) H)
        mixed = self.dropout(nn.functional.silu(self.mix(window)))
        return late[:steps] + mixed, late[steps:]


class RecurrentLayer(nn.Module):
    """Layer norm, LSTM (Hochreiter & Schmidhuber 1997), dropout, residual; then look-ahead where it has any."""

    def __init__(self, size: int, look_ahead_frames: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.lstm = nn.LSTM(size, size)
        self.dropout = SequenceDropout(dropout)
        self.look_ahead = LookAhead(size, look_ahead_frames, dropout) if look_ahead_frames else None
        with torch.no_grad():  # remember by default (Jozefowicz et al. 2015)
            self.lstm.bias_hh_l0.zero_()
            self.lstm.bias_ih_l0.zero_()
            self.lstm.bias_ih_l0[size : 2 * size] = 1.0

    def forward(
        self, x: Tensor, hidden: Tensor, cell: Tensor, context: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """x (T, B, H), hidden and cell (1, B, H), context (C, B, H) -> the same shapes, output late by C frames."""
        y, (hidden, cell) = self.lstm(self.norm(x), (hidden, cell))
        x = x + self.dropout(y)
        if self.look_ahead is not None:
            x, context = self.look_ahead(x, context)
        return x, (hidden, cell, context)


class LstmEncoder(nn.Module):
    """Stacked frames -> hidden vectors, all state passed in and returned."""

    def __init__(self, inputs: int, size: int, look_ahead_frames: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.size = size
        self.look_ahead_frames = look_ahead_frames
        self.input = nn.Linear(inputs, size)
        self.layers = nn.ModuleList(RecurrentLayer(size, frames, dropout) for frames in look_ahead_frames)

    def initial_state(self, batch: int) -> EncoderState:
        """The state before any audio, on the device and in the precision of the weights."""
        zeros = self.input.weight.new_zeros
        layers = len(self.layers)
        return EncoderState(
            hidden=zeros(layers, batch, self.size),
            cell=zeros(layers, batch, self.size),
            context=zeros(sum(self.look_ahead_frames), batch, self.size),
        )

    def forward(self, frames: Tensor, state: EncoderState) -> tuple[list[Tensor], EncoderState]:
        """Run T >= 1 frames.

        Args:
            frames: (T, B, inputs).
            state: what the previous chunk returned.
        Returns:
            The output of every layer, each (T, B, H) and late by the look-ahead up to it, and the next state.
        """
        x = self.input(frames)  # (T, B, H)
        outputs, hidden, cell, context = [], [], [], []
        waiting = torch.split(state.context, list(self.look_ahead_frames))
        for index, layer in enumerate(self.layers):
            one = slice(index, index + 1)
            x, (h, c, late) = layer(x, state.hidden[one], state.cell[one], waiting[index])
            outputs.append(x)
            hidden.append(h)
            cell.append(c)
            context.append(late)
        return outputs, EncoderState(torch.cat(hidden), torch.cat(cell), torch.cat(context))
