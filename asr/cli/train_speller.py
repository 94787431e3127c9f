"""`asr train-speller`: teach a model to spell from text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train_speller(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder that asr export wrote.")],
    tables: Annotated[
        list[Path], typer.Argument(metavar="TABLE...", help="TSV or CSV of the recordings it was trained on.")
    ],
    run: Annotated[Path, typer.Option("--run", "-r", help="Folder of the run. Resumed if it exists.")],
    text: Annotated[
        list[Path] | None, typer.Option(help="Text, a sentence a line, plain or packed; several weigh the same.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of features, as asr train made it. [default: RUN/cache]")
    ] = None,
    variants: Annotated[int, typer.Option(help="Versions of each recording in that folder.", min=1)] = 4,
    noise: Annotated[Path | None, typer.Option(help="A tar of noise recordings.")] = None,
    rooms: Annotated[Path | None, typer.Option(help="A tar of room responses.")] = None,
    passes: Annotated[int, typer.Option(help="How often the recordings are heard, each time changed.", min=1)] = 1,
    share: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE=PART", help="Hear only this part of a source in each pass.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1)] = 10_000,
    size: Annotated[int, typer.Option(help="Units of an LSTM layer.", min=1)] = 384,
    layers: Annotated[int, typer.Option(help="LSTM layers.", min=1)] = 2,
    stack: Annotated[int, typer.Option(help="Frames in one step of the LSTMs.", min=1)] = 3,
    delay: Annotated[int, typer.Option(help="Frames (30 ms) heard before a character is written.", min=0)] = 16,
    batch_seconds: Annotated[float, typer.Option(help="Speech in a batch.")] = 240.0,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 2.5e-3,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto (bfloat16 where it is fast), 32-true, bf16-mixed.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads. [default: torch's choice]", min=1)] = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Save at least this often.", min=0.0)] = 180.0,
    workers: Annotated[int, typer.Option(help="Processes that compute features.", min=1)] = 2,
) -> None:
    """Train a speller for MODEL and put it there; greedy decoding then spells with it.

    It learns from what the model's phone head says to the recordings, and to sentences of the text that are put
    together of the recordings' pieces. The same command goes on with a run that was stopped.
    """
    from rich.console import Console

    from asr.cli.train import bar, shares_of
    from asr.cli.training_extra import training_extra

    with training_extra():
        import torch

        from asr.device import open_device
        from asr.export import load_acoustic_model
        from asr.export_speller import add_speller
        from asr.lexicon import Lexicon
        from asr.ngram import write_corpus
        from asr.phone_bank import PhoneBank
        from asr.recipe import RecipeOptions, prepare
        from asr.spelling_data import Sentences, SpellingData
        from asr.train_speller import SpellerOptions, SpellerTrainer
        from models.speller import SpellerConfig
    from asr.errors import UsageError

    console = Console(stderr=True)
    if threads:
        torch.set_num_threads(threads)
    acoustic = load_acoustic_model(model)
    try:
        config = SpellerConfig(acoustic.config.phones, acoustic.config.characters, size, layers, stack, delay)
    except ValueError as error:
        raise UsageError(f"impossible speller: {error}") from error
    fabric = open_device(device, precision)
    run.mkdir(parents=True, exist_ok=True)
    lexicon = Lexicon.load()
    with bar(console) as shown:
        task = shown.add_task("hearing", total=None)

        def hearing(done: int, total: int) -> None:
            shown.update(task, completed=done, total=total)

        bank_file = run / "bank.npz"
        if bank_file.is_file():
            bank = PhoneBank.read(bank_file, lexicon)
        else:
            recipe = RecipeOptions(tuple(tables), None, noise, rooms, variants, align=False)
            corpus, _ = prepare(recipe, cache or run / "cache", acoustic.config, workers)
            bank = PhoneBank.of(
                acoustic.to(fabric.device), corpus, lexicon, fabric, passes, shares=shares_of(share or []),
                progress=hearing,
            )  # fmt: skip
            bank.save(bank_file)
        shown.update(task, description="reading text", completed=0, total=None)
        texts = [run / f"text-{number}.txt" for number in range(len(text or []))]
        for source, normal in zip(text or [], texts, strict=True):
            if not normal.is_file():
                write_corpus([source], normal.with_suffix(".partial")).path.rename(normal)
        frame_seconds = acoustic.config.frame_samples / acoustic.config.frontend.sample_rate
        options = SpellerOptions(steps, max(1, round(batch_seconds / frame_seconds)), learning_rate, seed=seed)
        data = SpellingData(bank, Sentences(texts) if texts else None, options.batch_frames, config, seed)
        trainer = SpellerTrainer(run, data, config, options, frame_seconds, fabric)
        shown.update(task, description="training", completed=trainer.step, total=steps)
        trainer.fit(
            lambda now: shown.update(
                task, completed=now.step, description=f"loss {now.loss:.3f} nats a character, {now.hours:.1f} h"
            ),
            checkpoint_seconds,
        )
    add_speller(trainer.trained, model)
    console.print(f"{model} spells with it now; next: asr evaluate TABLE --model {model} --decoder greedy",
                  highlight=False)
