"""Inference with an LSTM language model: a verified folder, and its arithmetic in C, without torch."""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from asr.errors import ModelError, UsageError
from asr.files import Description, write_description
from asr.graph.kept_arrays import kept_arrays
from asr.lm.packed_matrix import matrix_of, pack_matrix
from asr.lm.stored_lexicon import StoredWords
from asr.native import Band, Layer, Lstm, library
from asr.words.packed_weights import pack_weights, stored_weights, unpack_weights

FORMAT = 1
KIND, NAME = "lstm", "LSTM language model"
WEIGHTS, WORDS = "weights.npz", "words.txt"
REMEDY = "train one with 'asr lm train-lstm'"
ENDS, UNKNOWN = 0, 1  # ids: end of a sentence, which also precedes the first word; a word not in the vocabulary


@dataclass(frozen=True)
class LstmLanguageModel:
    """Words in, probabilities of the next words out; states are values that are passed in and returned.

    A state (D,) has 2 L H numbers: the hidden states of the L layers, then their cells; zeros at the start of a text.
    """

    description: Description  # of its folder
    bands: tuple[int, ...]  # ids at which the bands of the vocabulary end, as in `asr.models.language`
    network: Lstm
    arrays: Mapping[str, np.ndarray]  # that it points to

    @classmethod
    def open(cls, folder: Path) -> LstmLanguageModel:
        """Read and verify a folder that `write_lstm_language_model` wrote.

        Raises:
            ModelError: the folder is another one, or a file is missing or altered.
        """
        description = Description.read(folder, NAME, (FORMAT,), REMEDY)
        if description.value("kind") != KIND:
            raise description.wrong(f"its kind is {description.value('kind')!r}, not {KIND!r}")
        description.verify(WEIGHTS)  # also where they are not unpacked
        try:
            bands = tuple(description.value("bands"))
            name = f"lstm-blocks-{description.checksums(WEIGHTS)[WEIGHTS][:32]}"
            arrays = dict(
                kept_arrays(name, lambda: _packed(stored_weights(description.verified(WEIGHTS))))
            )  # mapped, and shared by processes
            arrays["ends"] = np.array(bands, np.uint32)
            network = _network(arrays, bands)
        except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise ModelError(f"{folder / WEIGHTS} cannot be used ({error}); {REMEDY}") from error
        return cls(description, bands, network, arrays)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """By id, read when they are asked for; raises ModelError when they are missing, altered or too few."""
        return self._words()

    def _words(self) -> tuple[str, ...]:
        words = tuple(self.description.verified(WORDS).decode("utf-8").split("\n")[:-1])
        if len(words) != self.bands[-1]:
            raise ModelError(
                f"{self.description.folder}: {len(words)} words, but weights for {self.bands[-1]}; {REMEDY}"
            )
        return words

    @cached_property
    def ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @property
    def layers(self) -> int:
        return self.network.depth

    @property
    def size(self) -> int:
        """Units of a layer."""
        return self.network.size

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers in the vector of a word, by band."""
        return (self.network.width, *(self.network.rare[k].narrow.rows for k in range(len(self.bands) - 1)))

    def weights(self) -> dict[str, np.ndarray]:
        """The weights as float32, by the names that they have in `asr.models.language`."""
        return unpack_weights((self.description.folder / WEIGHTS).read_bytes())

    def encode(self, words: Sequence[str]) -> list[int]:
        """Ids of words, `UNKNOWN` for those not in the vocabulary."""
        return [self.ids.get(word, UNKNOWN) for word in words]

    def ids_of(self, words: Sequence[str]) -> np.ndarray:
        """Ids (W,) uint32 of the words of a decoding graph; those of a stored lexicon are looked up once and kept."""
        if not isinstance(words, StoredWords):
            return np.array(self.encode(words), np.uint32)

        def make() -> dict[str, np.ndarray]:
            ids = {word: number for number, word in enumerate(self._words())}  # not needed again, and large
            return {"ids": np.array([ids.get(word, UNKNOWN) for word in words], np.uint32)}

        identity = f"{words.checksum} {self.description.checksums(WORDS)[WORDS]}"
        return kept_arrays(f"lstm-words-{hashlib.sha256(identity.encode()).hexdigest()[:32]}", make)["ids"]

    def start(self, batch: int = 1) -> np.ndarray:
        """The states (B, D) before any text."""
        return np.zeros((batch, 2 * self.layers * self.size), np.float32)

    def read(self, words: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read words (T, B), T >= 0, after states (B, D).

        Returns:
            Vectors (T, B, E) that predict the word after each, for `log_probs`; and the next states.
        Raises:
            ValueError: there are more or fewer states than rows of words.
            MemoryError: there is not enough.
        """
        words = np.ascontiguousarray(words, np.uint32)
        after = np.array(states, np.float32, order="C")
        if after.shape != (words.shape[1], 2 * self.layers * self.size):
            raise ValueError(f"states {after.shape} are not those of words {words.shape}")
        outputs = np.empty((*words.shape, self.network.width), np.float32)
        places = (array.ctypes.data for array in (after, outputs))
        _done(library().rill_lstm_read(self.network, words.ctypes.data, *words.shape, *places))
        return outputs, after

    def log_probs(self, outputs: np.ndarray, words: np.ndarray, after: np.ndarray | None = None) -> np.ndarray:
        """Natural-log probabilities (M,) of words (M,), each after one of outputs (N, E).

        ``after`` (M,) says after which; without it, M is N and each word follows the output in its place.
        """
        after = np.arange(len(words)) if after is None else after
        order = np.argsort(after, kind="stable")
        given = (np.ascontiguousarray(outputs, np.float32), *(part[order].astype(np.uint32) for part in (words, after)))
        found = np.empty(len(words), np.float32)
        places = (array.ctypes.data for array in given)
        _done(library().rill_lstm_log_probs(self.network, *places, len(words), found.ctypes.data))
        result = np.empty_like(found)
        result[order] = found
        return result

    def all_log_probs(self, outputs: np.ndarray) -> np.ndarray:
        """Natural-log probabilities (N, V) of all words after outputs (N, E)."""
        count, size = len(outputs), len(self.words)
        words, after = np.tile(np.arange(size), count), np.repeat(np.arange(count), size)
        return self.log_probs(outputs, words, after).reshape(count, size)


