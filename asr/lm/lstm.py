"""Inference with an LSTM language model: a verified folder, and its arithmetic in numpy, without torch."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.errors import ModelError, UsageError
from asr.files import Description, write_description
from asr.graph.kept_arrays import kept_arrays
from asr.words.packed_weights import pack_weights, sigmoid, unpack_weights

FORMAT = 1
KIND, NAME = "lstm", "LSTM language model"
WEIGHTS, WORDS = "weights.npz", "words.txt"
REMEDY = "train one with 'asr lm train-lstm'"
ENDS, UNKNOWN = 0, 1  # ids: end of a sentence, which also precedes the first word; a word not in the vocabulary


class LstmState(NamedTuple):
    """State of the LSTM; all zeros at the start of a text."""

    hidden: np.ndarray  # (L, B, H)
    cell: np.ndarray  # (L, B, H)


@dataclass(frozen=True)
class LstmLanguageModel:
    """Words in, probabilities of the next words out; states are values that are passed in and returned."""

    folder: Path
    words: tuple[str, ...]  # by id
    bands: tuple[int, ...]  # ids at which the bands of the vocabulary end, as in `asr.models.language`
    weights: dict[str, np.ndarray]  # float32, by the names that they have in the network

    @classmethod
    def open(cls, folder: Path) -> LstmLanguageModel:
        """Read and verify a folder that `write_lstm_language_model` wrote.

        Raises:
            ModelError: the folder is another one, or a file is missing or altered.
        """
        description = Description.read(folder, NAME, (FORMAT,), REMEDY)
        if description.value("kind") != KIND:
            raise description.wrong(f"its kind is {description.value('kind')!r}, not {KIND!r}")
        words = tuple(description.verified(WORDS).decode("utf-8").split("\n")[:-1])
        content = description.verified(WEIGHTS)  # also where it is not unpacked
        try:
            bands = tuple(description.value("bands"))
            name = f"lstm-{description.checksums(WEIGHTS)[WEIGHTS][:32]}"
            weights = dict(kept_arrays(name, lambda: unpack_weights(content)))  # mapped, and shared by processes
        except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise ModelError(f"{folder / WEIGHTS} cannot be used ({error}); {REMEDY}") from error
        if len(words) != bands[-1]:
            raise ModelError(f"{folder}: {len(words)} words, but weights for {bands[-1]}; {REMEDY}")
        return cls(folder, words, bands, weights)

    @cached_property
    def ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @property
    def layers(self) -> int:
        return sum(name.startswith("lstm.weight_hh") for name in self.weights)

    @property
    def size(self) -> int:
        """Units of a layer."""
        return self.weights["lstm.weight_hh_l0"].shape[1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers in the vector of a word, by band."""
        return tuple(self.weights[f"words.vectors.{band}"].shape[1] for band in range(len(self.bands)))

    def encode(self, words: Sequence[str]) -> list[int]:
        """Ids of words, `UNKNOWN` for those not in the vocabulary."""
        return [self.ids.get(word, UNKNOWN) for word in words]

    def start(self, batch: int = 1) -> LstmState:
        """The state before any text."""
        zeros = np.zeros((self.layers, batch, self.size), np.float32)
        return LstmState(zeros, zeros)

    def read(self, words: np.ndarray, state: LstmState) -> tuple[np.ndarray, LstmState]:
        """Read words (T, B), T >= 0.

        Returns:
            Vectors (T, B, E) that predict the word after each, for `log_probs`; and the next state.
        """
        x = self._embedded(words)
        hidden, cell = [], []
        for layer in range(self.layers):
            x, h, c = self._layer(x, layer, state.hidden[layer], state.cell[layer])
            hidden.append(h)
            cell.append(c)
        outputs = _product(x, self.weights["output.weight"]) + self.weights["output.bias"]
        return outputs, LstmState(np.stack(hidden), np.stack(cell))

    def log_probs(self, outputs: np.ndarray, words: np.ndarray, after: np.ndarray | None = None) -> np.ndarray:
        """Natural-log probabilities (M,) of words (M,), each after one of outputs (N, E).

        ``after`` (M,) says after which; without it, M is N and each word follows the output in its place.
        """
        after = np.arange(len(words)) if after is None else after
        chosen = np.where(words < self.bands[0], words, self.bands[0] - 1 + np.searchsorted(self.bands, words, "right"))
        head = self._head(outputs)
        found = head[after, chosen] - _log_sum(head)[after]
        for band in range(1, len(self.bands)):
            asked = np.flatnonzero((words >= self.bands[band - 1]) & (words < self.bands[band]))
            rows, places = np.unique(after[asked], return_inverse=True)
            if not len(rows):
                continue
            within = self._within(outputs[rows], band)
            found[asked] += within[places, words[asked] - self.bands[band - 1]] - _log_sum(within)[places]
        return found

    def all_log_probs(self, outputs: np.ndarray) -> np.ndarray:
        """Natural-log probabilities (N, V) of all words after outputs (N, E)."""
        head = _log_softmax(self._head(outputs))
        first = self.bands[0]
        parts = [head[:, :first]]
        for band in range(1, len(self.bands)):
            parts.append(head[:, first + band - 1, None] + _log_softmax(self._within(outputs, band)))
        return np.concatenate(parts, axis=1)

    def _embedded(self, words: np.ndarray) -> np.ndarray:
        flat = words.reshape(-1)
        found = self.weights["words.vectors.0"][np.minimum(flat, self.bands[0] - 1)]
        for band in range(1, len(self.bands)):
            rows = np.flatnonzero((flat >= self.bands[band - 1]) & (flat < self.bands[band]))
            vectors = self.weights[f"words.vectors.{band}"][flat[rows] - self.bands[band - 1]]
            found[rows] = vectors @ self.weights[f"words.projections.{band - 1}"]
        return found.reshape(*words.shape, -1)

    def _layer(
        self, x: np.ndarray, layer: int, hidden: np.ndarray, cell: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x (T, B, E), hidden and cell (B, H) -> (T, B, H), hidden, cell."""
        weights = self.weights
        bias = weights[f"lstm.bias_ih_l{layer}"] + weights[f"lstm.bias_hh_l{layer}"]
        inputs = _product(x, weights[f"lstm.weight_ih_l{layer}"]) + bias  # (T, B, 4 H)
        recurrent = weights[f"lstm.weight_hh_l{layer}"]
        size = hidden.shape[1]
        outputs = np.empty((*x.shape[:2], size), np.float32)
        for step, given in enumerate(inputs):
            gates = given + _product(hidden, recurrent)
            entry, forget, leave = (sigmoid(gates[:, k * size : (k + 1) * size]) for k in (0, 1, 3))
            cell = forget * cell + entry * np.tanh(gates[:, 2 * size : 3 * size])
            hidden = leave * np.tanh(cell)
            outputs[step] = hidden
        return outputs, hidden, cell

    def _head(self, outputs: np.ndarray) -> np.ndarray:
        parts = [_product(outputs, self.weights[name]) for name in ("words.vectors.0", "words.others")]
        return np.concatenate(parts, axis=1) + self.weights["words.bias"]

    def _within(self, outputs: np.ndarray, band: int) -> np.ndarray:
        narrow = _product(outputs, self.weights[f"words.projections.{band - 1}"])
        return _product(narrow, self.weights[f"words.vectors.{band}"])


def generate(
    model: LstmLanguageModel, prompt: Sequence[str], temperature: float, seed: int, words: int
) -> Iterator[str]:
    """Sample words that continue a prompt; "" where a sentence ends.

    Args:
        model: to sample from.
        prompt: words to continue.
        temperature: divisor of log-probabilities; towards 0 the likeliest word is chosen.
        seed: the same one gives the same words.
        words: how many, ends of sentences not counted.
    Raises:
        UsageError: a temperature or number of words that is not above 0.
    """
    if not temperature > 0 or words < 1:
        raise UsageError(f"temperature must be above 0 and words at least 1, got {temperature} and {words}")
    generator = np.random.default_rng(seed)
    outputs, state = model.read(np.array([ENDS, *model.encode(prompt)])[:, None], model.start())
    while words:
        scores = model.all_log_probs(outputs[-1])[0].astype(float) / temperature
        scores[UNKNOWN] = -math.inf
        probabilities = np.exp(scores - scores.max())
        word = int(generator.choice(len(probabilities), p=probabilities / probabilities.sum()))
        words -= word != ENDS
        yield model.words[word] if word != ENDS else ""
        outputs, state = model.read(np.array([[word]]), state)


def write_lstm_language_model(
    folder: Path, words: Sequence[str], bands: Sequence[int], weights: dict[str, np.ndarray], about: dict[str, object]
) -> None:
    """Write a folder, matrices in 8 bits with a scale per row; `config.json` with the checksums is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(pack_weights(weights))
    (folder / WORDS).write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    write_description(folder, {"format": FORMAT, "kind": KIND, **about, "bands": list(bands)}, (WEIGHTS, WORDS))


def _product(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """x (..., K) by weights (M, K): (..., M). With the few rows there are, OpenBLAS is two or three times as fast this
    way round as in ``x @ weights.T``."""
    rows = np.ascontiguousarray((weights @ x.reshape(-1, x.shape[-1]).T).T)
    return rows.reshape(*x.shape[:-1], len(weights))


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    return scores - _log_sum(scores)[:, None]


def _log_sum(scores: np.ndarray) -> np.ndarray:
    """Logarithms (N,) of the sums of the exponentials of scores (N, M)."""
    highest = scores.max(axis=1, keepdims=True)
    powers = scores - highest
    return highest[:, 0] + np.log(np.exp(powers, out=powers).sum(axis=1))
