"""`asr train`: from transcribed recordings to weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import AlignWith

if TYPE_CHECKING:
    from rich.console import Console

    from asr.data.batches import Corpus
    from asr.training.loop import Trainer
    from asr.training.tbptt_plan import SegmentOptions

SEGMENTS_A_RECORDING = 6
LOOK_AHEAD = {"lstm": "2,2,2,2,0", "blstm": "0,0,0,0,0"}
BLSTM = {"block_frames": 12, "right_context_frames": 4, "full_context": 0.5}


def train(
    tables: Annotated[
        list[Path],
        typer.Argument(
            metavar="TABLE...", help="TSV or CSV of transcribed recordings, or folders of Shar.", show_default=False
        ),
    ],
    run: Annotated[
        Path, typer.Option("--run", "-r", help="Folder of the run: checkpoint, curve, features. Resumed if it exists.")
    ],
    dev: Annotated[Path | None, typer.Option(help="Table to measure on after every epoch; never trained on.")] = None,
    noise: Annotated[Path | None, typer.Option(help="A tar of noise recordings.")] = None,
    rooms: Annotated[Path | None, typer.Option(help="A tar of room responses.")] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="Folder of an earlier run, or of a model, to begin with its weights.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of features and alignments, to share between runs. [default: RUN/cache]")
    ] = None,
    variants: Annotated[int, typer.Option(help="Versions of each recording; all but one augmented.", min=1)] = 4,
    align_with: AlignWith = None,
    epochs: Annotated[int, typer.Option(min=1)] = 30,
    batch_seconds: Annotated[float, typer.Option(help="Audio in a batch, padding included.")] = 80.0,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 1e-3,
    encoder: Annotated[
        str, typer.Option(help="lstm; rnn: Elman's simple network; or blstm: hears the future too, block by block.")
    ] = "lstm",
    front: Annotated[
        str, typer.Option(help="conv: convolutions over the mel frames; or stack: three frames side by side, cheaper.")
    ] = "conv",
    size: Annotated[int, typer.Option(help="Units of a layer.", min=1)] = 384,
    look_ahead: Annotated[
        str | None,
        typer.Option(
            help="Frames (30 ms) each layer looks ahead; as many numbers as layers. "
            "[default: 2,2,2,2,0; zeros for a blstm]",
        ),
    ] = None,
    block: Annotated[
        int | None, typer.Option(help="blstm: frames after which its backward LSTMs start anew. [default: 12]")
    ] = None,
    right_context: Annotated[
        int | None, typer.Option(help="blstm: frames beyond a block with which they start, a layer. [default: 4]")
    ] = None,
    full_context: Annotated[
        float | None, typer.Option(help="blstm: part of the batches heard as one block. [default: 0.5]")
    ] = None,
    masks: Annotated[float, typer.Option(help="Strength of SpecAugment; 0 is none.", min=0.0)] = 0.7,
    changes: Annotated[
        float, typer.Option(help="Strength of random changes of voice, channel and noise; 0 is none.", min=0.0)
    ] = 1.0,
    views: Annotated[
        int, typer.Option(help="2: hear each utterance twice, changed differently, and make both agree; 1: once.")
    ] = 2,
    discriminative: Annotated[
        bool,
        typer.Option(help="Weigh transcripts against rivals (lattice-free MMI); a later stage: see --start-from."),
    ] = False,
    segment_seconds: Annotated[
        float | None,
        typer.Option(help="Learn from segments of this length of long recordings, joined of utterances."),
    ] = None,
    pass_state: Annotated[
        float | None, typer.Option(help="Probability that a segment begins with the state after the last. [default: 1]")
    ] = None,
    recording_seconds: Annotated[
        float | None, typer.Option(help="Length of the recordings that are cut into segments. [default: 6 segments]")
    ] = None,
    dropout: Annotated[float, typer.Option()] = 0.1,
    share: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE=PART", help="Hear only this part of a source in each epoch, such as minds14=0.25."
        ),
    ] = None,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto (bfloat16 where it is fast), 32-true, bf16-mixed.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads. [default: torch's choice]", min=1)] = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Save at least this often.", min=0.0)] = 180.0,
    workers: Annotated[
        int, typer.Option(help="Processes that compute features and alignments, or stream; 0: this one does it.", min=0)
    ] = 2,
    accumulate: Annotated[
        int, typer.Option(help="Parts of a batch that each process learns from one after the other.", min=1)
    ] = 1,
    patience: Annotated[
        float, typer.Option(help="Minutes that a process started by torchrun waits for the others.", min=0.1)
    ] = 30.0,
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
    from asr.errors import UsageError

    with training_extra():
        import torch

        from asr.acoustic.folder import DEFAULT_MODEL
        from asr.data.augment_mels import MelAugment
        from asr.data.prepare import RecipeOptions, prepare, write_rejected
        from asr.data.specaugment import SpecAugment
        from asr.models.acoustic import AcousticConfig
        from asr.training.device import open_device
        from asr.training.loop import Trainer
        from asr.training.options import TrainOptions
        from asr.training.processes import Team
        from asr.words.tokens import CHARACTERS, PHONES
    if threads:
        torch.set_num_threads(threads)
    try:
        frames = _whole_numbers(LOOK_AHEAD.get(encoder, LOOK_AHEAD["lstm"]) if look_ahead is None else look_ahead)
        phone_layer = max((k for k, ahead in enumerate(frames, start=1) if ahead), default=len(frames))
        blocks = {"block_frames": block, "right_context_frames": right_context, "full_context": full_context}
        usual = BLSTM if encoder == "blstm" else {}
        config = AcousticConfig(
            len(CHARACTERS),
            len(PHONES),
            size=size,
            look_ahead_frames=frames,
            phone_layer=phone_layer,
            dropout=dropout,
            encoder=encoder,
            front=front,
            **usual | {name: value for name, value in blocks.items() if value is not None},
        )
    except ValueError as error:
        raise UsageError(f"impossible model: {error}") from error
    team = Team(open_device(device, precision, patience), accumulate)
    console = Console(stderr=True, quiet=not team.first)
    options = TrainOptions(
        epochs,
        batch_seconds,
        learning_rate,
        seed=seed,
        masks=SpecAugment().scaled(masks),
        changes=MelAugment().scaled(changes),
        shares=shares_of(share or []),
        discriminative=discriminative,
        views=views,
        segments=_segments(segment_seconds, pass_state, recording_seconds),
        parts=team.parts,
    )
    recipe = RecipeOptions(tuple(tables), dev, noise, rooms, variants, align_with or DEFAULT_MODEL, seed)
    run.mkdir(parents=True, exist_ok=True)
    # The first process computes the features, the others find them in the cache.
    with team.fabric.rank_zero_first(), bar(console) as shown:
        task = shown.add_task("aligning", visible=False)
        corpus, dev_corpus = prepare(
            recipe,
            cache or run / "cache",
            config,
            workers,
            lambda done, total: shown.update(task, completed=done, total=total, visible=done < total),
            team.parts,
            team.fabric.device,
        )
    if team.first:
        write_rejected(corpus.rejected, run / "rejected.tsv")
    _describe(corpus, run, console)
    trainer = Trainer(run, corpus, dev_corpus, config, options, team, start_from, tensorboard)
    _fit(trainer, checkpoint_seconds, console)
    console.print(f"finished: {run}; next: asr export {run} --output MODEL", highlight=False)


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"look-ahead is a number of frames for each layer, such as 2,2,0; got {text!r}") from None


def shares_of(options: list[str]) -> tuple[tuple[str, float], ...]:
    """Sources and parts of `--share` options; raises UsageError on any other form."""
    from asr.errors import UsageError

    try:
        return tuple((source, float(part)) for source, part in (option.split("=") for option in options))
    except ValueError:
        raise UsageError(f"a share is SOURCE=PART, such as minds14=0.25; got {' '.join(options)}") from None


def _segments(seconds: float | None, pass_state: float | None, recording: float | None) -> SegmentOptions | None:
    from asr.errors import UsageError
    from asr.training.tbptt_plan import SegmentOptions

    if seconds is None:
        if pass_state is not None or recording is not None:
            raise UsageError("--pass-state and --recording-seconds are of segments; give --segment-seconds too")
        return None
    return SegmentOptions(
        seconds,
        SEGMENTS_A_RECORDING * seconds if recording is None else recording,
        1.0 if pass_state is None else pass_state,
    )


def _fit(trainer: Trainer, checkpoint_seconds: float, console: Console) -> None:
    """Run the loop under a progress bar; where stderr is no terminal, a line at every epoch."""
    if trainer.step:
        console.print(f"resuming at step {trainer.step} of {trainer.steps}", highlight=False)
    epoch_shown = trainer.step // trainer.steps_an_epoch

    def show_epoch() -> None:
        if not trainer.team.first:
            return
        rows = trainer.curve.rows()
        losses = [row["loss"] for row in rows if row["loss"]]  # the last row of an epoch may have none of its own
        rows = [row for row in rows if row["dev_wer"]]
        if rows:
            last = rows[-1]
            console.print(
                f"epoch {last['epoch']}: {float(last['audio_hours']):.1f} h heard in {float(last['minutes']):.1f} min, "
                f"loss {losses[-1]}, dev WER {100 * float(last['dev_wer']):.1f} %, CER "
                f"{100 * float(last['dev_cer']):.1f} %, PER {100 * float(last['dev_per']):.1f} %",
                highlight=False,
            )

    with bar(console) as shown:
        task = shown.add_task("training", total=trainer.steps, completed=trainer.step)

        def report(progress) -> None:
            nonlocal epoch_shown
            if progress.epoch != epoch_shown:
                epoch_shown = progress.epoch
                show_epoch()
            description = f"epoch {progress.epoch + 1}, loss {progress.loss:.3f}, {progress.audio_hours:.1f} h"
            shown.update(task, completed=progress.step, description=description)

        try:
            trainer.fit(report, checkpoint_seconds)
        except KeyboardInterrupt:
            console.print(f"stopped and saved at step {trainer.step}; the same command goes on", highlight=False)
            raise
    show_epoch()


def _describe(corpus: Corpus, run: Path, console: Console) -> None:
    console.print(f"{len(corpus.examples)} utterances, {corpus.seconds / 3600:.2f} h", highlight=False)
    if corpus.rejected:
        reasons = Counter(row.reason.split(":")[0] for row in corpus.rejected)
        console.print(f"{len(corpus.rejected)} left out, named in {run / 'rejected.tsv'}:", highlight=False)
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
