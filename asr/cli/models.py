"""`asr models`: the models that are here, and others to install, pack or remove."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

models = typer.Typer(help="List, install and pack models.", invoke_without_command=True)


@models.callback()
def _group(context: typer.Context) -> None:
    """List the models that are here; or install one, pack one into an archive, remove one."""
    if context.invoked_subcommand is None:
        list_models()


@models.command("list")
def list_models() -> None:
    """List the models that are here: name, size of the files that a recogniser loads, folder."""
    from asr.acoustic.folder import DEFAULT_MODEL, installed_models, shipped_models
    from asr.store.models import megabytes

    shipped = shipped_models()
    for name, folder in (
        shipped | {key: value for key, value in installed_models().items() if key not in shipped}
    ).items():
        print(f"{name}\t{megabytes(folder):.1f} MB\t{folder}" + ("\t(default)" if name == DEFAULT_MODEL else ""))


@models.command()
def get(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|URL|FILE",
            help="An https address of an archive; an archive (.tar.gz, .zip); a model folder; or a name in --index.",
            show_default=False,
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Install it under this name. (default: its own)")] = None,
    sha256: Annotated[str | None, typer.Option(help="Checksum that the archive must have.")] = None,
    index: Annotated[
        str | None,
        typer.Option(
            envvar="RILL_MODEL_INDEX",
            help="File or address of JSON that gives archives by name: "
            '{"models": {"NAME": {"url": "https://...", "sha256": "..."}}}.',
            show_default=False,
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a model of that name.")] = False,
    most_mb: Annotated[int, typer.Option(help="Most that an archive may unpack to.", min=1)] = 1_000,
) -> None:
    """Install a model, so that --model NAME finds it.

    A download that broke off is taken up by the same command. Every file is compared with its checksum; links, paths
    that lead elsewhere, pickles, and anything else that no model is made of are refused.
    """
    from asr.errors import UsageError
    from asr.store.archive import checksum
    from asr.store.download import split_checksum
    from asr.store.index import look_up
    from asr.store.models import install

    path = Path(source).expanduser()
    fetched = None
    if "://" not in source and not path.exists():
        if (
            path.name != source
            or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", source)
            or path.suffix in (".gz", ".zip")
        ):
            raise UsageError(f"{source}: there is no such file or folder")
        if index is None:
            raise UsageError(
                f"{source}: there is no such file or folder, and to look it up as a name needs an index: give --index"
            )
        source, listed = look_up(index, source)
        sha256 = sha256 or listed
    if "://" in source:
        address, expected = split_checksum(source, sha256)
        fetched = path = _fetched(address, expected)
    elif sha256 is not None:
        if path.is_dir():
            raise UsageError("--sha256 is of an archive; a folder has checksums of its own, which are always compared")
        if (found := checksum(path)) != sha256.lower():
            raise UsageError(f"{path} has SHA-256 {found}, not {sha256}; nothing was installed")
    installed = install(path, name, replace, most_mb * 1_000_000)
    if fetched is not None:
        fetched.unlink(missing_ok=True)
    print(f"{installed.name}\t{installed.folder}")


@models.command()
def pack(
    model: Annotated[str, typer.Argument(help="A model that is here, or a model folder.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Archive to write. (default: NAME.tar.gz here)")
    ] = None,
) -> None:
    """Write a model as an archive for `asr models get`, and print its SHA-256."""
    from asr.acoustic.folder import ModelPackage
    from asr.errors import UsageError
    from asr.store.archive import pack as write

    package = ModelPackage.open(model)
    path = output or Path(f"{package.name}.tar.gz")
    if not path.name.endswith((".tar.gz", ".tgz")):
        raise UsageError(f"--output {path} must end in .tar.gz")
    print(f"{write(package.folder, package.name, path)}  {path}")


@models.command()
def remove(name: Annotated[str, typer.Argument(help="A model that was installed.", show_default=False)]) -> None:
    """Remove an installed model."""
    from asr.store.models import remove as delete

    print(f"removed {delete(name)}")


def _fetched(address: str, expected: str | None) -> Path:
    """Download into the cache folder, under a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from asr.files import cache_folder
    from asr.store.download import download
    from asr.store.models import models_folder

    folder = (cache_folder() or models_folder()) / "downloads"
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("fetching", total=None)
        return download(address, folder, expected, lambda done, total: bar.update(task, completed=done, total=total))
