"""Engines: audio chunks in, log-probabilities out, with everything a stream remembers in an immutable state.

Any chunking of the audio gives the same rows. Row k speaks of samples
``[k * frame_samples, k * frame_samples + window_samples)`` and appears once the network has heard ``delay_frames``
more frames. ``finish`` appends just enough zeros that the last sample lies in a frame and that every frame comes out:
over a whole stream of n > 0 samples there are ``Rates.frames_covering(n)`` rows, over an empty stream none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from models.acoustic import AcousticModel, AcousticState

BLOCK_SECONDS = 10.0  # longest audio given to a network at once: bounds memory whatever the size of a chunk


@dataclass(frozen=True)
class Rates:
    """How a model's frames lie on the audio."""

    sample_rate: int  # Hz
    frame_samples: int  # from one acoustic frame to the next
    window_samples: int  # samples one acoustic frame looks at
    delay_frames: int  # frames of future the network waits for

    def seconds(self, frames: int) -> float:
        """Where a frame starts."""
        return frames * self.frame_samples / self.sample_rate

    def frames(self, seconds: float) -> int:
        """The nearest whole number of frames in a length of time."""
        return round(seconds * self.sample_rate / self.frame_samples)

    def frames_within(self, samples: int) -> int:
        """Frames that lie wholly inside this many samples."""
        return max(0, (samples - self.window_samples) // self.frame_samples + 1)

    def frames_covering(self, samples: int) -> int:
        """The fewest frames whose windows cover this many samples; 0 for none."""
        if samples == 0:
            return 0
        return max(0, -((self.window_samples - samples) // self.frame_samples)) + 1

    def tail_samples(self, samples: int) -> int:
        """Zeros to append to a stream of this many samples so that every covering frame comes out of the network."""
        if samples == 0:
            return 0
        frames = self.frames_covering(samples) + self.delay_frames
        return (frames - 1) * self.frame_samples + self.window_samples - samples


class Engine(Protocol):
    """A network ready to run. One engine serves any number of streams and threads: it keeps nothing of a stream."""

    rates: Rates

    def start(self) -> Any:
        """The state of a stream before any audio."""

    def step(self, state: Any, samples: np.ndarray) -> tuple[np.ndarray, Any]:
        """Consume samples (N,) float32 in [-1, 1] at the model's rate, N >= 0; return log-probs (T, V), T >= 0."""

    def finish(self, state: Any) -> tuple[np.ndarray, Any]:
        """Return the rows still owed (T, V) and the state of a new stream."""


class OnnxState(NamedTuple):
    """A stream as the ONNX graph carries it."""

    samples: np.ndarray  # (R,) audio not yet consumed
    hidden: np.ndarray  # (L, 1, H)
    cell: np.ndarray  # (L, 1, H)
    context: np.ndarray  # (1, C, H)
    frames: int  # acoustic frames consumed since the start, warm-up included


class OnnxEngine:
    """Runs the exported graph with onnxruntime."""

    def __init__(self, graph: Path, rates: Rates, head: str = "characters", threads: int = 1) -> None:
        """Load a graph.

        Args:
            graph: the ``model.onnx`` of a model folder.
            rates: how its frames lie on the audio.
            head: which of its outputs to give: ``characters`` or ``phones``.
            threads: cores one call may use; more than one pays only for big chunks.
        Raises:
            ValueError: the graph has no such head, or cannot be loaded.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a family of classes with nothing but Exception in common
            raise ValueError(f"{graph}: onnxruntime cannot load it ({str(error).splitlines()[0]})") from error
        heads = {output.name: output.shape[-1] for output in self._session.get_outputs()}
        if head not in heads:
            raise ValueError(f"{graph}: no output named {head!r}; it has {', '.join(heads)}")
        self.rates = rates
        self._outputs = [head, "next_hidden", "next_cell", "next_context"]
        self._no_rows = np.zeros((0, heads[head]), np.float32)
        shapes = {value.name: [size if isinstance(size, int) else 1 for size in value.shape] for value in
                  self._session.get_inputs() if value.name != "samples"}
        zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        self._start = OnnxState(np.zeros(0, np.float32), zeros["hidden"], zeros["cell"], zeros["context"], 0)

    def start(self) -> OnnxState:
        return self._start

    def step(self, state: OnnxState, samples: np.ndarray) -> tuple[np.ndarray, OnnxState]:
        rows = []
        for block in _blocks(samples, self.rates):
            log_probs, state = self._step(state, block)
            rows.append(log_probs)
        return _stacked(rows, self._no_rows), state

    def finish(self, state: OnnxState) -> tuple[np.ndarray, OnnxState]:
        heard = state.frames * self.rates.frame_samples + len(state.samples)
        log_probs, _ = self.step(state, np.zeros(self.rates.tail_samples(heard), np.float32))
        return log_probs, self.start()

    def _step(self, state: OnnxState, samples: np.ndarray) -> tuple[np.ndarray, OnnxState]:
        samples = np.concatenate([state.samples, samples])  # (R + N,)
        frames = self.rates.frames_within(len(samples))
        if frames == 0:
            return self._no_rows, state._replace(samples=samples)
        consumed = frames * self.rates.frame_samples
        heard = samples[: consumed - self.rates.frame_samples + self.rates.window_samples]
        log_probs, hidden, cell, context = self._session.run(
            self._outputs,
            {"samples": heard[None], "hidden": state.hidden, "cell": state.cell, "context": state.context},
        )
        warm_up = min(frames, max(0, self.rates.delay_frames - state.frames))
        # A copy, so that the few samples kept do not hold a whole block of audio in memory.
        state = OnnxState(samples[consumed:].copy(), hidden, cell, context, state.frames + frames)
        return log_probs[0, warm_up:], state


class TorchState(NamedTuple):
    """A stream as the torch model carries it."""

    acoustic: AcousticState | None
    samples: int  # heard since the start


class TorchEngine:
    """Runs the torch model itself: for training runs in progress and as the reference for the other engine."""

    def __init__(self, model: AcousticModel, head: str = "characters") -> None:
        config = model.config
        if head not in ("characters", "phones"):
            raise ValueError(f"the model has no head {head!r}; it has characters, phones")
        self.rates = Rates(
            config.frontend.sample_rate, config.frame_samples, config.window_samples, config.delay_frames
        )
        self._model = model.eval()
        self._head = head
        self._no_rows = np.zeros((0, getattr(config, head)), np.float32)

    def start(self) -> TorchState:
        return TorchState(None, 0)

    def step(self, state: TorchState, samples: np.ndarray) -> tuple[np.ndarray, TorchState]:
        import torch

        device = self._model.mel_mean.device
        rows = []
        acoustic = state.acoustic
        with torch.inference_mode():
            for block in _blocks(samples, self.rates):
                log_probs, acoustic = self._model(torch.from_numpy(block).to(device)[None], acoustic)
                rows.append(getattr(log_probs, self._head)[0].cpu().numpy())
        return _stacked(rows, self._no_rows), TorchState(acoustic, state.samples + len(samples))

    def finish(self, state: TorchState) -> tuple[np.ndarray, TorchState]:
        log_probs, _ = self.step(state, np.zeros(self.rates.tail_samples(state.samples), np.float32))
        return log_probs, self.start()


def _blocks(samples: np.ndarray, rates: Rates) -> Iterator[np.ndarray]:
    size = round(BLOCK_SECONDS * rates.sample_rate)
    return (samples[start : start + size] for start in range(0, len(samples), size))


def _stacked(rows: list[np.ndarray], no_rows: np.ndarray) -> np.ndarray:
    return rows[0] if len(rows) == 1 else np.concatenate([no_rows, *rows])
