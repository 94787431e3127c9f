"""A search for better hyperparameters, kept in a folder: it goes on after any stop, on one process or several."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from asr.errors import DataError, RillError, UsageError
from asr.files import locked
from asr.tuning.space import SearchSpace, Value

FILE = "study.sqlite3"
NAME = "rill"
PRUNERS = ("median", "hyperband", "none")
SAMPLERS = ("tpe", "random")
STEPS = 10  # a trial is compared with others at tenths of its training, as trainings may have different lengths
INTERRUPTED = "interrupted"  # of a study: numbers of trials that a stopped process left behind
REASON, RUN = "reason", "run"  # of a trial: why it failed, and whose run folder it has

Settings = dict[str, Value]


class Objective(Protocol):
    """What values a trial."""

    def value(self, attempt: Attempt, settings: Settings) -> float:
        """What is minimised; raises TrialPruned when `Attempt.tell` does, DataError when there is no value."""


@dataclass(frozen=True)
class StudyOptions:
    """How a study searches; all but ``workers`` must stay the same when it goes on."""

    space: SearchSpace
    goal: str  # what is minimised, in words
    about: dict[str, object]  # what else the values depend on, such as the data
    sampler: str = "tpe"
    pruner: str = "median"
    seed: int = 0

    def __post_init__(self) -> None:
        for what, given, allowed in (("sampler", self.sampler, SAMPLERS), ("pruner", self.pruner, PRUNERS)):
            if given not in allowed:
                raise UsageError(f"unknown {what} {given!r}; give {', '.join(allowed)}")

    def to_dict(self) -> dict[str, object]:
        return {
            "space": self.space.to_dict(),
            "goal": self.goal,
            "about": self.about,
            "sampler": self.sampler,
            "pruner": self.pruner,
            "seed": self.seed,
        }


def open_study(folder: Path, options: StudyOptions | None = None, worker: int = 0) -> optuna.Study:
    """The study of a folder; with ``options`` one is begun where there is none.

    Raises:
        DataError: there is none, or its file is damaged.
        UsageError: it has other settings.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = folder / FILE
    if options is None and not path.is_file():
        raise DataError(f"{folder} holds no study; begin one: asr tune TABLE... --dev TABLE --study {folder}")
    sampler = pruner = None
    if options:
        folder.mkdir(parents=True, exist_ok=True)
        sampler, pruner = _sampler(options, worker), _pruner(options)
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", {"connect_args": {"timeout": 60}})
        study = optuna.create_study(
            storage=storage, study_name=NAME, sampler=sampler, pruner=pruner, load_if_exists=True
        )
    except Exception as error:  # of sqlite, sqlalchemy or alembic, by the kind of damage
        raise DataError(f"{path} cannot be read as a study; remove it to begin anew") from error
    if options:
        wanted = json.loads(json.dumps(options.to_dict()))
        held = study.user_attrs.get("options", wanted)
        differing = [key for key in wanted if held.get(key) != wanted[key]]
        if differing:
            raise UsageError(
                f"{folder} holds a study with other settings ({', '.join(differing)}); give the same ones to go on, "
                "or another folder to begin anew"
            )
        study.set_user_attr("options", wanted)
    return study


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep others out of a study: whoever is in it takes unfinished trials for those of a process that is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "wb") as file:
        if not locked(file):
            raise UsageError(f"another asr tune is at work in {folder}; wait for it, or give another folder")
        yield


def retry_interrupted(study: optuna.Study) -> int:
    """Take trials that a stopped process left behind up again, in the run folders they have; how many there are."""
    left = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in left:
        study.set_user_attr(INTERRUPTED, [*study.user_attrs.get(INTERRUPTED, []), trial.number])
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params, {RUN: run_number(trial)})
    return len(left)


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """Trials under way or ended: all but those that wait, or that were interrupted and are tried again."""
    interrupted = study.user_attrs.get(INTERRUPTED, [])
    trials = study.get_trials(deepcopy=False)
    return [one for one in trials if one.state != TrialState.WAITING and one.number not in interrupted]


def run_number(trial: FrozenTrial | optuna.Trial) -> int:
    """By which its run folder is named: of a trial that was taken up again, the number of its first attempt."""
    return trial.user_attrs.get(RUN, trial.number)


