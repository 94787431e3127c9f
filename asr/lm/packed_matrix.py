"""Matrices in 8 bits, laid out for the products of `asr/native/int8.h`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from asr.native import Matrix

LANES, FOUR = 8, 4  # rows of a block, columns that lie together


def pack_matrix(codes: np.ndarray, scales: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of a matrix.

    Args:
        codes: (M, K) int8.
        scales: (M,) float32, of each row.
    Returns:
        ``codes`` (B, C / 4, 8, 4) int8, ``scales`` (8 B,) float32, ``sums`` (8 B,) int32, 128 times those of the rows.
    """
    rows, columns = codes.shape
    padded = np.pad(codes, ((0, -rows % LANES), (0, -columns % FOUR)))
    blocks = padded.reshape(len(padded) // LANES, LANES, -1, FOUR).swapaxes(1, 2)
    return {
        "codes": np.ascontiguousarray(blocks),
        "scales": np.pad(scales.astype(np.float32), (0, -rows % LANES)),
        "sums": 128 * padded.sum(axis=1, dtype=np.int32),
    }


def matrix_of(arrays: Mapping[str, np.ndarray], rows: int, columns: int) -> Matrix:
    """What points to the arrays of `pack_matrix`, which must outlive it; padding is not counted.

    Raises:
        ValueError: they are of a matrix of another size.
    """
    blocks, fours = arrays["codes"].shape[:2]
    if (blocks, fours) != (-(-rows // LANES), -(-columns // FOUR)):
        raise ValueError(f"a matrix of {rows} by {columns} numbers is in {blocks} blocks of {fours} fours")
    pointers = {name: arrays[name].ctypes.data for name in ("codes", "scales", "sums")}
    return Matrix(**pointers, rows=rows, columns=fours * FOUR)
