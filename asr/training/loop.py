"""Training an acoustic model: one visible loop, resumable at any step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

import asr
from asr.acoustic.folder import STATES
from asr.data.batches import Corpus
from asr.errors import DataError, UsageError
from asr.interrupt import deferred_interrupt
from asr.models.acoustic import AcousticConfig, AcousticModel
from asr.models.encoder import EncoderState
from asr.training import checkpoint
from asr.training.batch_parts import Parts
from asr.training.curve import LearningCurve
from asr.training.losses import Objective, loss_weights
from asr.training.optimiser import learning_rate, moving_average, parameter_groups
from asr.training.options import Progress, TrainOptions
from asr.training.processes import Team
from asr.training.start import rivals_of, set_normalisation, states_of, take_over
from asr.training.tbptt_plan import plan_segments
from asr.training.tensorboard import TensorBoardLog
from asr.training.validation import error_rates
from asr.words.tokens import PHONES, TokenTable

DRAWING_SECONDS = 20.0  # at least, from one picture of the curve to the next


class Trainer:
    """Trains one model on a corpus in a run folder, where it leaves checkpoints and the learning curve."""

    def __init__(
        self,
        folder: Path,
        corpus: Corpus,
        dev: Corpus | None,
        config: AcousticConfig,
        options: TrainOptions,
        team: Team,
        start_from: Path | None = None,
        tensorboard: bool = False,
    ) -> None:
        """Prepare a run, or take up the one that ``folder`` holds.

        Args:
            folder: of the run.
            corpus: what is learnt from.
            dev: what is measured on after every epoch, or None.
            config: of the model.
            options: of the training.
            team: the processes that train together.
            start_from: folder of another run or of a model, whose weights a new run begins with.
            tensorboard: whether the curve is written for TensorBoard too.
        Raises:
            DataError: nothing to learn from, or a checkpoint that is damaged or missing.
            UsageError: the folder holds a run with other settings, ``start_from`` a model of another shape, or the
                processes are not alike.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if not corpus.examples:
            raise DataError("no utterance is left to learn from; see the reasons above")
        biphones = states_of(folder, start_from, corpus)
        if biphones:
            config = replace(config, states=len(biphones))
            corpus = corpus.for_model(config, biphones)
        self.folder, self.corpus, self.dev, self.options = folder, corpus, dev, options
        self.team, self.fabric = team, team.fabric
        team.check_alike(_facts(corpus, config, options))
        torch.manual_seed(options.seed)
        rivals = rivals_of(corpus) if options.discriminative else None
        self.objective = Objective(AcousticModel(config), options.views, rivals)
        set_normalisation(self.objective.model, corpus)
        if start_from:
            take_over(self.objective, start_from)
        self.objective.to(self.fabric.device)
        self.averaged = AveragedModel(self.objective, multi_avg_fn=moving_average(options.ema_decay))
        groups = parameter_groups(self.objective, options.weight_decay)
        optimiser = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98), fused=True)
        self.network, self.optimiser = self.fabric.setup(self.objective, optimiser)
        self.step = 0
        self.audio_seconds = 0.0
        self.minutes = 0.0
        self.recent = _Averages()
        # Epochs differ by a batch or two, so the schedule counts on the first one's length.
        self.steps_an_epoch = len(self._plan(0))
        self.parts = Parts(corpus, options, self.objective.model, self.fabric.to_device)
        self.steps = self.steps_an_epoch * options.epochs
        self._resume()
        self.logs: list[LearningCurve | TensorBoardLog] = []  # of the first process alone
        if team.first:
            if biphones:
                biphones.write(folder / STATES, TokenTable(PHONES))
            self.curve = LearningCurve(folder, self.step)
            self.logs = [self.curve, *([TensorBoardLog(folder, self.step)] if tensorboard else [])]

    @property
    def model(self) -> AcousticModel:
        """The averaged model: what is evaluated and shipped."""
        return self.averaged.module.model

    def fit(self, report: Callable[[Progress], None] | None = None, checkpoint_seconds: float = 180.0) -> None:
        """Train to the last epoch, saving at least every ``checkpoint_seconds``.

        Ctrl-C takes effect after the step under way, and saves. A loss that is not a number ends the run with
        DataError, the last checkpoint being from before it.
        """
        saved = begun = time.monotonic()
        earlier_minutes = self.minutes
        with deferred_interrupt() as interrupted, self.team.depending():
            for epoch in range(self.step // self.steps_an_epoch, self.options.epochs):
                plan = self._plan(epoch)
                plan = [plan[k % len(plan)] for k in range(self.steps_an_epoch)]
                for members in plan[self.step % self.steps_an_epoch :]:
                    losses, stop = self._learn(members, interrupted())
                    self.recent.add(losses)
                    self.minutes = earlier_minutes + (time.monotonic() - begun) / 60
                    if self.step % 50 == 0:
                        self._note(epoch)
                    if report:
                        report(Progress(self.step, self.steps, epoch, self.recent.last, self.audio_seconds / 3600))
                    if stop:
                        self._save()
                        raise KeyboardInterrupt
                    if time.monotonic() - saved > checkpoint_seconds:
                        self._save()
                        saved = time.monotonic()
                self._end_epoch(epoch)
                self._save()
                saved = time.monotonic()

    def _plan(self, epoch: int) -> list[list[tuple[int, int]]]:
        options = self.options
        if options.segments:
            seconds = options.batch_seconds / options.views
            return plan_segments(self.corpus, options.segments, options.seed, epoch, seconds, dict(options.shares))
        return self.corpus.plan(options.seed, epoch, options.batch_seconds / options.views, dict(options.shares))

    def _learn(self, members: Sequence[tuple[int, int]], interrupted: bool) -> tuple[dict[str, float], bool]:
        """One optimiser step, together with the other processes.

        Args:
            members: of the batch; this process learns from its parts of it.
            interrupted: whether this process was asked to stop.
        Returns:
            The losses of the whole batch, and whether any process was asked to stop.
        """
        parts = [self.parts.part(members, self.step, number) for number in self.team.mine]
        frames, aligned, stop = self.team.total(
            sum(part.frames for part in parts), sum(part.aligned for part in parts), interrupted
        )
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate()
        self.optimiser.zero_grad()
        weights = asdict(loss_weights(self.corpus.biphones is not None, self.options.discriminative))
        sums: dict[str, float] = {}
        for number, part in enumerate(parts):
            torch.manual_seed(part.dropout_seed)
            with self.fabric.no_backward_sync(self.network, enabled=number < len(parts) - 1):
                _, losses, state = self.network(part.mels, part.batch, part.state)
                # The losses are means over a part; what counts is the mean over the whole batch.
                shares = {
                    task: part.aligned / max(1, aligned) if task == "aligned" else part.frames / frames
                    for task in losses
                }
                total = sum(weights[task] * shares[task] * loss for task, loss in losses.items())
                self.fabric.backward(total * self.team.processes)  # gradients are averaged over processes
            for task, loss in losses.items():
                sums[task] = sums.get(task, 0.0) + shares[task] * float(loss.detach())
        values = dict(zip(sums, self.team.total(*sums.values()), strict=True))
        loss = sum(weights[task] * value for task, value in values.items())
        if not math.isfinite(loss):
            raise DataError(
                f"the loss became {loss} at step {self.step}; lower the learning rate "
                f"({self.options.learning_rate}) and start again"
            )
        self.fabric.clip_gradients(self.network, self.optimiser, max_norm=self.options.clip_norm)
        self.optimiser.step()
        self.averaged.update_parameters(self.objective)
        if self.parts.walk:
            self.parts.walk.end(state)
        self.step += 1
        self.audio_seconds += frames * self._frame_seconds
        return {"loss": loss, **values}, bool(stop)

    def _learning_rate(self) -> float:
        return learning_rate(self.step, self.steps, self.options.learning_rate, self.options.warm_up)

    @property
    def _frame_seconds(self) -> float:
        config = self.objective.model.config
        return config.frame_samples / config.frontend.sample_rate

    def _where(self, epoch: int) -> dict[str, Any]:
        return {
            "step": self.step,
            "epoch": epoch + 1,
            "audio_hours": self.audio_seconds / 3600,
            "minutes": self.minutes,
            "learning_rate": self._learning_rate(),
        }

    def _note(self, epoch: int, **errors: float) -> None:
        losses = self.recent.take()
        for log in self.logs:
            log.add(**self._where(epoch), **losses, **errors)

    def _end_epoch(self, epoch: int) -> None:
        if self.team.first:
            if self.dev:
                seconds = self.options.batch_seconds
                word, character, phone = error_rates(self.averaged.module, self.dev, seconds, self.fabric.to_device)
                self._note(epoch, dev_wer=word, dev_cer=character, dev_per=phone)
            self.curve.draw(DRAWING_SECONDS if epoch + 1 < self.options.epochs else 0.0)
        self.team.wait()

    def _save(self) -> None:
        if not self.team.first:
            return
        checkpoint.save(
            self.folder,
            {
                "config": self.objective.model.config.to_dict(),
                "options": asdict(self.options),
                "objective": self.objective.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "step": self.step,
                "audio_seconds": self.audio_seconds,
                "minutes": self.minutes,
                "recent": self.recent.rows,
                "state": tuple(self.parts.walk.state) if self.parts.walk and self.parts.walk.state else None,
            },
        )

    def _resume(self) -> None:
        content = checkpoint.load(self.folder, self.fabric.device)
        if content is None:
            return
        before, now = content["options"], asdict(self.options)
        config, wanted = AcousticConfig.from_dict(content["config"]).to_dict(), self.objective.model.config.to_dict()
        differing = [key for key in now if before.get(key) != now[key]]
        differing += [key for key in wanted if config[key] != wanted[key]]
        if differing:
            raise UsageError(
                f"{self.folder} holds a run with other settings ({', '.join(differing)}); "
                "give the same ones to resume it, or another folder to start anew"
            )
        self.objective.load_state_dict(content["objective"])
        self.averaged.load_state_dict(content["averaged"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.step = content["step"]
        self.audio_seconds = content["audio_seconds"]
        self.minutes = content["minutes"]
        self.recent.rows = content["recent"]
        if self.parts.walk and content["state"]:
            self.parts.walk.state = EncoderState(*content["state"])


class _Averages:
    """Means of the losses since they were last taken."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.last = math.nan

    def add(self, losses: dict[str, float]) -> None:
        self.rows.append(losses)
        self.last = losses["loss"]

    def take(self) -> dict[str, float]:
        rows, self.rows = self.rows, []
        return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]} if rows else {}


def _facts(corpus: Corpus, config: AcousticConfig, options: TrainOptions) -> dict[str, str]:
    """What must be the same in all processes."""
    return {
        "Rill": asr.__version__,
        "torch": torch.__version__,
        "a corpus of": f"{len(corpus.examples)} utterances, {corpus.seconds:.1f} s",
        "the model": str(config.to_dict()),
        "the options": str(asdict(options)),
    }
