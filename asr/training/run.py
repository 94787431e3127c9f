"""A training run: everything that `asr.training.loop` needs, made ready or taken up from its last checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import asr
from asr.acoustic.folder import STATES as STATES_FILE
from asr.data.augment import Augmenter
from asr.data.training_set import StoredSet, TrainingSet
from asr.errors import DataError, UsageError
from asr.models.acoustic import AcousticConfig, AcousticModel
from asr.training import checkpoint
from asr.training.curve import LearningCurve, TensorBoardLog
from asr.training.losses import CTC, MMI, STATES, Objective
from asr.training.mmi import LatticeFreeMmi
from asr.training.optimiser import MovingAverage, learning_rate, parameter_groups
from asr.training.options import Settings, write_settings
from asr.training.processes import Team
from asr.training.start import keep_origin, set_normalisation, states_of, take_over
from asr.training.tbptt import Memory
from asr.words.tokens import PHONES, TokenTable

ALIGNED_ANEW = "alignments"  # folder in a run's
FINE = 10**6  # steps into which a run that follows the clock is divided for the schedule
PROGRESS = ("step", "epoch", "place", "stage", "audio_seconds", "minutes")  # of a run, kept in its checkpoints


@dataclass
class Run:
    """A training run under way."""

    folder: Path
    data: TrainingSet
    dev: StoredSet | None
    settings: Settings
    team: Team
    objective: Objective
    average: MovingAverage
    optimiser: torch.optim.Optimizer
    augmenter: Augmenter
    aligned: bool
    memory: Memory
    steps_an_epoch: int  # epochs differ by a batch or two; the schedule counts on the first one's length
    step: int = 0
    epoch: int = 0
    place: int = 0  # in the epoch: steps of it that are done
    stage: str = CTC
    audio_seconds: float = 0.0
    minutes: float = 0.0
    loss: float = math.nan  # of the last step that it was read of
    recent: list[dict[str, Tensor]] = field(default_factory=list)  # losses since the last row of the curve
    logs: list[LearningCurve | TensorBoardLog] = field(default_factory=list)  # of the first process alone

    @property
    def model(self) -> AcousticModel:
        """The averaged model: what is evaluated and shipped."""
        return self.average.module.model

    @property
    def config(self) -> AcousticConfig:
        return self.objective.model.config

    @property
    def done(self) -> float:
        """The part of the run that is done, 0 to 1."""
        options = self.settings.training
        return self.minutes / options.minutes if options.minutes else self.step / self.steps

    @property
    def steps(self) -> int:
        """Of a run that counts epochs."""
        return self.steps_an_epoch * self.settings.training.epochs

    def rate(self, done: float) -> float:
        """The learning rate."""
        options = self.settings.training
        at = (int(done * FINE), FINE) if options.minutes else (self.step, self.steps)
        return learning_rate(*at, options.learning_rate, options.warm_up)


def prepare_run(
    folder: Path,
    data: TrainingSet,
    dev: StoredSet | None,
    settings: Settings,
    team: Team,
    start_from: Path | None = None,
    noises: Sequence[np.ndarray] = (),
    rooms: Sequence[np.ndarray] = (),
    graphs: bool = True,
    tensorboard: bool = False,
) -> Run:
    """Prepare a run, or take up the one that ``folder`` holds.

    Args:
        folder: of the run, in which checkpoints and the learning curve are left.
        data: what is learnt from.
        dev: what is measured on after every epoch, or None.
        settings: of the run.
        team: the processes that train together.
        start_from: folder of another run or of a model, whose weights a new run begins with.
        noises: (N,) int16 recordings without speech, to be mixed in.
        rooms: (N,) int16 room responses.
        graphs: whether CUDA graphs are used.
        tensorboard: whether the curve is written for TensorBoard too.
    Raises:
        DataError: nothing to learn from, or a checkpoint that is damaged or missing.
        UsageError: the folder holds a run with other settings, ``start_from`` a model of another shape, or the
            processes are not alike.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not data.utterances:
        raise DataError("no utterance is left to learn from; see the reasons above")
    options = settings.training
    biphones = states_of(folder, start_from, data)
    if biphones:
        settings = replace(settings, model=replace(settings.model, states=len(biphones)))
    team.check_alike(_facts(data, settings))
    torch.manual_seed(options.seed)
    mmi = None
    if biphones and options.mmi_from < 1 and settings.losses.of_stage(MMI).get("mmi"):
        mmi = LatticeFreeMmi(biphones, (one.phones for one in data.alignments()), graphs)
    elif not biphones and options.mmi_from == 0:
        raise UsageError("mmi_from 0 needs alignments: leave out --align-with none")
    objective = Objective(AcousticModel(settings.model), biphones, mmi)
    set_normalisation(objective.model, data)
    if start_from:
        take_over(objective, start_from, needs_states=bool(mmi) and options.mmi_from == 0)
    objective.to(team.device)
    groups = parameter_groups(objective, options.weight_decay)
    run = Run(
        folder,
        data,
        dev,
        settings,
        team,
        objective,
        MovingAverage(objective, options.average),
        torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98), fused=True),
        Augmenter(settings.changes, settings.model.frontend, team.device, noises, rooms),
        aligned=biphones is not None,
        memory=Memory(options.pass_state, settings.rows.recording_seconds > 0),
        steps_an_epoch=len(data.plan(settings.rows, settings.model, options.seed, 0)),
        stage=STATES if biphones else CTC,
    )
    _resume(run)
    if team.first:
        write_settings(settings, folder / "run.toml")
        if biphones:
            biphones.write(folder / STATES_FILE, TokenTable(PHONES))
        if start_from:
            keep_origin(folder, start_from)
        run.logs = [LearningCurve(folder, run.step), *([TensorBoardLog(folder, run.step)] if tensorboard else [])]
    return run


