"""LSTM language model: words in, probabilities of the next words out; the state is passed in and returned."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

ENDS = 0  # id of the end of a sentence, which also precedes the first word
UNKNOWN = 1  # id of any word outside the vocabulary


@dataclass(frozen=True)
class LanguageConfig:
    """Sizes of a network over words that are numbered by falling frequency.

    Words are divided into bands, and rarer ones have shorter vectors: the first ``bands[0]`` have ``widths[0]`` numbers
    each, the next up to ``bands[1]`` have ``widths[1]``, and so on; the last band ends with the vocabulary.
    """

    bands: tuple[int, ...] = (2_000, 15_000, 50_002)
    widths: tuple[int, ...] = (256, 96, 32)
    size: int = 512  # units of an LSTM layer
    layers: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if len(self.bands) != len(self.widths) or not self.bands or self.bands[0] <= UNKNOWN:
            raise ValueError(f"need a width for each band, and 2 or more words in the first; got {self}")
        if list(self.bands) != sorted(set(self.bands)) or min(*self.widths, self.size, self.layers) < 1:
            raise ValueError(f"bands must rise, and widths, size and layers be at least 1; got {self}")

    @property
    def words(self) -> int:
        """Size of the vocabulary."""
        return self.bands[-1]

    @classmethod
    def for_vocabulary(cls, words: int, size: int = 512, layers: int = 1, dropout: float = 0.0) -> LanguageConfig:
        """Bands for a vocabulary of so many words."""
        usual = cls()
        bands = [*(band for band in usual.bands[:-1] if band < words), words]
        scale = min(1.0, size / usual.size)
        widths = tuple(max(4, round(width * scale)) for width in usual.widths[: len(bands)])
        return cls(tuple(bands), widths, size, layers, dropout)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LanguageConfig:
        lists = {name: tuple(values[name]) for name in ("bands", "widths")}
        return cls(**{**values, **lists})


class LanguageState(NamedTuple):
    """State of the LSTM; all zeros at the start of a text."""

    hidden: Tensor  # (L, B, H)
    cell: Tensor  # (L, B, H)


class AdaptiveWords(nn.Module):
    """Word vectors and softmax with one set of weights for both, in bands of frequency.

    The softmax first chooses among the frequent words and the other bands, then within a band (Grave et al. 2017,
    "Efficient softmax approximation for GPUs"); input and output share vectors and projections (Baevski & Auli 2019,
    "Adaptive input representations for neural language modeling").
    """

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.bands = config.bands
        self.starts = (0, *config.bands[:-1])
        width = config.widths[0]
        self.vectors = nn.ParameterList(
            nn.Parameter(torch.randn(end - start, size) * size**-0.5)
            for start, end, size in zip(self.starts, config.bands, config.widths, strict=True)
        )
        self.projections = nn.ParameterList(
            nn.Parameter(torch.randn(size, width) * width**-0.5) for size in config.widths[1:]
        )
        self.others = nn.Parameter(torch.zeros(len(config.bands) - 1, width))  # a row for each band but the first
        self.bias = nn.Parameter(torch.zeros(config.bands[0] + len(config.bands) - 1))

    def embed(self, words: Tensor) -> Tensor:
        """words (...) -> (..., E)."""
        flat = words.reshape(-1)
        found = self.vectors[0][flat.clamp(max=self.bands[0] - 1)]  # (N, E)
        for band in range(1, len(self.bands)):
            inside = (flat >= self.starts[band]) & (flat < self.bands[band])
            rows = inside.nonzero()[:, 0]
            rare = self.vectors[band][flat[rows] - self.starts[band]] @ self.projections[band - 1]
            found = found.to(rare.dtype).index_copy(0, rows, rare)
        return found.reshape(*words.shape, -1)

    def log_probs(self, outputs: Tensor, words: Tensor) -> Tensor:
        """Log-probability (N,) of words (N,) after outputs (N, E)."""
        chosen = words.clamp(max=self.bands[0] - 1)
        for band in range(1, len(self.bands)):
            chosen = torch.where(words >= self.starts[band], self.bands[0] + band - 1, chosen)
        result = self._head(outputs).gather(1, chosen[:, None])[:, 0]
        for band in range(1, len(self.bands)):
            inside = (words >= self.starts[band]) & (words < self.bands[band])
            rows = inside.nonzero()[:, 0]
            within = self._within(outputs[rows], band).gather(1, (words[rows] - self.starts[band])[:, None])[:, 0]
            result = result.index_add(0, rows, within)
        return result

    def all_log_probs(self, outputs: Tensor) -> Tensor:
        """Log-probabilities (N, V) of all words after outputs (N, E)."""
        head = self._head(outputs)
        first = self.bands[0]
        parts = [head[:, :first]]
        parts += [head[:, first + k - 1, None] + self._within(outputs, k) for k in range(1, len(self.bands))]
        return torch.cat(parts, dim=1)

    def _head(self, outputs: Tensor) -> Tensor:
        scores = functional.linear(outputs, torch.cat([self.vectors[0], self.others]), self.bias)
        return scores.float().log_softmax(-1)

    def _within(self, outputs: Tensor, band: int) -> Tensor:
        narrow = functional.linear(outputs, self.projections[band - 1])
        return functional.linear(narrow, self.vectors[band]).float().log_softmax(-1)


class LanguageModelNetwork(nn.Module):
    """Word vectors, LSTM layers, softmax (Mikolov et al. 2010; Sundermeyer et al. 2012)."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.words = AdaptiveWords(config)
        width = config.widths[0]
        self.dropout = nn.Dropout(config.dropout)
        self.lstm = nn.LSTM(width, config.size, config.layers, dropout=config.dropout if config.layers > 1 else 0.0)
        self.output = nn.Linear(config.size, width)
        with torch.no_grad():  # forget gates initialised open (Jozefowicz et al. 2015)
            for layer in range(config.layers):
                getattr(self.lstm, f"bias_hh_l{layer}").zero_()
                bias = getattr(self.lstm, f"bias_ih_l{layer}").zero_()
                bias[config.size : 2 * config.size] = 1.0

    def initial_state(self, batch: int) -> LanguageState:
        """The state before any text."""
        zeros = self.output.weight.new_zeros(self.config.layers, batch, self.config.size)
        return LanguageState(zeros, zeros)

    def forward(self, words: Tensor, state: LanguageState) -> tuple[Tensor, LanguageState]:
        """Read words (T, B), T >= 1.

        Returns:
            Vectors (T, B, E) from which ``self.words`` predicts the word after each, and the next state.
        """
        x = self.dropout(self.words.embed(words))
        y, (hidden, cell) = self.lstm(x, (state.hidden.to(x.dtype), state.cell.to(x.dtype)))
        return self.output(self.dropout(y)), LanguageState(hidden, cell)

    def log_probs(self, words: Tensor, next_words: Tensor, state: LanguageState) -> tuple[Tensor, LanguageState]:
        """Log-probability (T, B) of next_words (T, B), each after the word (T, B) before it, and the next state."""
        outputs, state = self(words, state)
        found = self.words.log_probs(outputs.flatten(0, 1), next_words.flatten())
        return found.reshape(next_words.shape), state
