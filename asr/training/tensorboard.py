"""The learning curve for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asr.errors import UsageError


class TensorBoardLog:
    """Event files in the folder ``tensorboard`` of a run; a resumed run takes back what came after its checkpoint."""

    def __init__(self, folder: Path, resume_step: int = 0) -> None:
        """Open the log; raises UsageError if TensorBoard is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError("--tensorboard needs tensorboard: pip install 'rill-asr[train]'") from error
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step + 1 if resume_step else None)

    def add(self, step: int, **values: Any) -> None:
        """Write a row of the curve: losses, error rates, learning rate and hours, each under its own name."""
        for name, value in values.items():
            group = "dev" if name.startswith("dev_") else "progress" if name in PROGRESS else "loss"
            self._writer.add_scalar(f"{group}/{name.removeprefix('dev_')}", value, step)
        self._writer.flush()


PROGRESS = frozenset(("epoch", "audio_hours", "minutes", "learning_rate"))
