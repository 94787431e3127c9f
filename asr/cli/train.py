"""`asr train`: from transcribed recordings to weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import AlignWith

if TYPE_CHECKING:
    from rich.console import Console

    from asr.data.training_set import TrainingSet
    from asr.training.run import Run

Config = Annotated[
    Path | None,
    typer.Option(help="TOML of settings, with tables and keys of the RUN/run.toml that every run writes."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="One of them, such as model.size=96; may be repeated."),
]


def train(
    tables: Annotated[
        list[Path],
        typer.Argument(
            metavar="TABLE...", help="TSV or CSV of transcribed recordings, or folders of Shar.", show_default=False
        ),
    ],
    run: Annotated[
        Path, typer.Option("--run", "-r", help="Folder of the run: checkpoint, curve, audio. Resumed if it exists.")
    ],
    config: Config = None,
    change: Set = None,
    dev: Annotated[Path | None, typer.Option(help="Table to measure on after every epoch; never trained on.")] = None,
    noise: Annotated[Path | None, typer.Option(help="A tar of noise recordings.")] = None,
    rooms: Annotated[Path | None, typer.Option(help="A tar of room responses.")] = None,
    start_from: Annotated[
        str | None, typer.Option(help="Folder of an earlier run, or a model, to begin with its weights and its shape.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of audio and alignments, to share between runs. [default: RUN/cache]")
    ] = None,
    align_with: AlignWith = None,
    epochs: Annotated[int | None, typer.Option(help="As training.epochs. [default: 30]", min=1)] = None,
    minutes: Annotated[
        float | None, typer.Option(help="As training.minutes: the schedule follows the clock.", min=0.0)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads. [default: torch's choice]", min=1)] = None,
    workers: Annotated[
        int, typer.Option(help="Processes that decode and align, or stream; 0: this one does it.", min=0)
    ] = 2,
    graphs: Annotated[bool, typer.Option(help="On CUDA: launch the sums of lattice-free MMI as graphs.")] = True,
    tensorboard: Annotated[bool, typer.Option(help="Write the curve for TensorBoard too, in RUN/tensorboard.")] = False,
) -> None:
    """Train an acoustic model; stop it at will and give the same command to go on.

    Under torchrun several processes train together, on one machine or many, with the curve of one.

    TABLE has a header and the columns id, text and path (an audio file, relative to the table) or shard (a tar beside
    the table that holds ID.opus, ID.wav, ...); optionally source, speaker, seconds. Folders of lhotse Shar, made by
    `asr shar` or lhotse, are streamed instead: that is for corpora larger than memory.
    """
    from rich.console import Console

    from asr.cli.options import training_extra

    with training_extra():
        import torch

        from asr.acoustic.folder import DEFAULT_MODEL, find_model
        from asr.data.augment import read_recordings
        from asr.data.prepare import RecipeOptions, prepare, write_rejected
        from asr.training.options import read_settings
        from asr.training.processes import Team, open_device
        from asr.training.run import prepare_run
        from asr.training.start import shape_of
    if threads:
        torch.set_num_threads(threads)
    begin = None if start_from is None else find_model(start_from) if _is_name(start_from) else Path(start_from)
    given = {"epochs": epochs, "minutes": minutes}
    flags = [f"training.{name}={value}" for name, value in given.items() if value is not None]
    settings = read_settings(config, [*(change or []), *flags], shape_of(begin) if begin else {})
    machine = settings.machine
    team = Team(open_device(device, machine.patience_minutes), machine.accumulate, machine.precision)
    console = Console(stderr=True, quiet=not team.first)
    recipe = RecipeOptions(tuple(tables), dev, noise, rooms, settings.training.speeds, align_with or DEFAULT_MODEL)
    run.mkdir(parents=True, exist_ok=True)
    # The first process decodes the audio, the others find it in the cache.
    with team.fabric.rank_zero_first(), bar(console) as shown:
        task = shown.add_task("aligning", visible=False)
        data, dev_data = prepare(
            recipe,
            cache or run / "cache",
            settings.model,
            workers,
            lambda done, total: shown.update(task, completed=done, total=total, visible=done < total),
            team.parts,
            team.device,
        )
    if team.first:
        write_rejected(data.rejected, run / "rejected.tsv")
    _describe(data, run, console)
    prepared = prepare_run(
        run,
        data,
        dev_data,
        settings,
        team,
        begin,
        read_recordings(noise),
        read_recordings(rooms),
        graphs,
        tensorboard,
    )
    _fit(prepared, machine.checkpoint_seconds, console)
    console.print(f"finished: {run}; next: asr export {run} --output MODEL", highlight=False)


def _is_name(start_from: str) -> bool:
    """Whether it can only be the name of a model: no folder of that name is here, and it is no path."""
    return not Path(start_from).exists() and Path(start_from).name == start_from


def _fit(run: Run, checkpoint_seconds: float, console: Console) -> None:
    """Run the loop under a progress bar; where stderr is no terminal, a line at every epoch."""
    from asr.training.loop import fit

    if run.step:
        console.print(f"resuming at step {run.step}, {100 * run.done:.0f} % done", highlight=False)
    epoch_shown = run.epoch

    def show_epoch() -> None:
        if not run.team.first:
            return
        rows = run.logs[0].rows()
        losses = [row["loss"] for row in rows if row["loss"]]  # the last row of an epoch may have none of its own
        rows = [row for row in rows if row["dev_wer"]]
        if rows:
            last = rows[-1]
            console.print(
                f"epoch {last['epoch']}: {float(last['audio_hours']):.1f} h of audio in {float(last['minutes']):.1f} "
                f"min, loss {losses[-1]}, dev WER {100 * float(last['dev_wer']):.1f} %, CER "
                f"{100 * float(last['dev_cer']):.1f} %, PER {100 * float(last['dev_per']):.1f} %",
                highlight=False,
            )

    with bar(console) as shown:
        task = shown.add_task("training", total=100, completed=100 * run.done)

        def report(progress) -> None:
            nonlocal epoch_shown
            if progress.epoch != epoch_shown:
                epoch_shown = progress.epoch
                show_epoch()
            description = f"epoch {progress.epoch + 1}, loss {progress.loss:.3f}, {progress.audio_hours:.1f} h"
            shown.update(task, completed=100 * progress.done, description=description)

        try:
            fit(run, report, checkpoint_seconds)
        except KeyboardInterrupt:
            console.print(f"stopped and saved at step {run.step}; the same command goes on", highlight=False)
            raise
    show_epoch()


def _describe(data: TrainingSet, run: Path, console: Console) -> None:
    console.print(f"{data.utterances} utterances, {data.seconds / 3600:.2f} h", highlight=False)
    if data.rejected:
        reasons = Counter(row.reason.split(":")[0] for row in data.rejected)
        console.print(f"{len(data.rejected)} left out, named in {run / 'rejected.tsv'}:", highlight=False)
        for reason, count in reasons.most_common(5):
            console.print(f"  {count} because {reason}", highlight=False)


def bar(console: Console):
    """A progress bar that counts, on a terminal."""
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    return progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
