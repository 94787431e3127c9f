"""What shapes a training run: the only place where its defaults stand; as a TOML file, and as dataclasses."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from asr.data.augment import Changes, SpecAugment
from asr.data.rows import RowOptions
from asr.errors import UsageError
from asr.models.acoustic import AcousticConfig
from asr.training.losses import LossWeights
from asr.words.tokens import CHARACTERS, PHONES

BLSTM = {"block_frames": 12, "right_context_frames": 4, "full_context": 0.5}
DERIVED = ("characters", "phones", "states", "frontend", "phone_share")  # of the network: not for a run to choose


@dataclass(frozen=True)
class TrainOptions:
    """The optimiser and its schedule."""

    epochs: int = 30
    minutes: float = 0.0  # above 0: the schedule follows the clock instead of epochs
    learning_rate: float = 1e-3  # the highest
    warm_up: float = 0.05  # part of the run
    weight_decay: float = 0.01  # of matrices
    clip_norm: float = 2.0
    average: float = 0.999  # decay of the moving average of weights, which is what is evaluated and shipped
    mmi_from: float = 0.5  # part of the run after which lattice-free MMI takes over from cross-entropy; 1: never
    realign: bool = False  # when MMI takes over, align anew by the network as it is then
    pass_state: float = 0.3  # probability that a row begins with a state that other audio has led to
    speeds: tuple[float, ...] = (1.0, 0.9, 1.1)  # of the recordings, the first being 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.minutes < 0 or not 0 < self.learning_rate < float("inf"):
            raise UsageError(
                f"epochs and learning_rate must be positive, minutes not negative; "
                f"got {self.epochs}, {self.learning_rate}, {self.minutes}"
            )
        for name in ("warm_up", "average", "mmi_from", "pass_state"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must be from 0 to 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class MachineOptions:
    """How a run is carried out; it may be resumed with others."""

    precision: str = "auto"  # of matrix products: float32, bfloat16, float16; auto: short where that is fast
    accumulate: int = 1  # parts of a batch that each process learns from one after the other
    checkpoint_seconds: float = 180.0  # from one checkpoint to the next, at most
    patience_minutes: float = 30.0  # that a process started by torchrun waits for the others


@dataclass(frozen=True)
class Settings:
    """All of them; saved in the checkpoint and, but for those of the machine, checked on resume."""

    model: AcousticConfig = AcousticConfig(len(CHARACTERS), len(PHONES))
    training: TrainOptions = TrainOptions()
    rows: RowOptions = field(default_factory=RowOptions)
    changes: Changes = Changes()
    masks: SpecAugment = SpecAugment()
    losses: LossWeights = LossWeights()
    machine: MachineOptions = MachineOptions()

    def __post_init__(self) -> None:
        if self.rows.recording_seconds and not self.training.pass_state:
            raise UsageError("recordings without pass_state are rows in another order; give training.pass_state")

    def tables(self) -> dict[str, dict[str, Any]]:
        """Plain values by table and key, without what a run cannot choose."""
        content = dataclasses.asdict(self)
        content["model"] = {name: value for name, value in content["model"].items() if name not in DERIVED}
        return content


def read_settings(path: Path | None, changes: Sequence[str] = (), shape: Mapping[str, Any] | None = None) -> Settings:
    """Settings from a TOML file, every key of which has a default, and from changes like ``model.size=96``.

    Args:
        path: of the file, or None.
        changes: to what it says.
        shape: of the network, where neither says anything of it.
    Raises:
        UsageError: the file cannot be read, or names what there is not, or something impossible.
    """
    content: dict[str, dict[str, Any]] = {}
    if path:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"--config {path} cannot be read: {error}") from error
    for change in changes:
        name, equals, value = change.partition("=")
        table, dot, key = name.partition(".")
        if not (equals and dot):
            raise UsageError(f"--set takes TABLE.KEY=VALUE, such as model.size=96; got {change}")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value  # a word without quotes
        table, *inner = [table, *key.split(".")][:-1]
        place = content.setdefault(table, {})
        for part in inner:
            place = place.setdefault(part, {})
        place[key.split(".")[-1]] = parsed
    if shape and "model" not in content:
        content["model"] = dict(shape)
    return settings_of(content)


def settings_of(content: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Settings from plain values by table and key. Raises UsageError for what there is not, or is impossible."""
    usual = Settings()
    unknown = sorted(set(content) - {one.name for one in fields(Settings)})
    if unknown:
        raise UsageError(f"unknown table {unknown[0]}; there are {', '.join(one.name for one in fields(Settings))}")
    parts = {}
    for name, values in content.items():
        part = getattr(usual, name)
        types = get_type_hints(type(part))
        allowed = [one.name for one in fields(part) if name != "model" or one.name not in DERIVED]
        for key, value in values.items():
            if key not in allowed:
                raise UsageError(f"unknown key {name}.{key}; there are {', '.join(allowed)}")
            if not _fits(value, types[key]):
                raise UsageError(f"{name}.{key} cannot be {value!r}: it is {_named(types[key])}")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        try:
            parts[name] = _model(values) if name == "model" else dataclasses.replace(part, **values)
        except ValueError as error:
            raise UsageError(f"impossible {name}: {error}") from error
    return dataclasses.replace(usual, **parts)


def write_settings(settings: Settings, path: Path) -> None:
    """Write all settings as a TOML file that `read_settings` reads."""
    lines = ["# What shaped this run; `asr train --config` takes it."]
    for table, values in settings.tables().items():
        lines += ["", f"[{table}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in values.items() if not isinstance(value, dict)]
        for key, inner in values.items():
            if isinstance(inner, dict) and inner:
                lines += ["", f"[{table}.{key}]", *(f'"{name}" = {_toml(value)}' for name, value in inner.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _model(values: Mapping[str, Any]) -> AcousticConfig:
    """The network, what follows from its other values filled in."""
    values = dict(values)
    if values.get("encoder") == "blstm":
        values = BLSTM | {"look_ahead_frames": (0,) * len(Settings.model.look_ahead_frames)} | values
    ahead = values.get("look_ahead_frames", Settings.model.look_ahead_frames)
    values.setdefault("phone_layer", max((k for k, one in enumerate(ahead, start=1) if one), default=len(ahead)))
    return dataclasses.replace(Settings.model, **values)


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, list | tuple) and all(_fits(one, get_args(kind)[0]) for one in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_fits(one, get_args(kind)[1]) for one in value.values())
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _named(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}
    if get_origin(kind) is tuple:
        return f"a list, each {_named(get_args(kind)[0])}"
    return names.get(kind, "a table of numbers")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


@dataclass(frozen=True)
class TrainingProgress:
    """Where a run stands; ``report`` callbacks receive one after every step."""

    step: int
    done: float  # part of the run, 0 to 1
    epoch: int
    loss: float
    audio_hours: float
