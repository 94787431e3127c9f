"""Errors, by who can repair them.

Every error a user can cause derives from `RillError`, whose message is one line that says what was given, what is
allowed and what to do. Commands print that line on stderr and exit with the error's `exit_code`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.streaming.results import Result


def how_to_install(extra: str) -> str:
    """What to type to get an optional part of Rill; it names no package index, since none has Rill."""
    return f"in a clone of Rill: pip install '.[{extra}]' (of a wheel: pip install 'rill_asr-...whl[{extra}]')"


class RillError(Exception):
    """Base of all errors with a message meant for the user."""

    exit_code = 1


class RillWarning(UserWarning):
    """What works, though likely not as it was meant; commands print it as one line on stderr."""


class UsageError(RillError):
    """A wrong option, argument or argument type: nothing was attempted."""

    exit_code = 2


class AudioError(RillError):
    """Audio that is missing, cannot be decoded or holds values that are not audio."""


class DamagedAudioError(AudioError):
    """Audio of which only a part can be decoded; ``result`` is what was recognised in that part."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


class ServerError(RillError):
    """A server that cannot be reached, refuses, or has broken off."""


class OutputError(RillError):
    """A file that cannot be written: a full disk, a name that the file system does not take."""


class DataError(RillError):
    """A table, text or lexicon that cannot be used."""


class ModelError(RillError):
    """A model folder that is unknown, incomplete or altered."""


class UnknownModelError(ModelError):
    """No model of that name and no such folder."""

    exit_code = 2
