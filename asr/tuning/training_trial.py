"""What a search over training tries: one short training, valued by its dev error rate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from asr.data.augment_mels import MelAugment
from asr.data.batches import Corpus
from asr.data.prepare import RecipeOptions, prepare
from asr.data.specaugment import SpecAugment
from asr.models.acoustic import AcousticConfig
from asr.training.device import open_device
from asr.training.loop import Progress, Trainer
from asr.training.options import TrainOptions
from asr.training.processes import Team
from asr.training.tbptt_plan import SegmentOptions
from asr.tuning.study import Attempt, Settings
from asr.words.tokens import CHARACTERS, PHONES

LOOK_AHEAD_FRAMES = 2  # of every layer but the last
# What `asr train` takes where the space says nothing.
USUAL: Settings = {
    "epochs": 30,
    "batch_seconds": 80.0,
    "learning_rate": 1e-3,
    "size": 384,
    "layers": 5,
    "dropout": 0.1,
    "masks": 0.7,
    "changes": 1.0,
}


@dataclass(frozen=True)
class TrainingTrial:
    """Trains one model for each trial, in a run folder of its own that `asr train` and `asr export` understand."""

    folder: Path  # of the study
    recipe: RecipeOptions
    cache: Path  # of features and alignments
    goal: str  # wer, cer or per
    views: int = 1
    segments: SegmentOptions | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None

    def __call__(self) -> TrainingTrial:
        """Make ready a process."""
        if self.threads:
            torch.set_num_threads(self.threads)
        return self

    def value(self, attempt: Attempt, settings: Settings) -> float:
        """The dev error rate at the end of a training; every epoch's is told on the way.

        Raises:
            TrialPruned: others were better by then.
            DataError: the loss became infinite, or the data cannot be used.
        """
        settings = USUAL | settings
        config, options = model_config(settings), self._options(settings)
        corpus, dev = self._corpora
        trainer = Trainer(
            run_folder(self.folder, attempt.run),
            corpus.for_model(config),
            dev.for_model(config),
            config,
            options,
            Team(open_device(self.device, self.precision)),
        )
        told = 0

        def tell() -> None:
            nonlocal told
            rows = [row for row in trainer.curve.rows() if row["dev_wer"]]
            for row in rows[told:]:
                attempt.tell(int(row["epoch"]) / options.epochs, float(row[f"dev_{self.goal}"]))
            told = len(rows)

        def look(progress: Progress) -> None:
            attempt.look_after()
            if progress.epoch > told:
                tell()

        trainer.fit(look)
        tell()
        last = [row for row in trainer.curve.rows() if row["dev_wer"]][-1]
        weights = sum(weight.numel() for weight in trainer.model.parameters())
        attempt.note(
            minutes=trainer.minutes,
            weights=weights,
            audio_hours=trainer.audio_seconds / 3600,
            wer=float(last["dev_wer"]),
            cer=float(last["dev_cer"]),
            per=float(last["dev_per"]),
        )
        return float(last[f"dev_{self.goal}"])

    @cached_property
    def _corpora(self) -> tuple[Corpus, Corpus]:
        return prepare(self.recipe, self.cache, model_config(USUAL))

    def _options(self, settings: Settings) -> TrainOptions:
        return TrainOptions(
            epochs=int(settings["epochs"]),
            batch_seconds=settings["batch_seconds"],
            learning_rate=settings["learning_rate"],
            masks=SpecAugment().scaled(settings["masks"]),
            changes=MelAugment().scaled(settings["changes"]),
            views=self.views,
            segments=self.segments,
            seed=self.seed,
        )


def run_folder(study: Path, number: int) -> Path:
    """Of a trial."""
    return study / "runs" / f"{number:04d}"


def model_config(settings: Settings) -> AcousticConfig:
    """The network that settings describe: every layer but the last looks ahead."""
    layers = int(settings["layers"])
    ahead = (LOOK_AHEAD_FRAMES,) * (layers - 1) + (0,)
    return AcousticConfig(
        len(CHARACTERS),
        len(PHONES),
        size=int(settings["size"]),
        look_ahead_frames=ahead,
        phone_layer=max(1, layers - 1),
        dropout=settings["dropout"],
    )
