"""Rill: live speech recognition on an ordinary CPU."""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.client import Client as Client
    from asr.errors import AudioError as AudioError
    from asr.errors import DamagedAudioError as DamagedAudioError
    from asr.errors import DataError as DataError
    from asr.errors import ModelError as ModelError
    from asr.errors import OutputError as OutputError
    from asr.errors import RillError as RillError
    from asr.errors import RillWarning as RillWarning
    from asr.errors import ServerError as ServerError
    from asr.errors import UnknownModelError as UnknownModelError
    from asr.errors import UsageError as UsageError
    from asr.recognizer import Recognizer as Recognizer
    from asr.recognizer_options import RecognizerOptions as RecognizerOptions
    from asr.streaming.batcher import Batching as Batching
    from asr.streaming.endpoint import EndpointRule as EndpointRule
    from asr.streaming.results import Result as Result
    from asr.streaming.results import Word as Word
    from asr.streaming.stability import StabilityRule as StabilityRule

# onnxruntime reads this while it is loaded. Without it, it sends telemetry and leaves files in the user's home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HERE = os.path.dirname(__file__)
if not os.path.isdir(os.path.join(_HERE, "models")):
    # A clone: `asr.models` and `asr.streaming` lie beside this folder; only a build puts them into it.
    __path__.append(os.path.dirname(_HERE))

_ERRORS = (
    "AudioError",
    "DamagedAudioError",
    "DataError",
    "ModelError",
    "OutputError",
    "RillError",
    "RillWarning",
    "ServerError",
    "UnknownModelError",
    "UsageError",
)
_HOMES = {
    "Batching": "asr.streaming.batcher",
    "Client": "asr.client",
    "EndpointRule": "asr.streaming.endpoint",
    "Recognizer": "asr.recognizer",
    "RecognizerOptions": "asr.recognizer_options",
    "Result": "asr.streaming.results",
    "StabilityRule": "asr.streaming.stability",
    "Word": "asr.streaming.results",
    **dict.fromkeys(_ERRORS, "asr.errors"),
}

__all__ = [
    "AudioError",
    "Batching",
    "Client",
    "DamagedAudioError",
    "DataError",
    "EndpointRule",
    "ModelError",
    "OutputError",
    "Recognizer",
    "RecognizerOptions",
    "Result",
    "RillError",
    "RillWarning",
    "ServerError",
    "StabilityRule",
    "UnknownModelError",
    "UsageError",
    "Word",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used: `import asr` itself loads neither numpy nor onnxruntime."""
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    """The version of the installed package, or that there is none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("rill-asr")
    except PackageNotFoundError:
        return "(run from its source, not installed)"
