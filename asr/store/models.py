"""The models that a user has installed: adding one from a folder or an archive, and removing one."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from asr.acoustic.folder import INSTALLED, ModelPackage, installed_models, shipped_models
from asr.errors import ModelError, UsageError
from asr.files import Description, data_folder
from asr.lm.folder import copy_language_model
from asr.store.archive import MOST_BYTES, unpack

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


@dataclass(frozen=True)
class Installed:
    """A model that has been installed."""

    name: str
    folder: Path
    with_language_model: bool


def models_folder() -> Path:
    """The folder that holds a folder a model; raises UsageError when the user has none."""
    root = data_folder()
    if root is None:
        raise UsageError("this user has no home folder to install models into; set RILL_DATA to a folder")
    return root / INSTALLED


def install(source: Path, name: str | None = None, replace: bool = False, most_bytes: int = MOST_BYTES) -> Installed:
    """Install a model from its folder or an archive. It is there whole and verified, or not at all.

    Args:
        source: the folder or archive.
        name: to install it under; by default its own.
        replace: whether a model of that name may be replaced.
        most_bytes: that an archive may unpack to.
    Raises:
        UsageError: the name is impossible or taken.
        ModelError: it is no model, is damaged, or holds what no model is made of.
        OSError: it cannot be written.
    """
    root = models_folder()
    root.mkdir(parents=True, exist_ok=True)
    if name is not None:
        _check_name(name, replace)
    scratch = Path(tempfile.mkdtemp(prefix=".", dir=root))
    try:
        found = source if source.is_dir() else unpack(source, scratch / "archive", most_bytes)
        try:
            package = ModelPackage.open(found)
        except ModelError as error:  # the scratch folder says nothing to a user
            raise ModelError(str(error).replace(str(scratch / "archive"), str(source))) from error
        name = name or package.name
        _check_name(name, replace)
        new = scratch / "model"
        Description.read(found, "model", (package.format,), "fetch it again").copy_to(new)
        if card := _card(found):
            shutil.copyfile(card, new / card.name)
        if package.language_model is not None:
            copy_language_model(package.language_model, new / "lm")
        target = root / name
        if target.exists():
            os.replace(target, scratch / "before")
        os.replace(new, target)
        return Installed(name, target, package.language_model is not None)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove(name: str) -> Path:
    """Remove an installed model and give the folder that it was in; raises UsageError when there is none."""
    folder = installed_models().get(name)
    if folder is None:
        known = ", ".join(installed_models()) or "none"
        raise UsageError(f"no model {name!r} was installed; there are: {known}")
    shutil.rmtree(folder)
    return folder


def megabytes(folder: Path) -> float:
    """Size of the files that a recogniser with the onnx engine loads."""
    files = [folder / "model.onnx", folder / "model.safetensors", *(folder / "lm").rglob("*")]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def _card(folder: Path) -> Path | None:
    path = folder / "MODEL_CARD.md"
    return path if path.is_file() else None


def _check_name(name: str, replace: bool) -> None:
    if not _NAME.match(name):
        raise UsageError(
            f"{name!r} is no name for a model; take letters, digits, points, - and _, and give it as --name"
        )
    if name in shipped_models():
        raise UsageError(f"{name} is the name of a model that came with Rill; give another as --name")
    if name in installed_models() and not replace:
        raise ModelError(f"a model {name} is installed already; --replace replaces it, --name installs it beside it")
