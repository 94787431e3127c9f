"""What the C library does with memory, where that is glibc: it keeps more than it is asked for."""

from __future__ import annotations

import ctypes
from contextlib import suppress

ARENA_MAX = -8  # M_ARENA_MAX of mallopt(3)


def give_back_memory() -> None:
    """Let the system have the memory that was used for a while and is free again.

    Of what unpacking took as much would stay as is in use afterwards.
    """
    _call("malloc_trim", 0)


def limit_arenas(count: int) -> None:
    """Let threads that start from now on share so many arenas, which are what each takes its memory from.

    By default there are eight times as many as cores, and each keeps some MB of what its threads have freed.
    """
    _call("mallopt", ARENA_MAX, count)


def _call(name: str, *arguments: int) -> None:
    """Call a function of the C library; other libraries lack these functions, and on Windows there is none to ask."""
    with suppress(AttributeError, OSError, TypeError):
        getattr(ctypes.CDLL(None), name)(*arguments)
