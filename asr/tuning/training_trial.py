"""What a search over training tries: one short training, valued by its dev error rate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from asr.data.augment import read_recordings
from asr.data.prepare import RecipeOptions, prepare
from asr.data.training_set import StoredSet
from asr.training.loop import fit
from asr.training.options import Settings, TrainingProgress
from asr.training.processes import Team, open_device
from asr.training.run import prepare_run
from asr.tuning.study import Attempt
from asr.tuning.study import Settings as Values

LOOK_AHEAD_FRAMES = 2  # of every layer but the last


@dataclass(frozen=True)
class TrainingTrial:
    """Trains one model for each trial, in a run folder of its own that `asr train` and `asr export` understand."""

    folder: Path  # of the study
    recipe: RecipeOptions
    cache: Path  # of audio and alignments
    goal: str  # wer, cer or per
    settings: Settings  # of what is not searched
    device: str = "auto"
    threads: int | None = None

    def __call__(self) -> TrainingTrial:
        """Make ready a process."""
        if self.threads:
            torch.set_num_threads(self.threads)
        return self

    def value(self, attempt: Attempt, settings: Values) -> float:
        """The dev error rate at the end of a training; every epoch's is reported on the way.

        Raises:
            TrialPruned: others were better by then.
            DataError: the loss became infinite, or the data cannot be used.
        """
        data, dev, noises, rooms = self._data
        chosen = with_values(self.settings, settings)
        team = Team(open_device(self.device), chosen.machine.accumulate, chosen.machine.precision)
        folder = run_folder(self.folder, attempt.run)
        run = prepare_run(folder, data, dev, chosen, team, noises=noises, rooms=rooms)
        told = 0

        def tell() -> None:
            nonlocal told
            rows = [row for row in run.logs[0].rows() if row["dev_wer"]]
            for row in rows[told:]:
                attempt.tell(int(row["epoch"]) / chosen.training.epochs, float(row[f"dev_{self.goal}"]))
            told = len(rows)

        def look(progress: TrainingProgress) -> None:
            attempt.look_after()
            if progress.epoch > told:
                tell()

        fit(run, look, chosen.machine.checkpoint_seconds)
        tell()
        last = [row for row in run.logs[0].rows() if row["dev_wer"]][-1]
        attempt.note(
            minutes=run.minutes,
            weights=sum(weight.numel() for weight in run.model.parameters()),
            audio_hours=run.audio_seconds / 3600,
            wer=float(last["dev_wer"]),
            cer=float(last["dev_cer"]),
            per=float(last["dev_per"]),
        )
        return float(last[f"dev_{self.goal}"])

    @cached_property
    def _data(self) -> tuple[StoredSet, StoredSet, list[np.ndarray], list[np.ndarray]]:
        recordings = (read_recordings(source) for source in (self.recipe.noise, self.recipe.rooms))
        return *prepare(self.recipe, self.cache, self.settings.model), *recordings


def run_folder(study: Path, number: int) -> Path:
    """Of a trial."""
    return study / "runs" / f"{number:04d}"


def with_values(settings: Settings, values: Values) -> Settings:
    """Settings with the values of a trial; every layer but the last looks ahead."""
    model, training, rows = {}, {}, {}
    for name, value in values.items():
        if name == "layers":
            model["look_ahead_frames"] = (LOOK_AHEAD_FRAMES,) * (int(value) - 1) + (0,)
            model["phone_layer"] = max(1, int(value) - 1)
        elif name == "size":
            model[name] = int(value)
        elif name == "dropout":
            model[name] = value
        elif name == "epochs":
            training[name] = int(value)
        elif name == "learning_rate":
            training[name] = value
        elif name == "batch_seconds":
            rows[name] = value
    return replace(
        settings,
        model=replace(settings.model, **model),
        training=replace(settings.training, **training),
        rows=replace(settings.rows, **rows),
        changes=settings.changes.scaled(values.get("changes", 1.0)),
        masks=settings.masks.scaled(values.get("masks", 1.0)),
    )
