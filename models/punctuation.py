"""Punctuation network: words and pauses in, scores of marks and capitals out a few words later."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PunctuationConfig:
    """Sizes of a network."""

    words: int  # size of the vocabulary
    suffixes: int = 2_048  # classes of the last letters of words
    pauses: int = 8  # classes of pauses
    outputs: int = 8  # marks and shapes
    word_width: int = 64
    suffix_width: int = 24
    pause_width: int = 8
    size: int = 128  # units of an LSTM layer
    layers: int = 1
    joint: int = 96  # units between the LSTM and the scores
    look_ahead: int = 3  # words after a word that are read before it is tagged
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if min(value for name, value in asdict(self).items() if name != "dropout") < 1:
            raise ValueError(f"all sizes must be at least 1; got {self}")

    @property
    def width(self) -> int:
        return self.word_width + self.suffix_width + self.pause_width

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class PunctuationState(NamedTuple):
    """State of the network; all zeros at the start of a text."""

    hidden: Tensor  # (L, B, H)
    cell: Tensor  # (L, B, H)
    embedded: Tensor  # (D, B, E): what was read last, oldest first


class PunctuationNetwork(nn.Module):
    """Vectors of word, ending and pause; LSTM layers; scores of the word read ``look_ahead`` steps ago.

    The scores see the LSTM's output and, past it, the vectors of that word and of those after it, so that the LSTM need
    not carry through what each word is.
    """

    def __init__(self, config: PunctuationConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.words, config.word_width)
        self.suffixes = nn.Embedding(config.suffixes, config.suffix_width)
        self.pauses = nn.Embedding(config.pauses, config.pause_width)
        self.lstm = nn.LSTM(
            config.width, config.size, config.layers, dropout=config.dropout if config.layers > 1 else 0.0
        )
        self.joint = nn.Linear(config.size + (config.look_ahead + 1) * config.width, config.joint)
        self.output = nn.Linear(config.joint, config.outputs)
        self.dropout = nn.Dropout(config.dropout)
        with torch.no_grad():  # forget gates initialised open (Jozefowicz et al. 2015)
            for embedding in (self.words, self.suffixes, self.pauses):
                embedding.weight.mul_(0.3)
            for layer in range(config.layers):
                getattr(self.lstm, f"bias_hh_l{layer}").zero_()
                bias = getattr(self.lstm, f"bias_ih_l{layer}").zero_()
                bias[config.size : 2 * config.size] = 1.0

    def initial_state(self, batch: int) -> PunctuationState:
        """The state before any text."""
        config = self.config
        zeros = self.output.weight.new_zeros(config.layers, batch, config.size)
        start = torch.zeros(config.look_ahead, batch, dtype=torch.long, device=zeros.device)
        return PunctuationState(zeros, zeros, self.embed(start, start, start).detach())

    def embed(self, words: Tensor, suffixes: Tensor, pauses: Tensor) -> Tensor:
        """Ids (...) -> (..., E)."""
        return torch.cat([self.words(words), self.suffixes(suffixes), self.pauses(pauses)], dim=-1)

    def forward(
        self, words: Tensor, suffixes: Tensor, pauses: Tensor, state: PunctuationState
    ) -> tuple[Tensor, PunctuationState]:
        """Read ids (T, B), T >= 1.

        Returns:
            Scores (T, B, outputs) of what was read ``look_ahead`` steps before each, and the next state.
        """
        x = self.dropout(self.embed(words, suffixes, pauses))
        y, (hidden, cell) = self.lstm(x, (state.hidden, state.cell))
        seen = torch.cat([state.embedded, x])  # (D + T, B, E)
        steps, ahead = len(x), self.config.look_ahead
        joint = torch.cat([self.dropout(y), *(seen[k : k + steps] for k in range(ahead + 1))], dim=-1)
        scores = self.output(torch.relu(self.joint(joint)))
        return scores, PunctuationState(hidden, cell, seen[-ahead:])
