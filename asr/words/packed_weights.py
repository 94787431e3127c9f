"""Weights of small networks that run in numpy: in 8 bits with a scale per row, as bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np


def pack_weights(weights: dict[str, np.ndarray]) -> bytes:
    """Weights by name as bytes: matrices in 8 bits with a scale per row, vectors in float32."""
    packed: dict[str, Any] = {}
    for name, value in weights.items():
        if value.ndim < 2:
            packed[name] = value.astype(np.float32)
            continue
        scale = np.maximum(np.abs(value).max(axis=1, keepdims=True), 1e-12) / 127
        packed[name], packed[f"{name}.scale"] = np.rint(value / scale).astype(np.int8), scale.astype(np.float32)
    content = io.BytesIO()
    np.savez_compressed(content, **packed)
    return content.getvalue()


def stored_weights(content: bytes) -> dict[str, np.ndarray]:
    """What `pack_weights` made, as it is stored: codes of matrices, scales (M, 1) named with ``.scale``, vectors.

    Raises:
        KeyError, ValueError, zipfile.BadZipFile and what else numpy raises: it is anything else.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def unpack_weights(content: bytes) -> dict[str, np.ndarray]:
    """The float32 weights of what `pack_weights` made; raises what `stored_weights` does."""
    stored = stored_weights(content)
    return {
        name: value * stored[f"{name}.scale"] if value.ndim > 1 else value
        for name, value in stored.items()
        if not name.endswith(".scale")
    }


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function, without overflow."""
    return 0.5 * np.tanh(0.5 * x) + 0.5
