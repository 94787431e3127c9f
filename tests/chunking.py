"""Ways to cut a recording into chunks and to hear them, for the tests that any of them gives the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from hypothesis import strategies as st

from asr.streaming.engine import Engine
from asr.streaming.results import Result
from asr.streaming.runner import Runner

# Chunks of one size, or of all sizes mixed from none and one sample up; what is left is one more chunk.
chunk_sizes = st.one_of(
    st.integers(200, 200_000).map(lambda size: [size] * (200_000 // size)),
    st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2_000), st.integers(0, 40_000)), max_size=40),
)


def chunks(samples: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    """Consecutive pieces of these sizes, then the rest."""
    start = 0
    for size in sizes:
        yield samples[start : start + size]
        start += size
    yield samples[start:]


def run(engine: Engine, pieces: Iterable[np.ndarray]) -> np.ndarray:
    """All rows of a stream, (T, V)."""
    state = engine.start()
    rows = []
    for piece in pieces:
        log_probs, state = engine.step(state, piece)
        rows.append(log_probs)
    log_probs, _ = engine.finish(state)
    return np.concatenate([*rows, log_probs])


def heard(runner: Runner, samples: np.ndarray, cuts: Sequence[int]) -> list[Result]:
    """All results of a stream that is cut at these samples."""
    state = runner.start()
    results: list[Result] = []
    for chunk in np.split(samples, sorted(cuts)):
        new, state = runner.step(state, chunk)
        results += new
    return results + list(runner.finish(state)[0])
