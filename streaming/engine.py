"""Engines: audio chunks in, log-probabilities out, with everything a stream remembers in an immutable state.

Any chunking of the audio gives the same rows. Row k describes samples
``[k * frame_samples, k * frame_samples + window_samples)`` and is returned once ``delay_frames`` more frames have been
read and, for networks that run whole blocks only, the last of these completes a block. ``finish`` appends just enough
zeros that the last sample lies in a frame and that every frame is returned: a whole stream of n > 0 samples gives
``Rates.frames_covering(n)`` rows, an empty stream none.

With full context a bidirectional network reads the whole recording, or five minutes of it, before it returns any row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from asr.models.acoustic import AcousticModel, AcousticState

BLOCK = "block_frames"  # the input of a bidirectional graph that holds the number of frames in a block
PIECE_SECONDS = 10.0  # longest audio given to a network at once: bounds memory whatever the size of a chunk
FULL_CONTEXT_SECONDS = 300.0  # length of a block with full context


class EngineError(ValueError):
    """A network that cannot be loaded, or lacks what is asked of it."""


@dataclass(frozen=True)
class Rates:
    """How a model's frames lie on the audio."""

    sample_rate: int  # Hz
    frame_samples: int  # from one acoustic frame to the next
    window_samples: int  # samples that one acoustic frame covers
    delay_frames: int  # look-ahead of the network
    block_frames: int = 1  # the network runs this many frames at once, or a multiple

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

    def blocks_within(self, samples: int) -> int:
        """Frames of the whole blocks that lie inside this many samples."""
        return self.frames_within(samples) // self.block_frames * self.block_frames

    def tail_samples(self, samples: int) -> int:
        """Zeros to append to a stream of this many samples so that the network returns every covering frame."""
        if samples == 0:
            return 0
        frames = self.frames_covering(samples) + self.delay_frames
        frames = -(-frames // self.block_frames) * self.block_frames
        return (frames - 1) * self.frame_samples + self.window_samples - samples

    def rows_owed(self, samples: int, frames: int) -> int:
        """Rows still to come for a stream of this many samples, of which the network has run so many frames."""
        return self.frames_covering(samples) - max(0, frames - self.delay_frames)

    def with_full_context(self) -> Rates:
        """The same frames in blocks of `FULL_CONTEXT_SECONDS`."""
        frames = self.frames(FULL_CONTEXT_SECONDS)
        return replace(self, block_frames=max(1, frames // self.block_frames) * self.block_frames)


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


class OnnxState(NamedTuple):
    """A stream as the ONNX graph carries it."""

    samples: np.ndarray  # (R,) audio not yet consumed
    memory: tuple[np.ndarray, ...]  # recurrent state of the graph, each array with a batch of 1
    frames: int  # acoustic frames consumed since the start, warm-up included


class OnnxEngine:
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
        self.full_context = full_context
        self.rates = rates
        self._run_rates = rates.with_full_context() if full_context else rates
        self._memory = tuple(inputs)
        self._batch_axes = tuple(shape.index("batch") for shape in inputs.values())
        self._outputs = [head, *(f"next_{name}" for name in inputs)]
        self._no_rows = np.zeros((0, heads[head]), np.float32)
        shapes = ([size if isinstance(size, int) else 1 for size in shape] for shape in inputs.values())
        self._start = OnnxState(np.zeros(0, np.float32), tuple(np.zeros(shape, np.float32) for shape in shapes), 0)

    def start(self) -> OnnxState:
        return self._start

    def step(self, state: OnnxState, samples: np.ndarray) -> tuple[np.ndarray, OnnxState]:
        rows = []
        for piece in pieces(samples, self.rates):
            state = self.accept(state, piece)
            if frames := self.frames_waiting(state):
                (log_probs,), (state,) = self.advance((state,), frames)
                rows.append(log_probs)
        return self.joined(rows), state

    def finish(self, state: OnnxState) -> tuple[np.ndarray, OnnxState]:
        owed = self.rows_owed(state)
        log_probs, state = self.step(state, self.tail(state))
        if frames := self.rates.blocks_within(len(state.samples)):  # with full context: the last block is shorter
            (last,), _ = self.advance((state,), frames)
            log_probs = self.joined([log_probs, last])
        return log_probs[:owed], self.start()

    def close(self) -> None:
        """Nothing to release."""

    def accept(self, state: OnnxState, samples: np.ndarray) -> OnnxState:
        """The state with samples (N,) appended to those not yet consumed."""
        return state._replace(samples=np.concatenate([state.samples, samples]))

    def frames_waiting(self, state: OnnxState) -> int:
        """Acoustic frames whose samples have all arrived, in whole blocks."""
        return self._run_rates.blocks_within(len(state.samples))

    def tail(self, state: OnnxState) -> np.ndarray:
        """The zeros that end a stream: with them every frame that covers its audio is returned."""
        return np.zeros(self.rates.tail_samples(self._samples_so_far(state)), np.float32)

    def rows_owed(self, state: OnnxState) -> int:
        """Rows still to come if the stream ends here; those beyond describe its tail only."""
        return self.rates.rows_owed(self._samples_so_far(state), state.frames)

    def joined(self, rows: list[np.ndarray]) -> np.ndarray:
        """Rows of consecutive frames as one array (T, V)."""
        return _stacked(rows, self._no_rows)

    def advance(self, states: Sequence[OnnxState], frames: int) -> tuple[list[np.ndarray], list[OnnxState]]:
        """Run the network once over the next frames of B streams.

        Args:
            states: of the streams, each with at least ``frames`` frames waiting.
            frames: to consume from each, at least 1, in whole blocks.
        Returns:
            Rows (T, V) of each stream, T <= frames, and its next state.
        """
        rates = self.rates
        consumed = frames * rates.frame_samples
        read = consumed - rates.frame_samples + rates.window_samples
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
            warm_up = min(frames, max(0, rates.delay_frames - state.frames))
            rest = state.samples[consumed:]
            if len(rest) < rates.window_samples:
                rest = rest.copy()  # a view of these few samples would keep the whole block of audio in memory
            rows.append(log_probs[one, warm_up:])
            own = tuple(_apart(part, one, axis) for part, axis in zip(memory, self._batch_axes, strict=True))
            after.append(OnnxState(rest, own, state.frames + frames))
        return rows, after

    def _samples_so_far(self, state: OnnxState) -> int:
        """Samples since the start of a stream."""
        return state.frames * self.rates.frame_samples + len(state.samples)


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
        return _stacked(rows, self._no_rows), state

    def finish(self, state: TorchState) -> tuple[np.ndarray, TorchState]:
        owed = self.rates.rows_owed(state.samples, state.acoustic.frames if state.acoustic else 0)
        log_probs, state = self.step(state, np.zeros(self.rates.tail_samples(state.samples), np.float32))
        waiting = state.acoustic.samples.shape[1] if state.acoustic else 0
        if frames := self.rates.blocks_within(waiting):  # with full context: the last block is shorter
            last, _ = self._run(state, np.zeros(0, np.float32), frames)
            log_probs = _stacked([log_probs, last], self._no_rows)
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


def pieces(samples: np.ndarray, rates: Rates) -> Iterator[np.ndarray]:
    """Samples (N,) in pieces of at most ``PIECE_SECONDS``."""
    size = round(PIECE_SECONDS * rates.sample_rate)
    return (samples[start : start + size] for start in range(0, len(samples), size))


def _stacked(rows: list[np.ndarray], no_rows: np.ndarray) -> np.ndarray:
    return rows[0] if len(rows) == 1 else np.concatenate([no_rows, *rows])


def _together(parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Concatenate the arrays of single streams along the batch axis."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis)


def _apart(together: np.ndarray, one: int, axis: int) -> np.ndarray:
    """The part of one stream: a copy, so that its state does not keep the whole batch in memory."""
    if together.shape[axis] == 1:
        return together
    return together.take([one], axis)
