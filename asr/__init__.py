"""Rill: live speech recognition on an ordinary CPU."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.recognizer import Recognizer as Recognizer

__all__ = ["Recognizer"]


def __getattr__(name: str):
    # `import asr` stays instant: numpy and onnxruntime come with the first use of the recogniser.
    if name == "Recognizer":
        from asr.recognizer import Recognizer

        return Recognizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
