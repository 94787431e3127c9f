"""Engines: audio chunks in, log-probabilities out, with everything a stream remembers in an immutable state.

Any chunking of the audio gives the same rows. Row k speaks of samples
``[k * frame_samples, k * frame_samples + window_samples)`` and appears once the network has heard ``delay_frames``
more frames. ``finish`` appends just enough zeros that the last sample lies in a frame and that every frame comes out:
over a whole stream of n > 0 samples there are ``Rates.frames_covering(n)`` rows, over an empty stream none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        for block in blocks(samples, self.rates):
            state = self.heard(state, block)
            if frames := self.frames_waiting(state):
                (log_probs,), (state,) = self.advance((state,), frames)
                rows.append(log_probs)
        return self.joined(rows), state

    def finish(self, state: OnnxState) -> tuple[np.ndarray, OnnxState]:
        log_probs, _ = self.step(state, self.tail(state))
        return log_probs, self.start()

    def heard(self, state: OnnxState, samples: np.ndarray) -> OnnxState:
        """The state with samples (N,) added to those that wait."""
        return state._replace(samples=np.concatenate([state.samples, samples]))

    def frames_waiting(self, state: OnnxState) -> int:
        """Acoustic frames for which all samples are there."""
        return self.rates.frames_within(len(state.samples))

    def tail(self, state: OnnxState) -> np.ndarray:
        """The zeros that end a stream: with them every frame that covers its audio comes out."""
        heard = state.frames * self.rates.frame_samples + len(state.samples)
        return np.zeros(self.rates.tail_samples(heard), np.float32)

    def joined(self, rows: list[np.ndarray]) -> np.ndarray:
        """Rows of consecutive frames as one array (T, V)."""
        return _stacked(rows, self._no_rows)

    def advance(self, states: Sequence[OnnxState], frames: int) -> tuple[list[np.ndarray], list[OnnxState]]:
        """Run the network once over the next frames of B streams.

        Args:
            states: of the streams; each has at least ``frames`` frames waiting.
            frames: to consume of each, at least 1.
        Returns:
            Rows (T, V) of each stream, T <= frames, and its next state.
        """
        rates = self.rates
        consumed = frames * rates.frame_samples
        heard = consumed - rates.frame_samples + rates.window_samples
        log_probs, hidden, cell, context = self._session.run(
            self._outputs,
            {
                "samples": np.stack([state.samples[:heard] for state in states]),  # (B, N)
                "hidden": _together([state.hidden for state in states], axis=1),
                "cell": _together([state.cell for state in states], axis=1),
                "context": _together([state.context for state in states], axis=0),
            },
        )
        rows, after = [], []
        for one, state in enumerate(states):
            warm_up = min(frames, max(0, rates.delay_frames - state.frames))
            rest = state.samples[consumed:]
            if len(rest) < rates.window_samples:
                rest = rest.copy()  # so that the few samples kept do not hold a whole block of audio in memory
            rows.append(log_probs[one, warm_up:])
            after.append(
                OnnxState(rest, _apart(hidden, one, 1), _apart(cell, one, 1), _apart(context, one, 0),
                          state.frames + frames)
            )  # fmt: skip
        return rows, after


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
            for block in blocks(samples, self.rates):
                log_probs, acoustic = self._model(torch.from_numpy(block).to(device)[None], acoustic)
                rows.append(getattr(log_probs, self._head)[0].cpu().numpy())
        return _stacked(rows, self._no_rows), TorchState(acoustic, state.samples + len(samples))

    def finish(self, state: TorchState) -> tuple[np.ndarray, TorchState]:
        log_probs, _ = self.step(state, np.zeros(self.rates.tail_samples(state.samples), np.float32))
        return log_probs, self.start()


def blocks(samples: np.ndarray, rates: Rates) -> Iterator[np.ndarray]:
    """Samples (N,) in pieces of at most ``BLOCK_SECONDS``."""
    size = round(BLOCK_SECONDS * rates.sample_rate)
    return (samples[start : start + size] for start in range(0, len(samples), size))


def _stacked(rows: list[np.ndarray], no_rows: np.ndarray) -> np.ndarray:
    return rows[0] if len(rows) == 1 else np.concatenate([no_rows, *rows])


def _together(parts: list[np.ndarray], axis: int) -> np.ndarray:
    """Arrays of one stream each as one of all, along the axis of the batch."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis)


def _apart(together: np.ndarray, one: int, axis: int) -> np.ndarray:
    """The part of one stream: a copy, so that its state does not keep those of others in memory."""
    if together.shape[axis] == 1:
        return together
    return together.take([one], axis)
