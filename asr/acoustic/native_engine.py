"""The 8-bit engine of this package: the whole network in C, for one stream or many together.

Activations are quantised frame by frame and products of whole numbers are exact, so a row is the same to the last bit
however the audio is cut into chunks and whatever streams are beside it. See asr/native/network.c.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr.acoustic.stored_weights import stored_weights
from asr.errors import RillError
from asr.models.mels import FrontendConfig, hann_window, mel_filterbank
from asr.native import NetworkSizes, library
from asr.streaming.engine import EngineError
from asr.streaming.framed import FramedEngine, FramedState
from asr.streaming.rates import Rates

LANES = 16  # as in network.h
MOST_LAYERS, MOST_LATE = 16, 8
HEADS = {"characters": "character_head", "phones": "phone_head", "states": "state_head"}
Part = np.ndarray | None


def fast_kernel() -> int:
    """The number of the kernel that is faster than onnxruntime on this processor; 0: there is none."""
    try:
        return int(library().rill_network_kernel())
    except RillError:
        return 0


def can_run(acoustic: dict[str, Any]) -> bool:
    """Whether there are kernels for a network, given the ``acoustic`` part of a model folder's description."""
    late = acoustic.get("look_ahead_frames", ())
    return (
        acoustic.get("encoder", "lstm") == "lstm"
        and acoustic.get("front") == "conv"
        and not acoustic.get("phone_share")
        and acoustic["size"] % LANES == 0
        and len(late) <= MOST_LAYERS
        and max(late) <= MOST_LATE
    )


class NativeEngine(FramedEngine):
    """Runs the network of a model folder with weights and activations of 8 bits."""

    def __init__(self, weights: Path, acoustic: dict[str, Any], rates: Rates, head: str, kernel: int) -> None:
        """Quantise and pack the weights.

        Args:
            weights: the ``model.safetensors`` of a model folder.
            acoustic: the part of its description that `can_run` was asked about.
            rates: how its frames lie on the audio.
            head: which output to return: ``characters``, ``phones`` or ``states``.
            kernel: `fast_kernel`, or 0 for the portable one.
        Raises:
            EngineError: there is no such head, the weights cannot be read, or they are of another network.
        """
        heads = [name for name in HEADS if acoustic.get(name)]
        if head not in heads:
            raise EngineError(f"{weights}: no output named {head!r}; it has {', '.join(heads)}")
        frontend = FrontendConfig(**acoustic["frontend"])
        late = acoustic["look_ahead_frames"]
        sizes = NetworkSizes(
            mels=frontend.mels,
            stack=acoustic["stack"],
            size=acoustic["size"],
            layers=len(late),
            head_layer=acoustic["phone_layer"] if head == "phones" else len(late),
            hop=frontend.hop_samples,
            window=frontend.window_samples,
            fft=frontend.fft_size,
            outputs=acoustic[head],
            kernel=kernel,
            floor=frontend.floor,
            late=tuple(late),
        )
        try:
            parts = list(_parts(stored_weights(weights), frontend, acoustic, HEADS[head]))
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise EngineError(f"{weights}: not the weights of this network ({error})") from error
        self._library = library()
        network = self._library.rill_network_new(ctypes.byref(sizes), _addresses(parts))
        if not network:
            raise EngineError(f"{weights}: no memory for the network, or none that the kernels can run")
        self._network = network
        weakref.finalize(self, self._library.rill_network_free, network)
        memory = np.zeros((2 * len(late) + sum(late)) * acoustic["size"], np.float32)
        super().__init__(rates, rates, FramedState(np.zeros(0, np.float32), (memory,), 0), acoustic[head])

    def advance(self, states: Sequence[FramedState], frames: int) -> tuple[list[np.ndarray], list[FramedState]]:
        read = (frames - 1) * self.rates.frame_samples + self.rates.window_samples
        samples = [state.samples for state in states]
        if min(map(len, samples)) < read:
            raise ValueError(f"{frames} frames need {read} samples")
        before = [state.memory[0] for state in states]
        after = [np.empty_like(one) for one in before]
        rows = [np.empty((frames, self._no_rows.shape[1]), np.float32) for _ in states]
        arrays = (_addresses(one) for one in (samples, before, after, rows))
        if self._library.rill_network_run(self._network, len(states), frames, *arrays):
            raise MemoryError("no memory for the network")
        found = [one[self._warm_up(state, frames) :] for one, state in zip(rows, states, strict=True)]
        return found, [self._after(state, frames, (one,)) for state, one in zip(states, after, strict=True)]


def _addresses(arrays: Sequence[Part]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*(None if one is None else one.ctypes.data for one in arrays))


def _parts(
    weights: dict[str, np.ndarray], frontend: FrontendConfig, acoustic: dict[str, Any], head: str
) -> Iterator[Part]:
    """What a network is made of, in the order of packing.h."""
    size = acoustic["size"]

    def floats(name: str) -> np.ndarray:
        return np.ascontiguousarray(weights[name], np.float32)

    def halves(name: str) -> np.ndarray:
        return np.ascontiguousarray(weights[name], np.float16)

    def both(name: str) -> Iterator[np.ndarray]:
        return (floats(f"{name}.{part}") for part in ("weight", "bias"))

    yield np.pad(hann_window(frontend), (0, frontend.fft_size - frontend.window_samples)).astype(np.float32)
    yield np.ascontiguousarray(mel_filterbank(frontend).T, np.float32)  # (M, K)
    yield floats("mel_mean")
    yield 1 / floats("mel_std")
    yield np.ascontiguousarray(floats("front.one.weight")[:, 0].transpose(1, 2, 0))  # (3, 3, C)
    yield floats("front.one.bias")
    yield np.ascontiguousarray(floats("front.two.weight").transpose(2, 3, 1, 0))  # (stack + 2, 3, C, D)
    yield floats("front.two.bias")
    linear = halves("front.linear.weight")  # of inputs (D, M / 4); the kernels have them the other way round
    channels = len(weights["front.two.bias"])
    yield linear.reshape(size, channels, -1).transpose(0, 2, 1).reshape(size, -1)
    yield floats("front.linear.bias")
    yield from both("front.norm")
    # Of 16 units all gates lie together: input, forget, cell, output.
    order = np.arange(4 * size).reshape(4, size // LANES, LANES).transpose(1, 0, 2).ravel()
    for number, late in enumerate(acoustic["look_ahead_frames"]):
        layer = f"encoder.layers.{number}"
        yield from both(f"{layer}.norm")
        yield halves(f"{layer}.lstm.weight_ih_l0")[order]
        yield (floats(f"{layer}.lstm.bias_ih_l0") + floats(f"{layer}.lstm.bias_hh_l0"))[order]
        yield halves(f"{layer}.lstm.weight_hh_l0")[order]
        yield None
        if late:
            yield from both(f"{layer}.look_ahead.norm")
            yield halves(f"{layer}.look_ahead.mix.weight")
            yield floats(f"{layer}.look_ahead.mix.bias")
    yield from both(f"{head}.0")
    yield halves(f"{head}.1.weight")
    yield floats(f"{head}.1.bias")
