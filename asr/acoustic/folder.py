"""Model folders: finding one by name or path, and checking that it is whole and unaltered."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from asr.acoustic.phone_states import Biphones
from asr.errors import DataError, ModelError, UnknownModelError
from asr.streaming.engine import EngineError, OnnxEngine, Rates
from asr.words.tokens import TokenTable

if TYPE_CHECKING:
    from asr.models.acoustic import AcousticConfig

DEFAULT_MODEL = "rill-en-small"
FORMATS = (1, 2, 3, 4)  # of a folder; the higher ones for what older code could not run
FORMAT_WITH_STATES = 3  # from here on a folder may have them
STATES = "states.txt"  # of a model that has a state head
FILES = ("model.onnx", "model.int8.onnx", "model.safetensors", "characters.txt", "phones.txt")


Table = TypeVar("Table")


@dataclass(frozen=True)
class ModelPackage:
    """A model folder that has been read and verified."""

    folder: Path
    name: str
    language: str
    encoder: str  # of `asr.models.encoder.ENCODERS`
    rates: Rates
    characters: TokenTable  # of the character head
    phones: TokenTable  # of the phone head
    biphones: Biphones | None  # of the state head, where it has one

    def graph(self, engine: str) -> Path:
        """The ONNX graph of an engine, ``onnx`` or ``int8``."""
        return self.folder / ("model.int8.onnx" if engine == "int8" else "model.onnx")

    def engine(self, engine: str, head: str, threads: int = 1, full_context: bool = False) -> OnnxEngine:
        """Load the graph of an engine; arguments as for `OnnxEngine`. Raises ModelError when it cannot be loaded."""
        try:
            return OnnxEngine(self.graph(engine), self.rates, head, threads, full_context)
        except EngineError as error:
            raise ModelError(f"{error}; export the model again") from error

    @property
    def language_model(self) -> Path | None:
        """The folder of the language model that came with it, if one did."""
        folder = self.folder / "lm"
        return folder if folder.is_dir() else None

    @classmethod
    def open(cls, name_or_path: str | Path) -> ModelPackage:
        """Find, read and verify a model folder.

        Args:
            name_or_path: the name of a shipped model (``asr models`` lists them) or the path of a model folder.
        Raises:
            UnknownModelError: there is no such model.
            ModelError: a file is missing, altered or not understood.
        """
        folder = find_model(name_or_path)
        config = _read_config(folder)
        _verify(folder, config)
        try:
            rates = Rates(
                sample_rate=_whole(config, "sample_rate"),
                frame_samples=_whole(config, "frame_samples"),
                window_samples=_whole(config, "window_samples"),
                delay_frames=_whole(config, "delay_frames", least=0),
                block_frames=_whole({"block_frames": 1, **config}, "block_frames"),
            )
            name, language = str(config["name"]), str(config["language"])
        except (KeyError, ValueError) as error:
            raise ModelError(f"{folder}/config.json: {_reason(error)}; fetch or export the model again") from error
        characters, phones = (_understood(TokenTable.read, folder / f"{head}.txt") for head in ("characters", "phones"))
        biphones = None
        if STATES in config["files"]:
            biphones = _understood(Biphones.read, folder / STATES, phones)
        return cls(folder, name, language, str(config.get("encoder", "lstm")), rates, characters, phones, biphones)


def format_of(acoustic: AcousticConfig) -> int:
    """The format of a folder that holds such a model."""
    if acoustic.front == "conv":
        return 4
    if acoustic.states:
        return FORMAT_WITH_STATES
    return 1 if acoustic.encoder == "lstm" else 2


def shipped_models() -> dict[str, Path]:
    """Folders of the models that came with Rill, by name."""
    root = Path(str(resources.files("asr.models"))) / "pretrained"
    return {config.parent.name: config.parent for config in sorted(root.glob("*/config.json"))}


def find_model(name_or_path: str | Path) -> Path:
    """The folder of a model.

    A string without a slash is a name first and a folder here second; anything else is a path.

    Raises:
        UnknownModelError: there is no such name or folder.
    """
    shipped = shipped_models()
    if isinstance(name_or_path, str) and name_or_path in shipped:
        return shipped[name_or_path]
    folder = Path(name_or_path).expanduser()
    if str(name_or_path) and folder.is_dir():
        return folder
    known = ", ".join(shipped) or "none"
    raise UnknownModelError(
        f"unknown model '{name_or_path}': give a shipped model ({known}) or the path of a model folder"
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{folder} is no model folder: it has no config.json; make one with 'asr export'") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({_reason(error)}); fetch or export the model again") from error
    if not isinstance(config, dict) or config.get("format") not in FORMATS:
        found = config.get("format") if isinstance(config, dict) else None
        raise ModelError(
            f"{path} has format {found!r}, this version of Rill reads formats {', '.join(map(str, FORMATS))}: "
            "update Rill or export the model again"
        )
    return config


def _verify(folder: Path, config: dict[str, Any]) -> None:
    """Compare every file with the checksum written when the model was exported."""
    checksums = config.get("files")
    with_states = config["format"] == FORMAT_WITH_STATES or (isinstance(checksums, dict) and STATES in checksums)
    files = (*FILES, STATES) if with_states else FILES
    if not isinstance(checksums, dict) or not set(files) <= set(checksums):
        raise ModelError(f"{folder}/config.json names no checksums of {', '.join(files)}; export the model again")
    for file in files:
        try:
            with (folder / file).open("rb") as stream:
                checksum = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            problem = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({_reason(error)})"
            raise ModelError(f"model {folder}: {file} {problem}; fetch or export the model again") from error
        if checksum != checksums[file]:
            raise ModelError(
                f"model {folder}: {file} was altered or damaged (its checksum is not the one in config.json); "
                "fetch or export the model again"
            )


def _understood(read: Callable[..., Table], path: Path, *more: Any) -> Table:
    """What ``read`` makes of a table; raises ModelError when it is none."""
    try:
        return read(path, *more)
    except DataError as error:
        raise ModelError(f"{error}; fetch or export the model again") from error


def _whole(config: dict[str, Any], key: str, least: int = 1) -> int:
    value = config[key]
    if type(value) is not int or value < least:
        raise ValueError(f"{key} must be a whole number from {least}, got {value!r}")
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return re.sub(r"\s+", " ", text)
