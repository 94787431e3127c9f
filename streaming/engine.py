"""Engines: audio chunks in, log-probabilities out, with everything a stream remembers in an immutable state.

Any chunking of the audio gives the same rows. Row k describes samples
``[k * frame_samples, k * frame_samples + window_samples)`` and is returned once ``delay_frames`` more frames have been
read and, for networks that run whole blocks only, the last of these completes a block. ``finish`` appends just enough
zeros that the last sample lies in a frame and that every frame is returned: a whole stream of n > 0 samples gives
``Rates.frames_covering(n)`` rows, an empty stream none.

With full context a bidirectional network reads the whole recording, or five minutes of it, before it returns any row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from asr.streaming.framed import FramedEngine, FramedState, stacked
from asr.streaming.rates import Rates, pieces

if TYPE_CHECKING:
    from asr.models.acoustic import AcousticModel, AcousticState

BLOCK = "block_frames"  # the input of a bidirectional graph that holds the number of frames in a block

__all__ = ["Engine", "EngineError", "OnnxEngine", "Rates", "TorchEngine"]


class EngineError(ValueError):
    """A network that cannot be loaded, or lacks what is asked of it."""


class Engine(Protocol):
    """A network ready to run. One engine serves any number of streams and threads: it keeps no state of a stream."""

    rates: Rates
    full_context: bool  # whether it returns rows only at the end of a recording: not for live streams

    def start(self) -> Any:
        """The state of a stream before any audio."""

    def step(self, state: Any, samples: np.ndarray) -> tuple[np.ndarray, Any]:
        """Consume samples (N,) float32 in [-1, 1] at the model's rate, N >= 0; return log-probs (T, V), T >= 0."""

    def finish(self, state: Any) -> tuple[np.ndarray, Any]:
        """Return the remaining rows (T, V) and the state of a new stream."""

    def close(self) -> None:
        """Release what the engine holds beyond memory; steps under way are finished, later ones may be refused."""


class OnnxEngine(FramedEngine):
    """Runs the exported graph with onnxruntime."""

    def __init__(
        self, graph: Path, rates: Rates, head: str = "characters", threads: int = 1, full_context: bool = False
    ) -> None:
        """Load a graph.

        Args:
            graph: the ``model.onnx`` of a model folder.
            rates: how its frames lie on the audio.
            head: which of its outputs to return: ``characters``, ``phones`` or ``states``.
            threads: cores that one call may use; more than one pays off only for long chunks.
            full_context: whether a bidirectional network reads a recording to its end before it returns rows.
        Raises:
            EngineError: the graph has no such head, is not bidirectional, or cannot be loaded.
        """
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # beside the variable of the environment that asr/__init__.py sets

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a family of classes with nothing but Exception in common
            raise EngineError(f"{graph}: onnxruntime cannot load it ({str(error).splitlines()[0]})") from error
        heads = {output.name: output.shape[-1] for output in self._session.get_outputs()}
        if head not in heads:
            raise EngineError(f"{graph}: no output named {head!r}; it has {', '.join(heads)}")
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        self._in_blocks = inputs.pop(BLOCK, None) is not None
        if full_context and not self._in_blocks:
            raise EngineError(f"{graph}: full context is for bidirectional networks (blstm)")
        del inputs["samples"]
        shapes = ([size if isinstance(size, int) else 1 for size in shape] for shape in inputs.values())
        start = FramedState(np.zeros(0, np.float32), tuple(np.zeros(shape, np.float32) for shape in shapes), 0)
        super().__init__(rates, rates.with_full_context() if full_context else rates, start, heads[head])
        self.full_context = full_context
        self._memory = tuple(inputs)
        self._batch_axes = tuple(shape.index("batch") for shape in inputs.values())
        self._outputs = [head, *(f"next_{name}" for name in inputs)]

    def advance(self, states: Sequence[FramedState], frames: int) -> tuple[list[np.ndarray], list[FramedState]]:
        rates = self.rates
        read = (frames - 1) * rates.frame_samples + rates.window_samples
        together = zip(*(state.memory for state in states), strict=True)
        inputs = {
            "samples": np.stack([state.samples[:read] for state in states]),  # (B, N)
            **{
                name: _together(parts, axis)
                for name, parts, axis in zip(self._memory, together, self._batch_axes, strict=True)
            },
        }
        if self._in_blocks:
            inputs[BLOCK] = np.array(min(frames, self._run_rates.block_frames), np.int64)
        log_probs, *memory = self._session.run(self._outputs, inputs)
        rows, after = [], []
        for one, state in enumerate(states):
            rows.append(log_probs[one, self._warm_up(state, frames) :])
            own = tuple(_apart(part, one, axis) for part, axis in zip(memory, self._batch_axes, strict=True))
            after.append(self._after(state, frames, own))
        return rows, after


