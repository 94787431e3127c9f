"""The learning curve of a run: a CSV that grows as training goes on, its picture, and the same for TensorBoard."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path
from typing import Any

from asr.errors import UsageError, how_to_install
from asr.files import write_whole
from asr.training.losses import LOSSES

PROGRESS = ("step", "epoch", "audio_hours", "minutes", "learning_rate")
DEV = ("dev_wer", "dev_cer", "dev_per")
COLUMNS = (*PROGRESS, "loss", *LOSSES, *DEV)


class LearningCurve:
    """Rows of ``curve.csv``; a resumed run first forgets what came after its checkpoint."""

    def __init__(self, folder: Path, resume_step: int = 0) -> None:
        self.path = folder / "curve.csv"
        self.picture = folder / "curve.png"
        self._drawn = -math.inf  # when
        kept = [row for row in self.rows() if int(row["step"]) <= resume_step] if resume_step else []
        with open(self.path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)

    def rows(self) -> list[dict[str, str]]:
        """All rows so far, values as text, "" where a row has none."""
        if not self.path.is_file():
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def add(self, **values: Any) -> None:
        """Append a row; floats are shortened to six digits."""
        row = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in values.items()}
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, restval="").writerow(row)

    def draw(self, every_seconds: float = 0.0) -> None:
        """Write ``curve.png``: losses and dev error rates against hours of audio heard.

        Nothing is done within ``every_seconds`` of the last time, since a picture takes longer than a short epoch.
        """
        if time.monotonic() - self._drawn < every_seconds:
            return
        self._drawn = time.monotonic()
        from matplotlib.figure import Figure

        rows = self.rows()
        figure = Figure(figsize=(11, 4), layout="constrained")
        losses, errors = figure.subplots(1, 2)
        for axis, names in ((losses, ("loss", *LOSSES)), (errors, DEV)):
            for name in names:
                points = [(float(row["audio_hours"]), float(row[name])) for row in rows if row[name]]
                if points:
                    hours, values = zip(*points, strict=True)
                    axis.plot(hours, values, label=name.removeprefix("dev_"), marker="." if axis is errors else None)
            axis.set_xlabel("audio heard (hours)")
            axis.grid(alpha=0.3)
            if axis.lines:
                axis.legend()
        losses.set_ylabel("training loss (nats a frame)")
        errors.set_ylabel("dev error rate, greedy")
        errors.set_ylim(0, 1.05)
        write_whole(self.picture, lambda file: figure.savefig(file, dpi=110, format="png"))


class TensorBoardLog:
    """Event files in the folder ``tensorboard`` of a run; a resumed run takes back what came after its checkpoint."""

    def __init__(self, folder: Path, resume_step: int = 0) -> None:
        """Open the log; raises UsageError if TensorBoard is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(f"--tensorboard needs tensorboard; {how_to_install('train')}") from error
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step + 1 if resume_step else None)

    def add(self, step: int, **values: Any) -> None:
        """Write a row of the curve: losses, error rates, learning rate and hours, each under its own name."""
        for name, value in values.items():
            group = "dev" if name in DEV else "progress" if name in PROGRESS else "loss"
            self._writer.add_scalar(f"{group}/{name.removeprefix('dev_')}", value, step)
        self._writer.flush()
