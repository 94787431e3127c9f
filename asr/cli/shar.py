"""`asr shar`: tables of recordings as shards that training streams from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def shar(
    tables: Annotated[
        list[Path],
        typer.Argument(metavar="TABLE...", help="TSV or CSV of transcribed recordings.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the shards; new, or empty.")],
    shard_size: Annotated[int, typer.Option(help="Utterances in a shard.", min=1)] = 1_000,
    audio: Annotated[str, typer.Option(help="flac or wav.")] = "flac",
    seed: Annotated[int, typer.Option(help="Of the order.")] = 0,
) -> None:
    """Write recordings as shards for `asr train FOLDER`, which streams them: for corpora that do not fit in memory.

    The folder is in lhotse's Shar format, which `lhotse shar export` writes too.
    """
    from rich.console import Console

    from asr.cli.options import training_extra

    with training_extra():
        import numpy as np

        from asr.cli.train import bar
        from asr.data.manifest import merge, read_manifest
        from asr.data.prepare import write_rejected
        from asr.data.shar import write_shar
    console = Console(stderr=True)
    manifest = merge([read_manifest(table) for table in tables])
    order = np.random.default_rng(seed).permutation(len(manifest.utterances))
    with bar(console) as shown:
        task = shown.add_task("writing", total=len(order))
        rejected = write_shar(
            (manifest.utterances[number] for number in order),
            output,
            shard_size,
            audio,
            lambda: shown.advance(task),
        )
    written = len(order) - len(rejected)
    rejected = [*manifest.rejected, *rejected]
    if rejected:
        write_rejected(rejected, output.with_name(f"{output.name}-rejected.tsv"))
        console.print(f"{len(rejected)} left out, named in {output}-rejected.tsv", highlight=False)
    console.print(f"{written} utterances in {output}; next: asr train {output} --run RUN", highlight=False)
