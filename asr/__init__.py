"""Rill: live speech recognition on an ordinary CPU."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.recognizer import Recognizer as Recognizer

_HERE = os.path.dirname(__file__)
if not os.path.isdir(os.path.join(_HERE, "models")):
    # A clone: `asr.models` and `asr.streaming` lie beside this folder; only a build puts them into it.
    __path__.append(os.path.dirname(_HERE))

__all__ = ["Recognizer"]


def __getattr__(name: str):
    # `import asr` stays instant: numpy and onnxruntime come with the first use of the recogniser.
    if name == "Recognizer":
        from asr.recognizer import Recognizer

        return Recognizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