def search(folder: Path, options: StudyOptions, trials: int, start: Callable[[], Objective], workers: int = 1) -> None:
    """Try hyperparameters until a study has so many trials, those of earlier searches included.

    Args:
        folder: of the study, in nobody else's hands (`only_one`).
        options: of the study.
        trials: in all.
        start: called once in each process; gives what values a trial. It is pickled where there are several.
        workers: processes; 1 is this one.
    Raises:
        DataError: a worker ended before its time.
    """
    study = open_study(folder, options)
    retry_interrupted(study)
    if workers == 1:
        _work(study, options, trials, start(), multiprocessing.Lock(), lambda: None)
        return
    context = multiprocessing.get_context("spawn")
    turn = context.Lock()
    processes = [
        context.Process(target=_worker, args=(folder, options, trials, start, turn, number, os.getpid()))
        for number in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join()
    except BaseException:
        for process in processes:  # which heard the same Ctrl-C, and save
            process.join()
        raise
    failed = [process.exitcode for process in processes if process.exitcode]
    if failed:
        raise DataError(f"{len(failed)} of {workers} workers failed, see above; the same command goes on")


def _worker(
    folder: Path,
    options: StudyOptions,
    trials: int,
    start: Callable[[], Objective],
    turn: AbstractContextManager[bool],
    number: int,
    parent: int,
) -> None:
    def look_after() -> None:
        if os.getppid() != parent:  # killed: the study may soon be in other hands
            os._exit(1)

    try:
        _work(open_study(folder, options, number), options, trials, start(), turn, look_after)
    except KeyboardInterrupt:
        sys.exit(0)
    except RillError as error:
        print(f"asr: {error}", file=sys.stderr)
        sys.exit(1)


def _work(
    study: optuna.Study,
    options: StudyOptions,
    trials: int,
    objective: Objective,
    turn: AbstractContextManager[bool],
    look_after: Callable[[], None],
) -> None:
    while True:
        look_after()
        with turn:  # so that workers do not begin more than asked for
            if len(counted(study)) >= trials:
                return
            trial = study.ask()
            settings = options.space.suggest(trial)
        _try(study, trial, settings, objective, options.goal, look_after)


def _try(
    study: optuna.Study,
    trial: optuna.Trial,
    settings: Settings,
    objective: Objective,
    goal: str,
    look_after: Callable[[], None],
) -> None:
    about = ", ".join(f"{name} {value:.4g}" for name, value in settings.items())
    try:
        value = objective.value(Attempt(trial, look_after), settings)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        print(f"trial {trial.number}: given up, {about}", file=sys.stderr, flush=True)
    except DataError as error:  # such as a loss that is no number
        trial.set_user_attr(REASON, str(error))
        study.tell(trial, state=TrialState.FAIL)
        print(f"trial {trial.number}: failed, {error}", file=sys.stderr, flush=True)
    else:
        study.tell(trial, value)
        print(f"trial {trial.number}: {100 * value:.2f} % {goal}, {about}", file=sys.stderr, flush=True)


class Attempt:
    """A trial under way, as its objective sees it."""

    def __init__(self, trial: optuna.Trial, look_after: Callable[[], None]) -> None:
        self._trial = trial
        self._told = 0
        self.look_after = look_after  # to be called often: ends this process when the one that started it is gone
        self.run = run_number(trial)

    def tell(self, done: float, value: float) -> None:
        """Report a value after a part of the work, above 0 to 1.

        Raises:
            TrialPruned: others were better by then.
        """
        step = int(STEPS * done + 1e-9)
        if self._told < step:
            self._told = step
            self._trial.report(value, step)
            if done < 1 and self._trial.should_prune():
                raise optuna.TrialPruned

    def note(self, **facts: float) -> None:
        """Keep facts with the trial, for the report."""
        for name, value in facts.items():
            self._trial.set_user_attr(name, value)


def _sampler(options: StudyOptions, worker: int) -> optuna.samplers.BaseSampler:
    seed = options.seed * 1_000 + worker
    if options.sampler == "random":
        return optuna.samplers.RandomSampler(seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True, multivariate=True)


def _pruner(options: StudyOptions) -> optuna.pruners.BasePruner:
    if options.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)
    if options.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=STEPS)
    return optuna.pruners.NopPruner()
