"""A recurrent layer, Elman's network or an LSTM, with a small look-ahead after it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SequenceDropout(nn.Module):
    """Dropout with one mask for all frames of a sequence (Gal & Ghahramani 2016).

    It regularises recurrent layers as well as a mask per frame, and draws a few hundred times fewer random numbers,
    which otherwise take a seventh of the time of training on a CPU.
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
    modeling using temporal convolution and LSTMs"). The output is delayed by ``frames``, and the frames that wait for
    their right context are part of the state.
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
    """Layer norm, Elman's network or an LSTM, dropout, residual; then look-ahead, if any."""

    def __init__(self, kind: str, size: int, look_ahead_frames: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        if kind == "rnn":
            self.rnn = elman_network(size, size)
        else:
            self.lstm = remembering_lstm(size, size)
        self.kind = kind
        self.dropout = SequenceDropout(dropout)
        self.look_ahead = LookAhead(size, look_ahead_frames, dropout) if look_ahead_frames else None

    def forward(
        self, x: Tensor, hidden: Tensor, cell: Tensor, context: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Run T >= 1 frames.

        Args:
            x: (T, B, H).
            hidden: (1, B, H).
            cell: (1, B, H) of an LSTM; (0, B, H) of Elman's network, which has none.
            context: (C, B, H) frames that wait for their right context.
        Returns:
            Output (T, B, H), late by C frames, and the next hidden, cell and context.
        """
        if self.kind == "rnn":
            y, hidden = self.rnn(self.norm(x), hidden)
        else:
            y, (hidden, cell) = self.lstm(self.norm(x), (hidden, cell))
        x = x + self.dropout(y)
        if self.look_ahead is not None:
            x, context = self.look_ahead(x, context)
        return x, (hidden, cell, context)


def elman_network(inputs: int, units: int) -> nn.RNN:
    """The simple recurrent network of Elman 1990: ``h[t] = tanh(U x[t] + W h[t - 1] + b)``.

    ``U`` is ``weight_ih_l0``, ``W`` is ``weight_hh_l0``; the output weights ``V`` are the heads of the model. All three
    are shared by all t. ``W`` is initialised orthogonal, so that at first neither states nor gradients vanish or
    explode (Saxe et al. 2014).
    """
    rnn = nn.RNN(inputs, units, nonlinearity="tanh")
    nn.init.orthogonal_(rnn.weight_hh_l0)
    return rnn


def remembering_lstm(inputs: int, units: int) -> nn.LSTM:
    """Long short-term memory (Hochreiter & Schmidhuber 1997); forget gates start open (Jozefowicz et al. 2015)."""
    lstm = nn.LSTM(inputs, units)
    with torch.no_grad():
        lstm.bias_hh_l0.zero_()
        lstm.bias_ih_l0.zero_()
        lstm.bias_ih_l0[units : 2 * units] = 1.0
    return lstm
