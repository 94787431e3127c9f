"""Model folders: finding one by name or path, and checking that it is whole and unaltered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from asr.acoustic.native_engine import NativeEngine, can_run, fast_kernel
from asr.acoustic.phone_states import Biphones
from asr.errors import DataError, ModelError, UnknownModelError
from asr.files import DESCRIPTION, Description, data_folder
from asr.streaming.engine import EngineError, OnnxEngine, Rates
from asr.streaming.framed import FramedEngine
from asr.words.tokens import TokenTable

if TYPE_CHECKING:
    from asr.models.acoustic import AcousticConfig

DEFAULT_MODEL = "rill-en-small"
FOLDER_FORMATS = (1, 2, 3, 4)  # the higher ones for models that older versions cannot run
FORMAT_WITH_STATES = 3  # from here on a folder may have them
STATES = "states.txt"  # of a model that has a state head
NATIVE_WEIGHTS = "model.safetensors"  # that the kernels in C read
WEIGHTS = {  # files that each engine reads
    "onnx": ("model.onnx", "model.safetensors"),
    "int8": ("model.int8.onnx",),
    "torch": ("model.safetensors",),
}
ALL_WEIGHTS = tuple(dict.fromkeys(name for names in WEIGHTS.values() for name in names))
FILES = (*ALL_WEIGHTS, "characters.txt", "phones.txt")
INSTALLED = "models"  # in the user's data folder
PUNCTUATION = "punctuation"  # folder of a punctuation model within that of a model
REMEDY = "fetch or export the model again"  # `asr export` does the latter


Table = TypeVar("Table")


@dataclass(frozen=True)
class ModelPackage:
    """A model folder that has been read and verified."""

    folder: Path
    format: int  # of the folder
    name: str
    language: str
    encoder: str  # of `asr.models.encoder.ENCODERS`
    rates: Rates
    characters: TokenTable  # of the character head
    phones: TokenTable  # of the phone head
    biphones: Biphones | None  # of the state head, where it has one
    acoustic: dict[str, Any]  # the network's configuration

    def graph(self, engine: str) -> Path:
        """The ONNX graph of an engine, ``onnx`` or ``int8``."""
        return self.folder / ("model.int8.onnx" if engine == "int8" else "model.onnx")

    def engine(self, engine: str, head: str, threads: int = 1, full_context: bool = False) -> FramedEngine:
        """Load the network for an engine; arguments as for `OnnxEngine`. Raises ModelError when it cannot be loaded.

        For ``int8`` it is the one in C where that is faster: with AVX-512 VNNI, and for LSTMs behind convolutions.
        """
        try:
            if kernel := self._kernel(engine):
                return NativeEngine(self.folder / NATIVE_WEIGHTS, self.acoustic, self.rates, head, kernel)
            return OnnxEngine(self.graph(engine), self.rates, head, threads, full_context)
        except EngineError as error:
            raise ModelError(f"{error}; {REMEDY}") from error

    @property
    def language_model(self) -> Path | None:
        """The folder of the language model that came with it, if one did."""
        folder = self.folder / "lm"
        return folder if folder.is_dir() else None

    @property
    def punctuation(self) -> Path | None:
        """The folder of the punctuation model that came with it, if one did."""
        folder = self.folder / PUNCTUATION
        return folder if folder.is_dir() else None

    def verify_weights(self, engine: str) -> None:
        """Compare the files that an engine reads with their checksums; raises ModelError for one that was altered."""
        files = (NATIVE_WEIGHTS,) if self._kernel(engine) else WEIGHTS[engine]
        Description.read(self.folder, "model", FOLDER_FORMATS, REMEDY).verify(*files)

    def _kernel(self, engine: str) -> int:
        """Which of the kernels in C runs an engine; 0: none."""
        return fast_kernel() if engine == "int8" and can_run(self.acoustic) else 0

    @classmethod
    def open(cls, name_or_path: str | Path, weights: bool = True) -> ModelPackage:
        """Find, read and verify a model folder.

        Args:
            name_or_path: the name of a shipped or installed model (``asr models`` lists them), or the path of a folder.
            weights: whether the files of all engines are verified, too; otherwise `verify_weights` is to be called.
        Raises:
            UnknownModelError: there is no such model.
            ModelError: a file is missing, altered or not understood.
        """
        folder = find_model(name_or_path)
        description = Description.read(folder, "model", FOLDER_FORMATS, REMEDY)
        config = description.content
        listed = description.checksums(*FILES)
        with_states = config["format"] == FORMAT_WITH_STATES or STATES in listed
        tables = [name for name in FILES if name not in ALL_WEIGHTS] + [STATES] * with_states
        description.verify(*(ALL_WEIGHTS if weights else ()), *tables)
        block_frames = _count(description, "block_frames") if "block_frames" in config else 1
        rates = Rates(
            sample_rate=_count(description, "sample_rate"),
            frame_samples=_count(description, "frame_samples"),
            window_samples=_count(description, "window_samples"),
            delay_frames=_count(description, "delay_frames", least=0),
            block_frames=block_frames,
        )
        name, language = str(description.value("name")), str(description.value("language"))
        characters, phones = (_understood(TokenTable.read, folder / f"{head}.txt") for head in ("characters", "phones"))
        biphones = None
        if with_states:
            biphones = _understood(Biphones.read, folder / STATES, phones)
        return cls(
            folder,
            config["format"],
            name,
            language,
            str(config.get("encoder", "lstm")),
            rates,
            characters,
            phones,
            biphones,
            dict(config.get("acoustic", {})),
        )


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


def installed_models() -> dict[str, Path]:
    """Folders of the models that the user has installed (`asr models get`), by name."""
    root = data_folder()
    found = sorted(root.glob(f"{INSTALLED}/*/{DESCRIPTION}")) if root else []
    return {path.parent.name: path.parent for path in found if not path.parent.name.startswith(".")}


def find_model(name_or_path: str | Path) -> Path:
    """The folder of a model.

    A string without a slash is a name first and a folder here second; anything else is a path.

    Raises:
        UnknownModelError: there is no such name or folder.
    """
    named = installed_models() | shipped_models()
    if isinstance(name_or_path, str) and name_or_path in named:
        return named[name_or_path]
    folder = Path(name_or_path).expanduser()
    if str(name_or_path) and folder.is_dir():
        return folder
    known = ", ".join(named) or "none"
    raise UnknownModelError(
        f"unknown model '{name_or_path}': give one that is here ({known}) or the path of a model folder"
    )


def _understood(read: Callable[..., Table], path: Path, *more: Any) -> Table:
    """What ``read`` makes of a table; raises ModelError when it is none."""
    try:
        return read(path, *more)
    except DataError as error:
        raise ModelError(f"{error}; {REMEDY}") from error


def _count(description: Description, key: str, least: int = 1) -> int:
    value = description.value(key)
    if type(value) is not int or value < least:
        raise description.wrong(f"{key} must be a whole number from {least}, got {value!r}")
    return value