def _done(success: int) -> None:
    if not success:
        raise MemoryError("no memory is left for the LSTM language model")


def _packed(stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a network from `asr.words.packed_weights.stored_weights`."""

    def matrix(name: str, *parts: str) -> dict[str, np.ndarray]:
        codes, scales = ([stored[part + end] for part in parts] for end in ("", ".scale"))
        return named(name, pack_matrix(np.concatenate(codes), np.concatenate(scales)[:, 0]))

    def named(name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {f"{name}.{key}": array for key, array in arrays.items()}

    found = matrix("head", "words.vectors.0", "words.others") | matrix("output", "output.weight")
    found |= {"head.bias": stored["words.bias"], "output.bias": stored["output.bias"]}
    for layer in range(sum(name.startswith("lstm.bias_hh") for name in stored)):
        found |= matrix(f"input.{layer}", f"lstm.weight_ih_l{layer}")
        found |= matrix(f"recurrent.{layer}", f"lstm.weight_hh_l{layer}")
        found[f"bias.{layer}"] = stored[f"lstm.bias_ih_l{layer}"] + stored[f"lstm.bias_hh_l{layer}"]
    for band in range(1, sum(name.startswith("words.vectors.") and name[-1] != "e" for name in stored)):
        codes = stored[f"words.projections.{band - 1}"]  # (w, E)
        found |= matrix(f"vectors.{band}", f"words.vectors.{band}")
        found |= matrix(f"narrow.{band}", f"words.projections.{band - 1}")
        found |= named(f"widen.{band}", pack_matrix(np.ascontiguousarray(codes.T), np.ones(codes.shape[1])))
    return found


def _network(arrays: Mapping[str, np.ndarray], bands: Sequence[int]) -> Lstm:
    """What points to the arrays of `_packed`, which must outlive it.

    Raises:
        ValueError: they do not fit each other or the bands, so that what runs in C would read behind their ends.
    """
    depth = sum(name.startswith("bias.") for name in arrays)
    width, size = len(arrays["output.bias"]), len(arrays["bias.0"]) // 4
    if list(bands) != sorted(set(bands)) or len(arrays["head.bias"]) != bands[0] + len(bands) - 1:
        raise ValueError(f"its bands {list(bands)} are not those of its weights")

    def matrix(name: str, rows: int, columns: int) -> object:
        return matrix_of({key: arrays[f"{name}.{key}"] for key in ("codes", "scales", "sums")}, rows, columns)

    layers = (Layer * depth)()
    for k in range(depth):
        if len(arrays[f"bias.{k}"]) != 4 * size:
            raise ValueError("its layers differ in size")
        inputs = matrix(f"input.{k}", 4 * size, size if k else width)
        layers[k] = Layer(inputs, matrix(f"recurrent.{k}", 4 * size, size), arrays[f"bias.{k}"].ctypes.data)
    rare = (Band * (len(bands) - 1))()
    for k in range(1, len(bands)):
        narrow = int(np.count_nonzero(arrays[f"narrow.{k}.scales"]))  # a row that is not padding has a scale
        vectors = matrix(f"vectors.{k}", bands[k] - bands[k - 1], narrow)
        rare[k - 1] = Band(vectors, matrix(f"narrow.{k}", narrow, width), matrix(f"widen.{k}", width, narrow))
    return Lstm(
        layers=layers,
        rare=rare,
        ends=arrays["ends"].ctypes.data,
        head_bias=arrays["head.bias"].ctypes.data,
        output_bias=arrays["output.bias"].ctypes.data,
        head=matrix("head", len(arrays["head.bias"]), width),
        output=matrix("output", width, size),
        depth=depth,
        size=size,
        width=width,
        bands=len(bands),
    )


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
