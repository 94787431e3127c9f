"""Ways to cut a recording into chunks, for the tests that any of them gives the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st

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
