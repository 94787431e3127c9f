"""Training an acoustic model: one visible loop, the same on a CPU and on a GPU, resumable at any step.

`fit` is the loop, `made_ahead` makes its batches, `learn` is one step. `asr.training.run` prepares a run, keeps it in
checkpoints and takes it up again.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from asr.data.build_audio import FULL_SCALE
from asr.data.rows import Batch
from asr.errors import DataError
from asr.interrupt import deferred_interrupt
from asr.training.curve import DEV
from asr.training.losses import MMI
from asr.training.optimiser import finish_gradients
from asr.training.options import TrainingProgress
from asr.training.realignment import realign, take_alignments
from asr.training.run import Run, save
from asr.training.validation import error_rates

DRAWING_SECONDS = 20.0  # at least, from one picture of the curve to the next
NOTE_STEPS = 50  # from one row of the curve to the next
AHEAD = 2  # batches that are made while one is learnt from
PARTS_APART, DROPOUT = 2**40, 2**39  # between the seeds of a step's parts, and from a part's to that of its dropout


def fit(run: Run, report: Callable[[TrainingProgress], None] | None = None, checkpoint_seconds: float = 180.0) -> None:
    """Train to the end, saving at least every ``checkpoint_seconds``.

    Ctrl-C takes effect after the step under way (which at an epoch's end measures, too), and saves. A loss that is no
    number ends the run with DataError, the last checkpoint being from before it.
    """
    saved = begun = time.monotonic()
    earlier, done = run.minutes, run.done
    if run.stage == MMI:
        take_alignments(run)
    with deferred_interrupt() as interrupted, run.team.depending():
        while done < 1:
            if run.place == run.steps_an_epoch:
                run.epoch, run.place = run.epoch + 1, 0
            if mmi_is_due(run, done):
                start_mmi(run, interrupted)
            for parts in made_ahead(run):
                done, stop = learn(run, parts, interrupted())
                run.minutes = earlier + (time.monotonic() - begun) / 60
                if run.step % NOTE_STEPS == 0:
                    note(run)
                if report:
                    report(TrainingProgress(run.step, done, run.epoch, run.loss, run.audio_seconds / 3600))
                if done >= 1 or run.place == run.steps_an_epoch:  # before a stop, or the epoch's row is never written
                    end_epoch(run, last=done >= 1)
                if stop:
                    save_read(run)
                    raise KeyboardInterrupt
                if done >= 1 or run.place == run.steps_an_epoch:
                    break
                if run.settings.training.minutes and mmi_is_due(run, done):
                    run.place = run.steps_an_epoch  # another epoch begins with it
                    break
                if time.monotonic() - saved > checkpoint_seconds:
                    save_read(run)
                    saved = time.monotonic()
            save_read(run)
            saved = time.monotonic()


class Part(NamedTuple):
    """What a process learns from at once."""

    number: int
    batch: Batch | None  # on the CPU; None: the batch has fewer rows than parts


def made_ahead(run: Run) -> Iterator[list[Part]]:
    """This process's parts of the rest of an epoch's steps, made in a thread while others are learnt from."""
    options = run.settings.training
    plan = run.data.plan(run.settings.rows, run.config, options.seed, run.epoch)
    steps = (plan[k % len(plan)] for k in range(run.place, run.steps_an_epoch))

    def make(step) -> list[Part]:
        parts = run.team.parts
        return [Part(number, run.data.batch(step, number, parts, run.config)) for number in run.team.mine]

    with ThreadPoolExecutor(1) as thread:
        waiting = deque()
        for step in steps:
            waiting.append(thread.submit(make, step))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def learn(run: Run, parts: Iterable[Part], interrupted: bool) -> tuple[float, bool]:
    """One optimiser step, together with the other processes.

    Args:
        run: under way.
        parts: of the batch, from which this process learns.
        interrupted: whether this process was asked to stop.
    Returns:
        The part of the run that is done after it, and whether any process was asked to stop.
    """
    team, options = run.team, run.settings.training
    heard = [part.batch for part in parts if part.batch is not None]
    frames, samples, stop, done = team.total(
        sum(int(batch.frames.sum()) for batch in heard),
        sum(int(batch.spoken.sum()) for batch in heard),
        interrupted,
        run.done if team.first else 0.0,  # a clock's opinion must be everyone's
    )
    for group in run.optimiser.param_groups:
        group["lr"] = run.rate(done)
    run.optimiser.zero_grad(set_to_none=True)
    weights = run.settings.losses.of_stage(run.stage)
    sums = dict.fromkeys(weights, torch.zeros((), device=team.device))
    for part in parts:
        if part.batch is None:
            continue
        seed = options.seed * 1_000_003 + run.step + part.number * PARTS_APART
        generator = torch.Generator().manual_seed(seed)
        batch = part.batch.to(team.there)
        with torch.no_grad():
            mels = changed(run, part.batch, batch, generator)
        state = None
        if team.parts == 1:  # of several parts none knows where the rows of the others ended
            state = run.memory.before(part.batch.follows, generator)
        torch.manual_seed(seed + DROPOUT)
        with team.autocast():
            _, losses, state = run.objective(mels, batch, tuple(weights), state)
        total = sum(weights[name] * loss for name, loss in losses.items()) / frames
        (total * team.loss_scale).backward()
        if team.parts == 1:
            run.memory.after(state)
        sums = {name: sums[name] + loss.detach() / frames for name, loss in losses.items()}
    if team.processes > 1:
        sums = dict(zip(sums, map(torch.tensor, team.total(*map(float, sums.values()))), strict=True))
    run.recent.append({"loss": sum(weights[name] * value for name, value in sums.items()), **sums})
    if team.device.type == "cpu":
        read_loss(run)
    parameters = list(run.objective.parameters())
    team.sum_gradients(parameters)
    finish_gradients(parameters, team.loss_scale, options.clip_norm)
    run.optimiser.step()
    run.average.update(run.step)
    run.step, run.place = run.step + 1, run.place + 1
    run.audio_seconds += samples / run.config.frontend.sample_rate
    return (done if options.minutes else run.done), bool(stop)


def changed(run: Run, counted: Batch, batch: Batch, generator: torch.Generator) -> Tensor:
    """The log-mel frames (B, F, M) of a batch, its audio changed and masked; ``counted`` is it on the CPU."""
    samples = run.augmenter.waves(batch.samples.float() / FULL_SCALE, batch.spoken, generator)
    mels = run.augmenter.mels(run.augmenter.log_mels(samples), generator)
    return run.settings.masks(mels, counted.frames * run.config.stack, run.objective.model.mel_mean, generator)


def mmi_is_due(run: Run, done: float) -> bool:
    """Whether lattice-free MMI shall take over."""
    return run.objective.mmi is not None and run.stage != MMI and done >= run.settings.training.mmi_from


def start_mmi(run: Run, interrupted: Callable[[], bool]) -> None:
    """Let lattice-free MMI take over from cross-entropy, which goes on with a head of its own."""
    if run.step:
        if run.settings.training.realign:
            realign(run, interrupted)
        run.objective.start_mmi()
        run.average.module.start_mmi()
    run.stage = MMI


def read_loss(run: Run) -> None:
    """Wait for the last step's loss. Raises DataError when it is no number."""
    run.loss = float(run.recent[-1]["loss"])
    if not math.isfinite(run.loss):
        raise DataError(
            f"the loss became {run.loss} at step {run.step}; lower the learning rate "
            f"({run.settings.training.learning_rate}) and start again"
        )


def note(run: Run, **errors: float) -> None:
    """A row of the curve: means of the losses since the last one."""
    if run.recent:
        read_loss(run)
    names = {name: None for row in run.recent for name in row}
    means = {name: float(torch.stack([row[name] for row in run.recent if name in row]).mean()) for name in names}
    run.recent = []
    for log in run.logs:
        log.add(
            step=run.step,
            epoch=run.epoch + 1,
            audio_hours=run.audio_seconds / 3600,
            minutes=run.minutes,
            learning_rate=run.rate(run.done),
            **means,
            **errors,
        )


def end_epoch(run: Run, last: bool) -> None:
    """Measure, and write and draw the curve."""
    if run.team.first:
        errors = {}
        if run.dev:
            seconds = run.settings.rows.batch_seconds
            found = error_rates(run.average.module, run.dev, seconds, run.augmenter, run.team)
            errors = dict(zip(DEV, found, strict=True))
        note(run, **errors)
        run.logs[0].draw(0.0 if last else DRAWING_SECONDS)
    run.team.wait()


def save_read(run: Run) -> None:
    """Save, once the last step's loss is known to be a number."""
    if run.recent:
        read_loss(run)
    save(run)
