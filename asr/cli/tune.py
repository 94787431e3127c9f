"""`asr tune`: better hyperparameters of training or of decoding, by search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import AlignWith, LanguageModelFolder
from asr.cli.train import Config, Set

if TYPE_CHECKING:
    from asr.tuning.decoding_trial import DecodingTrial
    from asr.tuning.space import SearchSpace
    from asr.tuning.training_trial import TrainingTrial

GOALS = {"wer": "dev word error rate", "cer": "dev character error rate", "per": "dev phone error rate"}


def tune(
    study: Annotated[
        Path, typer.Option("--study", "-s", help="Folder of the study; gone on with if it exists.", show_default=False)
    ],
    tables: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[TABLE...]", help="TSV or CSV of recordings to learn from.", show_default=False),
    ] = None,
    dev: Annotated[Path | None, typer.Option(help="Table to measure on; never trained on.")] = None,
    decoder: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Search for decoding weights of this model instead.")
    ] = None,
    lm: LanguageModelFolder = None,
    every: Annotated[int, typer.Option(help="With --decoder: take every N-th utterance of --dev.", min=1)] = 1,
    trials: Annotated[int, typer.Option(help="In all, those of an earlier start included.", min=1)] = 30,
    workers: Annotated[int, typer.Option(help="Processes that try hyperparameters side by side.", min=1)] = 1,
    space: Annotated[
        Path | None, typer.Option(help="TOML: which hyperparameters are searched, and how far; see docs/tuning.md.")
    ] = None,
    goal: Annotated[str, typer.Option("--minimise", help="Of training: wer, cer or per (phones), greedy.")] = "per",
    sampler: Annotated[str, typer.Option(help="tpe: near what was good; random: evenly, to learn what matters.")] = (
        "tpe"
    ),
    pruner: Annotated[str, typer.Option(help="What gives up early: median, hyperband, none.")] = "median",
    report: Annotated[bool, typer.Option("--report", help="Only write the report of the study again.")] = False,
    noise: Annotated[Path | None, typer.Option(help="A tar of noise recordings.")] = None,
    rooms: Annotated[Path | None, typer.Option(help="A tar of room responses.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of audio and alignments to share. [default: STUDY/cache]")
    ] = None,
    align_with: AlignWith = None,
    config: Config = None,
    change: Set = None,
    seed: Annotated[int, typer.Option(help="Of the search and of every training.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of a worker. [default: 1 with several workers]", min=1)
    ] = None,
) -> None:
    """Search for hyperparameters with which a model trained on TABLE makes the fewest errors on --dev.

    Or, with --decoder, for the weights with which a trained model decodes. Stop it at will, even by kill -9, and give
    the same command to go on. The folder gets report.html, with pictures of what matters, and best.json.
    """
    from dataclasses import replace

    from rich.console import Console

    from asr.cli.options import training_extra
    from asr.errors import UsageError

    console = Console(stderr=True)
    with training_extra():
        import optuna  # noqa: F401 - so that a missing one is told before anything else
        import sklearn  # noqa: F401

        from asr.tuning.study import StudyOptions, only_one, open_study, search
    if report:
        _report(study, console)
        return
    if dev is None:
        raise UsageError("give --dev, a table to measure on; or --report for the report of a study")
    if bool(tables) == (decoder is not None):
        raise UsageError("give tables to learn from, or --decoder MODEL to tune the decoding of a model; not both")
    if goal not in GOALS:
        raise UsageError(f"--minimise {goal} is unknown; give {', '.join(GOALS)}")
    if decoder is not None:
        dimensions, trial = _decoding(study, space, decoder, dev, lm, every)
        goal = "wer"
        about = {"model": decoder, "lm": str(lm), "dev": str(dev), "every": every}
    else:
        from asr.acoustic.folder import DEFAULT_MODEL
        from asr.data.prepare import RecipeOptions
        from asr.training.options import read_settings
        from asr.tuning.training_trial import TrainingTrial

        align_with = align_with or DEFAULT_MODEL
        dimensions = _space(space, decoding=False)
        settings = read_settings(config, [*(change or []), f"training.seed={seed}"])
        recipe = RecipeOptions(tuple(tables), dev, noise, rooms, settings.training.speeds, align_with)
        threads = threads or (1 if workers > 1 else None)
        trial = TrainingTrial(study, recipe, cache or study / "cache", goal, settings, device, threads)
        about = {
            "tables": [str(table) for table in tables],
            "dev": str(dev),
            "noise": str(noise),
            "rooms": str(rooms),
            "align_with": align_with,
            "settings": settings.tables(),
        }
    options = StudyOptions(dimensions, GOALS[goal], about, sampler, pruner, seed)
    with only_one(study):
        held = open_study(study, options)
        if decoder is not None and not held.trials:
            held.enqueue_trial({name: value for name, value in trial.usual().items() if name in dimensions.dimensions})
        if decoder is None:
            _prepare(trial, workers, console)
        try:
            search(study, options, trials, trial if workers == 1 else replace(trial), workers)
        finally:
            _report(study, console)


def _space(path: Path | None, decoding: bool) -> SearchSpace:
    from asr.tuning.space import DECODING, TRAINING, read_space

    usual = DECODING if decoding else TRAINING
    return usual if path is None else read_space(path, usual)


def _decoding(
    study: Path, space: Path | None, model: str, dev: Path, lm: Path | None, every: int
) -> tuple[SearchSpace, DecodingTrial]:
    from asr.tuning.decoding_trial import DecodingTrial

    study.mkdir(parents=True, exist_ok=True)
    trial = DecodingTrial(study, model, dev, lm, every=every)
    return _space(space, decoding=True), trial()


def _prepare(trial: TrainingTrial, workers: int, console) -> None:
    """Decode and align once, before workers want it."""
    from asr.cli.train import bar
    from asr.data.prepare import prepare, write_rejected

    with bar(console) as shown:
        task = shown.add_task("aligning", visible=False)
        corpus, _ = prepare(
            trial.recipe,
            trial.cache,
            trial.settings.model,
            workers,
            lambda done, total: shown.update(task, completed=done, total=total, visible=done < total),
        )
    if corpus.rejected:
        write_rejected(corpus.rejected, trial.folder / "rejected.tsv")
        console.print(f"{len(corpus.rejected)} utterances left out, named in {trial.folder / 'rejected.tsv'}")


def _report(folder: Path, console) -> None:
    import json

    from optuna.trial import TrialState

    from asr.tuning.report import write_study_report
    from asr.tuning.study import open_study, run_number
    from asr.tuning.training_trial import run_folder

    study = open_study(folder)
    page, *_ = write_study_report(study, folder)
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if ended:
        best = min(ended, key=lambda trial: trial.value)
        content = {
            "trial": best.number,
            "value": best.value,
            "goal": study.user_attrs["options"]["goal"],
            "settings": best.params,
        }
        run = run_folder(folder, run_number(best))
        if run.is_dir():
            content["run"] = str(run)
        (folder / "best.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        print(json.dumps(content))
    console.print(f"report: {page}", highlight=False)
