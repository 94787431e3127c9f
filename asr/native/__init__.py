"""The beam search and the network in C, loaded. Their functions release Python's global lock while they run."""

from __future__ import annotations

import ctypes
import os
import tempfile
import threading
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_uint32, c_void_p
from functools import cache
from pathlib import Path

import numpy as np

from asr.errors import RillError
from asr.files import cache_folder
from asr.native.compiler import NAME, compile_library, sources_digest

# As in records.h. Of a junction ``place`` and ``units`` hold floats.
RECORD = np.dtype([("parent", "<u4"), ("word", "<u4"), ("place", "<u4"), ("units", "<u4"), ("node", "<u4")])
NONE = 0xFFFFFFFF  # no record, no word
JUNCTION = 0x80000000  # flag in a record's word: it is not the entry of a phone, and the rest is another record


class Ngrams(ctypes.Structure):
    """As in ngrams.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("last", "prob_codes", "prob_values", "marks", "ranks")),
        *((name, c_void_p) for name in ("backoff_codes", "backoff_values", "children", "suffixes")),
        ("words", c_uint32),
    ]


class Matrix(ctypes.Structure):
    """As in int8.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("codes", "scales", "sums")),
        *((name, c_uint32) for name in ("rows", "columns")),
    ]


class Layer(ctypes.Structure):
    """As in lstm.h."""

    _fields_ = [("input", Matrix), ("recurrent", Matrix), ("bias", c_void_p)]


class Band(ctypes.Structure):
    """As in lstm.h."""

    _fields_ = [("vectors", Matrix), ("narrow", Matrix), ("widen", Matrix)]


class Lstm(ctypes.Structure):
    """As in lstm.h."""

    _fields_ = [
        ("layers", POINTER(Layer)),
        ("rare", POINTER(Band)),
        *((name, c_void_p) for name in ("ends", "head_bias", "output_bias")),
        *((name, Matrix) for name in ("head", "output")),
        *((name, c_uint32) for name in ("depth", "size", "width", "bands")),
    ]


class Model(ctypes.Structure):
    """As in types.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("first", "arcs", "finals", "pausing", "enter", "stay", "phone_of")),
        ("ngrams", POINTER(Ngrams)),
        ("ngram_word", c_void_p),
        ("bonus", c_void_p),
        ("most_bonus", c_float),
        *((name, c_uint32) for name in ("start", "phones", "forgets")),
        *((name, c_float) for name in ("language_weight", "first_weight", "second_weight", "word_cost", "pause_cost")),
        ("beam", c_float),
        ("lattice_beam", c_float),
        ("most_active", c_uint32),
        ("identity", c_uint32),
        ("lstm_weight", c_float),
        ("lstm", POINTER(Lstm)),
        ("lstm_word", c_void_p),
    ]


class NetworkSizes(ctypes.Structure):
    """As ``Sizes`` in packing.h."""

    _fields_ = [
        *((name, c_uint32) for name in ("mels", "stack", "size", "layers", "head_layer", "hop", "window", "fft")),
        *((name, c_uint32) for name in ("outputs", "kernel")),
        ("floor", c_float),
        ("late", c_uint32 * 16),
    ]


_OPENING = threading.Lock()

_SIGNATURES = {
    "rill_scratch_new": (c_void_p, []),
    "rill_scratch_free": (None, [c_void_p]),
    "rill_state_free": (None, [c_void_p]),
    "rill_advance": (c_void_p, [POINTER(Model), *[c_void_p] * 4, c_uint32, c_uint32]),
    "rill_rescore": (c_int, [POINTER(Model), c_void_p, c_void_p]),
    "rill_lstm_ends": (c_int, [POINTER(Model), *[c_void_p] * 3]),
    "rill_lstm_context": (c_int, [POINTER(Model), c_void_p, c_void_p, c_uint32, c_void_p]),
    "rill_lstm_read": (c_int, [POINTER(Lstm), c_void_p, c_uint32, c_uint32, c_void_p, c_void_p]),
    "rill_lstm_log_probs": (c_int, [POINTER(Lstm), *[c_void_p] * 3, c_uint32, c_void_p]),
    "rill_use_kernel": (c_char_p, [c_uint32]),
    "rill_node_count": (c_uint32, [c_void_p]),
    "rill_row_count": (c_uint32, [c_void_p]),
    "rill_best": (c_uint32, [POINTER(Model), c_void_p, c_int, c_void_p, POINTER(c_double), POINTER(c_float)]),
    "rill_ending_cost": (c_float, [POINTER(Model), c_void_p]),
    "rill_path": (c_uint32, [c_void_p, c_uint32, c_void_p, c_void_p, c_uint32]),
    "rill_ends": (c_uint32, [POINTER(Model), *[c_void_p] * 5, c_uint32]),
    "rill_record_count": (c_uint32, [c_void_p]),
    "rill_token_count": (c_uint32, [c_void_p]),
    "rill_records": (c_void_p, [c_void_p]),
    "rill_record_size": (c_uint32, []),
    "rill_sources": (c_char_p, []),
    "rill_graph_link": (None, [c_void_p, c_void_p, c_uint32]),
    "rill_network_kernel": (c_uint32, []),
    "rill_network_new": (c_void_p, [POINTER(NetworkSizes), c_void_p]),
    "rill_network_run": (c_int, [c_void_p, c_uint32, c_uint32, *[c_void_p] * 4]),
    "rill_network_free": (None, [c_void_p]),
    "rill_ngrams_link": (c_int, [*[c_void_p] * 4, *[c_uint32] * 3, *[c_void_p] * 2]),
}


def library() -> ctypes.CDLL:
    """The library that was built with the package; without one of these sources it is compiled once, into the cache.

    Raises:
        RillError: there is none, and no compiler to make it.
    """
    with _OPENING:  # network and search may be opened at the same time
        return _library()


@cache
def _library() -> ctypes.CDLL:
    digest = sources_digest()
    loaded = _loaded(Path(__file__).with_name(NAME), digest) or _loaded(_compiled(digest), digest)
    if loaded is None or loaded.rill_record_size() != RECORD.itemsize:
        raise RillError("the beam search was built for another version of Rill; install Rill again")
    return loaded


def _loaded(path: Path, digest: str) -> ctypes.CDLL | None:
    """The library at a path; None where it is missing, for another machine, or made of other sources."""
    try:
        loaded = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    return loaded if loaded.rill_sources() == digest.encode() else None


def _compiled(digest: str) -> Path:
    folder = cache_folder() or Path(tempfile.mkdtemp(prefix="rill-"))
    path = folder / f"beam-{digest}{Path(NAME).suffix}"
    if not path.is_file():
        partial = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            compile_library(partial)
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise RillError(f"the beam search is not built, and cannot be: {error}") from error
    return path


__all__ = [
    "JUNCTION",
    "NONE",
    "RECORD",
    "Band",
    "Layer",
    "Lstm",
    "Matrix",
    "Model",
    "NetworkSizes",
    "Ngrams",
    "library",
]
