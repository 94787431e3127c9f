"""Training a speller: one visible loop, resumable at any step."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from asr import checkpoint
from asr.errors import DataError, UsageError
from asr.interrupt import deferred_interrupt
from asr.optimiser import learning_rate, moving_average, parameter_groups
from asr.spelling_data import SpellingData
from models.speller import Speller, SpellerConfig

REPORT_STEPS = 50
COLUMNS = ("step", "hours", "minutes", "learning_rate", "loss")


@dataclass(frozen=True)
class SpellerOptions:
    """What shapes the learning curve; saved in the checkpoint and checked on resume."""

    steps: int = 10_000
    batch_frames: int = 8_000
    learning_rate: float = 2.5e-3  # the highest
    warm_up: float = 0.03  # of all steps
    weight_decay: float = 0.01
    clip_norm: float = 2.0
    ema_decay: float = 0.998
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_frames < 1 or self.learning_rate <= 0:
            raise UsageError(
                f"steps, frames of a batch and learning rate must be positive; "
                f"got {self.steps}, {self.batch_frames}, {self.learning_rate}"
            )


@dataclass(frozen=True)
class SpellerProgress:
    """Where a run stands."""

    step: int
    steps: int
    loss: float  # nats a character
    hours: float  # of rows heard


class SpellerTrainer:
    """Trains one speller in a run folder, where it leaves checkpoints and ``curve.csv``."""

    def __init__(
        self, folder: Path, data: SpellingData, config: SpellerConfig, options: SpellerOptions, frame_seconds: float,
        fabric: Fabric,
    ) -> None:  # fmt: skip
        """Prepare a run, or take up the one that ``folder`` holds.

        Raises:
            DataError: a checkpoint that is damaged.
            UsageError: the folder holds a run with other settings.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.options, self._data, self._frame_seconds = folder, options, data, frame_seconds
        self.fabric = fabric
        torch.manual_seed(options.seed)
        self.speller = Speller(config).to(self.fabric.device)
        self.averaged = AveragedModel(self.speller, multi_avg_fn=moving_average(options.ema_decay))
        groups = parameter_groups(self.speller, options.weight_decay)
        optimiser = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98), fused=True)
        self.network, self.optimiser = self.fabric.setup(self.speller, optimiser)
        self.step = 0
        self.frames = 0
        self.minutes = 0.0
        self._losses: list[float] = []
        self._resume()

    @property
    def trained(self) -> Speller:
        """The averaged speller in evaluation mode: what is measured and shipped."""
        return self.averaged.module.eval()

    def fit(self, report: Callable[[SpellerProgress], None] | None = None, checkpoint_seconds: float = 180.0) -> None:
        """Train to the last step, saving at least every ``checkpoint_seconds``.

        Ctrl-C takes effect after the step under way, and saves. A loss that is not a number ends the run with
        DataError, the last checkpoint being from before it.
        """
        saved = begun = time.monotonic()
        earlier = self.minutes
        with deferred_interrupt() as interrupted:
            while self.step < self.options.steps:
                loss = self._learn()
                self._losses.append(loss)
                self.minutes = earlier + (time.monotonic() - begun) / 60
                if self.step % REPORT_STEPS == 0:
                    self._note()
                if report:
                    report(SpellerProgress(self.step, self.options.steps, loss, self._hours))
                if interrupted() or time.monotonic() - saved > checkpoint_seconds:
                    self._save()
                    saved = time.monotonic()
                if interrupted():
                    raise KeyboardInterrupt
        self._save()

    def _learn(self) -> float:
        """One optimiser step, its randomness from the seed and the step, so that a resumed run repeats itself."""
        torch.manual_seed(self.options.seed * 1_000_003 + self.step)
        batch = self._data.batch(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate
        self.network.train()
        log_probs, _ = self.network(self.fabric.to_device(batch.phones))
        log_probs = log_probs[:, self.speller.config.delay_frames :].transpose(0, 1)  # (T or a little more, B, V)
        loss = functional.ctc_loss(
            log_probs, batch.characters.to(log_probs.device), batch.frames, batch.lengths, reduction="sum",
            zero_infinity=True,
        ) / batch.lengths.sum()  # fmt: skip
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(
                f"the loss became {value} at step {self.step}; lower the learning rate ({self.options.learning_rate})"
            )
        self.optimiser.zero_grad()
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.network, self.optimiser, max_norm=self.options.clip_norm)
        self.optimiser.step()
        self.averaged.update_parameters(self.speller)
        self.step += 1
        self.frames += int(batch.frames.sum())
        return value

    @property
    def _learning_rate(self) -> float:
        return learning_rate(self.step, self.options.steps, self.options.learning_rate, self.options.warm_up)

    @property
    def _hours(self) -> float:
        return self.frames * self._frame_seconds / 3600

    def _note(self) -> None:
        """Add a row to the curve."""
        path = self.folder / "curve.csv"
        new = not path.is_file()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(COLUMNS)
            loss = sum(self._losses) / len(self._losses)
            writer.writerow((self.step, *(f"{v:.6g}" for v in (self._hours, self.minutes, self._learning_rate, loss))))
        self._losses = []

    def _save(self) -> None:
        checkpoint.save(self.folder, {
            "config": self.speller.config.to_dict(),
            "options": asdict(self.options),
            "speller": self.speller.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "frames": self.frames,
            "minutes": self.minutes,
            "losses": self._losses,
        })

    def _resume(self) -> None:
        content = checkpoint.load(self.folder, self.fabric.device)
        path = self.folder / "curve.csv"
        if content is None:
            path.unlink(missing_ok=True)
            return
        if content["options"] != asdict(self.options) or content["config"] != self.speller.config.to_dict():
            raise UsageError(
                f"{self.folder} holds a run with other settings; give the same ones to resume it, or another folder"
            )
        self.speller.load_state_dict(content["speller"])
        self.averaged.load_state_dict(content["averaged"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.step, self.frames, self.minutes = content["step"], content["frames"], content["minutes"]
        self._losses = content["losses"]
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if not line[0].isdigit() or int(line.split(",")[0]) <= self.step]
            path.write_text("".join(kept), encoding="utf-8")
