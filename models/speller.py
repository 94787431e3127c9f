"""The speller: log-probabilities of phones in, log-probabilities of characters out, a few frames later."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.recurrent import RecurrentLayer

LEAST_LOG_PROB = -12.0  # nothing is learnt from how much less likely than this a phone is


@dataclass(frozen=True)
class SpellerConfig:
    """Everything needed to rebuild the network before its weights are loaded."""

    phones: int  # rows it reads, blank included
    characters: int  # rows it writes, blank included
    size: int = 384  # units of every LSTM layer
    layers: int = 2
    stack: int = 3  # rows read, and written, in one step of the LSTMs
    delay_frames: int = 16  # frames it hears of what follows before it must write
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if min(self.phones, self.characters) < 2 or min(self.size, self.layers, self.stack) < 1:
            raise ValueError(
                f"a speller needs two phones and characters, one unit, layer and row; "
                f"got {self.phones}, {self.characters}, {self.size}, {self.layers}, {self.stack}"
            )
        if self.delay_frames < 0:
            raise ValueError(f"a delay cannot be negative: {self.delay_frames}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class SpellerState(NamedTuple):
    """What one stream (or a batch in step with each other) carries from chunk to chunk; zeros at the start."""

    hidden: Tensor  # (L, B, H)
    cell: Tensor  # (L, B, H)


class Speller(nn.Module):
    """LSTM layers with a CTC head (Graves et al. 2006) that read what the phone head of an acoustic model says.

    It needs no audio to learn from, so any text can teach it to spell (compare Sainath et al. 2023, "JOIST: a joint
    speech and text streaming model"), and it reads the rows of a stream in any chunking with the same outcome.
    """

    def __init__(self, config: SpellerConfig) -> None:
        super().__init__()
        self.config = config
        self.input = nn.Linear(config.phones * config.stack, config.size)
        layers = (RecurrentLayer("lstm", config.size, 0, config.dropout) for _ in range(config.layers))
        self.layers = nn.ModuleList(layers)
        self.head = nn.Sequential(nn.LayerNorm(config.size), nn.Linear(config.size, config.characters * config.stack))

    def initial_state(self, batch: int) -> SpellerState:
        """The state before any row."""
        zeros = self.input.weight.new_zeros(self.config.layers, batch, self.config.size)
        return SpellerState(zeros, zeros)

    def forward(self, phones: Tensor, state: SpellerState | None = None) -> tuple[Tensor, SpellerState]:
        """Read T rows, at least one and a multiple of ``stack``.

        Args:
            phones: (B, T, phones) natural-log probabilities.
            state: what the previous rows returned; None at the start of an utterance.
        Returns:
            (B, T, characters) natural-log probabilities, row t speaking of row ``t - delay_frames`` of the utterance,
            and the next state.
        """
        state = state or self.initial_state(len(phones))
        batch, rows, bins = phones.shape
        steps = rows // self.config.stack
        stacked = phones.clamp(min=LEAST_LOG_PROB).reshape(batch, steps, self.config.stack * bins)
        x = self.input(stacked.transpose(0, 1) / 4)  # (T / stack, B, H)
        hidden, cell = [], []
        nothing = x.new_zeros(0, x.shape[1], x.shape[2])
        for number, layer in enumerate(self.layers):
            one = slice(number, number + 1)
            x, (h, c, _) = layer(x, state.hidden[one], state.cell[one], nothing)
            hidden.append(h)
            cell.append(c)
        scores = self.head(x).float().transpose(0, 1).reshape(batch, rows, self.config.characters)
        return scores.log_softmax(dim=-1), SpellerState(torch.cat(hidden), torch.cat(cell))
