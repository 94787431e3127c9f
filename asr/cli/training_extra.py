"""What commands say when the libraries of training are not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from asr.errors import UsageError


@contextmanager
def training_extra() -> Iterator[None]:
    """Turn a missing library, imported inside, into one line that says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"this command needs {error.name}: pip install 'rill-asr[train]'") from error
