"""Which hyperparameters a search varies, and how far: what a TOML file says, or a default."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import UsageError

if TYPE_CHECKING:
    import optuna

Value = float | int


@dataclass(frozen=True)
class Range:
    """All numbers from ``low`` to ``high``: whole ones where both are; ``log``: as likely in each power of ten."""

    low: Value
    high: Value
    log: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


Dimension = Range | tuple[Value, ...]  # a range; or choices, of which there is one where nothing is searched


@dataclass(frozen=True)
class SearchSpace:
    """A dimension by the name of its hyperparameter."""

    dimensions: Mapping[str, Dimension]

    def suggest(self, trial: optuna.Trial) -> dict[str, Value]:
        """The values that a trial shall try."""
        return {name: self._suggest(trial, name, dimension) for name, dimension in self.dimensions.items()}

    def to_dict(self) -> dict[str, object]:
        """Plain values, as they would stand in a file."""
        return {
            name: list(one) if isinstance(one, tuple) else {"low": one.low, "high": one.high, "log": one.log}
            for name, one in self.dimensions.items()
        }

    def _suggest(self, trial: optuna.Trial, name: str, dimension: Dimension) -> Value:
        if isinstance(dimension, tuple):
            return dimension[0] if len(dimension) == 1 else trial.suggest_categorical(name, dimension)
        suggest = trial.suggest_int if dimension.whole else trial.suggest_float
        return suggest(name, dimension.low, dimension.high, log=dimension.log)


TRAINING = SearchSpace(
    {
        "epochs": Range(4, 16, log=True),
        "batch_seconds": Range(20.0, 160.0, log=True),
        "learning_rate": Range(3e-4, 1e-2, log=True),
        "size": Range(32, 384, log=True),
        "layers": Range(1, 5),
        "dropout": Range(0.0, 0.4),
        "masks": Range(0.0, 1.5),
        "changes": Range(0.0, 1.5),
    }
)
DECODING = SearchSpace(
    {
        "language_weight": Range(0.5, 3.0),
        "word_cost": Range(-1.0, 3.0),
        "blank_penalty": Range(-0.5, 3.0),
        "silence_cost": Range(0.0, 6.0),
        "beam": Range(8.0, 24.0),
    }
)


def read_space(path: Path, usual: SearchSpace) -> SearchSpace:
    """Read a file that gives some names of ``usual`` as ``{low, high, log}``, a list of choices, or one value.

    Raises:
        UsageError: the file cannot be read, or says something else.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--space {path} cannot be read: {error}") from error
    unknown = sorted(set(content) - set(usual.dimensions))
    if unknown or not content:
        raise UsageError(
            f"--space {path} names {', '.join(unknown) or 'nothing'}; it can give {', '.join(usual.dimensions)}"
        )
    return SearchSpace({name: _dimension(path, name, given) for name, given in content.items()})


def _dimension(path: Path, name: str, given: Any) -> Dimension:
    if _is_number(given):
        return (given,)
    if isinstance(given, list) and given and all(map(_is_number, given)):
        return tuple(given)
    if isinstance(given, dict) and {"low", "high"} <= set(given) <= {"low", "high", "log"}:
        low, high, log = given["low"], given["high"], given.get("log", False)
        if _is_number(low) and _is_number(high) and isinstance(log, bool) and low < high and (low > 0 or not log):
            return Range(low, high, log)
    raise UsageError(
        f"--space {path}: {name} must be {{ low = A, high = B }} with A below B (and log = true if both are positive), "
        f"a list of numbers, or a number; got {given!r}"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