def save(run: Run) -> None:
    """Write a checkpoint."""
    if not run.team.first:
        return
    checkpoint.save(
        run.folder,
        {
            "config": run.config.to_dict(),
            "settings": _held(run),
            "objective": run.objective.state_dict(),
            "averaged": run.average.module.state_dict(),
            "optimiser": run.optimiser.state_dict(),
            "memory": run.memory.content(),
            "recent": run.recent,
            **{name: getattr(run, name) for name in PROGRESS},
        },
    )


def _resume(run: Run) -> None:
    content = checkpoint.load(run.folder, run.team.device)
    if content is None:
        return
    before, now = content["settings"], _held(run)
    differing = [
        f"{table}.{key}"
        for table, values in now.items()
        for key, value in values.items()
        if before.get(table, {}).get(key) != value
    ]
    if differing:
        raise UsageError(
            f"{run.folder} holds a run with other settings ({', '.join(differing)}); "
            "give the same ones to resume it, or another folder to start anew"
        )
    run.objective.load_state_dict(content["objective"])
    run.average.module.load_state_dict(content["averaged"])
    run.optimiser.load_state_dict(content["optimiser"])
    run.memory.restore(content["memory"])
    run.recent = content["recent"]
    for name in PROGRESS:
        setattr(run, name, content[name])


def _held(run: Run) -> dict[str, dict]:
    """What a checkpoint and the command that resumes it must agree on."""
    tables = {name: values for name, values in run.settings.tables().items() if name != "machine"}
    return tables | {"run": {"parts": run.team.parts, "states": run.config.states}}


def _facts(data: TrainingSet, settings: Settings) -> dict[str, str]:
    """What must be the same in all processes."""
    return {
        "Rill": asr.__version__,
        "torch": torch.__version__,
        "a corpus of": f"{data.utterances} utterances, {data.seconds:.1f} s",
        "the settings": str(settings.tables()),
    }
