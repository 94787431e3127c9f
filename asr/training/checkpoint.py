"""Checkpoints of a training run: one file, replaced whole, so that a kill at any moment leaves a usable one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from asr.errors import DataError, UsageError
from asr.files import write_whole
from asr.models.acoustic import AcousticConfig, AcousticModel

FILE = "checkpoint.pt"
MODEL_PREFIX = "model."  # of the acoustic model's weights inside an objective


def save(folder: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values; the earlier checkpoint stays until the new one is complete.

    Raises:
        DataError: it cannot be written: the disk is full, say.
    """
    try:
        write_whole(folder / FILE, lambda file: torch.save(content, file))
    except (OSError, RuntimeError) as error:  # RuntimeError: how torch reports a full disk
        raise DataError(
            f"{folder / FILE} cannot be written ({str(error).splitlines()[0]}); the one before it stands: make room "
            "and give the same command to go on from there"
        ) from error


def load(
    folder: Path, device: torch.device | str = "cpu", needed: Sequence[str] = ("config", "settings", "averaged", "step")
) -> dict[str, Any] | None:
    """The content of the last checkpoint, with at least what is ``needed``, or None when there is none.

    Raises:
        DataError: the file is damaged or not a checkpoint.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        for name in needed:
            content[name]
    except Exception as error:  # torch raises many types for a damaged file
        raise DataError(f"{path} cannot be read as a checkpoint; remove it to start the run again") from error
    return content


def check_same(found: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    """Raise UsageError where the run in a folder has another ``config``, other ``options`` or other ``words``."""
    for part in ("config", "options"):
        changed = [name for name, value in wanted[part].items() if _listed(found[part].get(name)) != _listed(value)]
        if changed:
            raise UsageError(
                f"{folder} has a run with other settings ({', '.join(changed)}); give the same ones, or another folder"
            )
    if found["words"] != wanted["words"]:
        raise UsageError(f"{folder} has a run on other text; give the same text, or another folder")


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def averaged_model(folder: Path) -> AcousticModel:
    """The acoustic model of a run, its weights averaged over training, in evaluation mode.

    Raises:
        DataError: the folder has no checkpoint, or a damaged one.
    """
    content = load(folder)
    if content is None:
        raise DataError(f"{folder} has no {FILE}: give the folder of a training run")
    model = AcousticModel(AcousticConfig.from_dict(content["config"]))
    weights = {
        name.removeprefix(MODEL_PREFIX): value
        for name, value in content["averaged"].items()
        if name.startswith(MODEL_PREFIX)
    }
    model.load_state_dict(weights)
    return model.eval()