class TorchState(NamedTuple):
    """A stream as the torch model carries it."""

    acoustic: AcousticState | None
    samples: int  # received since the start


class TorchEngine:
    """Runs the torch model itself: for training runs in progress and as the reference for the other engine."""

    def __init__(self, model: AcousticModel, head: str = "characters", full_context: bool = False) -> None:
        """Take a model; arguments and errors as for `OnnxEngine`."""
        config = model.config
        heads = ["characters", "phones", *(["states"] if config.states else [])]
        if head not in heads:
            raise EngineError(f"the model has no head {head!r}; it has {', '.join(heads)}")
        if full_context and config.encoder != "blstm":
            raise EngineError(f"full context is for bidirectional networks (blstm), not for encoder {config.encoder}")
        self.full_context = full_context
        self.rates = Rates(
            config.frontend.sample_rate,
            config.frame_samples,
            config.window_samples,
            config.delay_frames,
            config.block_frames,
        )
        self._run_rates = self.rates.with_full_context() if full_context else self.rates
        self._model = model.eval()
        self._head = head
        self._no_rows = np.zeros((0, getattr(config, head)), np.float32)

    def start(self) -> TorchState:
        return TorchState(None, 0)

    def step(self, state: TorchState, samples: np.ndarray) -> tuple[np.ndarray, TorchState]:
        rows = []
        for piece in pieces(samples, self.rates):
            log_probs, state = self._run(state, piece, self._run_rates.block_frames)
            rows.append(log_probs)
        return stacked(rows, self._no_rows), state

    def finish(self, state: TorchState) -> tuple[np.ndarray, TorchState]:
        owed = self.rates.rows_owed(state.samples, state.acoustic.frames if state.acoustic else 0)
        log_probs, state = self.step(state, np.zeros(self.rates.tail_samples(state.samples), np.float32))
        waiting = state.acoustic.samples.shape[1] if state.acoustic else 0
        if frames := self.rates.blocks_within(waiting):  # with full context: the last block is shorter
            last, _ = self._run(state, np.zeros(0, np.float32), frames)
            log_probs = stacked([log_probs, last], self._no_rows)
        return log_probs[:owed], self.start()

    def close(self) -> None:
        """Nothing to release."""

    def _run(self, state: TorchState, samples: np.ndarray, block_frames: int) -> tuple[np.ndarray, TorchState]:
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(samples).to(self._model.mel_mean.device)[None]
            log_probs, acoustic = self._model(batch, state.acoustic, block_frames)
        rows = getattr(log_probs, self._head)[0].cpu().numpy()
        return rows, TorchState(acoustic, state.samples + len(samples))


def _together(parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Concatenate the arrays of single streams along the batch axis."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis)


def _apart(together: np.ndarray, one: int, axis: int) -> np.ndarray:
    """The part of one stream: a copy, so that its state does not keep the whole batch in memory."""
    if together.shape[axis] == 1:
        return together
    return together.take([one], axis)
