"""`asr tune`: the search space, going on after kill -9, workers side by side, the report, and decoding weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from conftest import SAMPLES
from optuna.trial import TrialState

from asr.cli.main import main
from asr.errors import DataError, UsageError
from asr.tuning.report import importances, write_study_report
from asr.tuning.space import TRAINING, Range, read_space
from asr.tuning.study import Attempt, StudyOptions, counted, open_study, search

SPACE = """
epochs = 1
size = [8, 12]
layers = 2
learning_rate = { low = 1e-4, high = 1e-2, log = true }
"""


def write_table(path: Path, prefix: str = "") -> Path:
    rows = (
        f"{prefix}{wav.stem}\t{wav}\t{wav.with_suffix('.txt').read_text().strip()}\n"
        for wav in (SAMPLES / "greeting.wav", SAMPLES / "numbers.wav")
    )
    path.write_text("id\tpath\ttext\n" + "".join(rows), encoding="utf-8")
    return path


def tune(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["asr", "tune", *map(str, arguments)])
    return main()


class Parabola:
    """An objective that needs no training: best at a learning rate of 1e-3."""

    def __init__(self, folder: Path, seconds: float = 0.0) -> None:
        self.folder, self.seconds = folder, seconds

    def __call__(self) -> Parabola:
        return self

    def value(self, attempt: Attempt, settings: dict) -> float:
        with open(self.folder / "runs.txt", "a") as file:
            file.write(f"{attempt.run} {settings['learning_rate']}\n")
        error = abs(settings["learning_rate"] - 1e-3)
        if error > 5e-3:
            raise DataError("the loss became nan")
        for part in (0.5, 1.0):
            time.sleep(self.seconds)
            attempt.look_after()
            attempt.tell(part, error)
        return error


OPTIONS = StudyOptions(TRAINING, "error", {})


def test_a_space_is_read_and_mistakes_are_named(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(SPACE)
    space = read_space(path, TRAINING).dimensions
    assert space["size"] == (8, 12) and space["layers"] == (2,)
    assert space["learning_rate"] == Range(1e-4, 1e-2, log=True) and not space["learning_rate"].whole
    for wrong, said in (
        ("units = 3", "names units"),
        ("size = []", "size must be"),
        ("", "names nothing"),
        ("dropout = { low = 0.0, high = 0.5, log = true }", "dropout must be"),
        ("epochs = { low = 5, high = 5 }", "epochs must be"),
        ("epochs =", "cannot be read"),
    ):
        path.write_text(wrong)
        with pytest.raises(UsageError, match=said):
            read_space(path, TRAINING)


def test_workers_share_a_study_and_begin_no_trial_too_many(tmp_path):
    search(tmp_path, OPTIONS, 7, Parabola(tmp_path), workers=2)
    trials = counted(open_study(tmp_path))
    assert len(trials) == 7 == len((tmp_path / "runs.txt").read_text().splitlines())
    assert {trial.state for trial in trials} >= {TrialState.COMPLETE}
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert all("nan" in trial.user_attrs["reason"] for trial in failed)
    search(tmp_path, OPTIONS, 9, Parabola(tmp_path))
    study = open_study(tmp_path)
    assert len(counted(study)) == 9
    with pytest.raises(UsageError, match="other settings \\(seed\\)"):
        search(tmp_path, StudyOptions(TRAINING, "error", {}, seed=1), 9, Parabola(tmp_path))


def test_what_matters_is_seen(tmp_path):
    study = optuna.create_study()
    study.set_user_attr("options", {"goal": "error"})
    random = np.random.default_rng(0)
    for rate, dropout in random.random((40, 2)):
        ranges = dict.fromkeys(("rate", "dropout"), optuna.distributions.FloatDistribution(0, 1))
        settings = {"rate": rate, "dropout": dropout}
        study.add_trial(
            optuna.trial.create_trial(params=settings, distributions=ranges, value=rate**2 + 0.01 * dropout)
        )
    found = importances(study)
    assert list(found) == ["rate", "dropout"] and found["rate"] > 0.8 and sum(found.values()) == pytest.approx(1)
    page, *pictures = write_study_report(study, tmp_path)
    assert [path.name for path in pictures] == ["importance.png", "slices.png", "history.png"]
    assert page.read_text().count("data:image/png;base64,") == 3


def test_a_killed_search_takes_its_trial_up_again(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_tune import *; "
        f"search(Path({str(tmp_path)!r}), OPTIONS, 3, Parabola(Path({str(tmp_path)!r}), 0.5))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    deadline = time.monotonic() + 60
    while not (tmp_path / "runs.txt").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    search(tmp_path, OPTIONS, 3, Parabola(tmp_path))
    trials = counted(open_study(tmp_path))
    assert len(trials) == 3 and not any(trial.state == TrialState.RUNNING for trial in trials)
    killed, again, *_ = (line.split() for line in (tmp_path / "runs.txt").read_text().splitlines())
    assert killed == again, "the same settings, in the same run folder"


def test_trainings_are_searched_and_reported(tmp_path, monkeypatch, capsys):
    space = tmp_path / "space.toml"
    space.write_text(SPACE)
    study = tmp_path / "study"
    arguments = (
        write_table(tmp_path / "train.tsv"),
        "--dev",
        write_table(tmp_path / "dev.tsv", "again-"),
        "--study",
        study,
        "--space",
        space,
        "--align-with",
        "none",
        "--pruner",
        "none",
        "--set",
        "machine.precision=float32",
    )
    assert tune(monkeypatch, *arguments, "--trials", 2) == 0
    best = json.loads((study / "best.json").read_text())
    assert best["settings"]["size"] in (8, 12) and (Path(best["run"]) / "checkpoint.pt").is_file()
    trials = open_study(study).trials
    assert [sorted(trial.intermediate_values) for trial in trials] == [[10]] * 2
    assert best["value"] == min(trial.value for trial in trials)
    page = (study / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and "learning_rate" in page
    (study / "report.html").unlink()
    assert tune(monkeypatch, "--study", study, "--report") == 0
    assert (study / "report.html").is_file()
    capsys.readouterr()
    assert tune(monkeypatch, *arguments, "--trials", 2, "--set", "losses.phones=2") == 2
    assert "other settings (about)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--study", "s"), 2, "give --dev"),
        (("--study", "s", "--dev", "dev.tsv"), 2, "tables to learn from, or --decoder"),
        (("t.tsv", "--study", "s", "--dev", "dev.tsv", "--minimise", "loss"), 2, "give wer, cer, per"),
        (("t.tsv", "--study", "s", "--dev", "dev.tsv", "--pruner", "garden"), 2, "median, hyperband, none"),
        (("--study", "s", "--report"), 1, "holds no study"),
    ],
)
def test_wrong_options_are_one_line(arguments, status, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert tune(monkeypatch, *arguments) == status
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1


def test_decoding_weights_are_searched_over_posteriors_computed_once(
    model_folder, small_lm_folder, tmp_path, monkeypatch, capsys
):
    study = tmp_path / "study"
    arguments = (
        "--decoder",
        model_folder,
        "--lm",
        small_lm_folder,
        "--dev",
        write_table(tmp_path / "dev.tsv"),
        "--study",
        study,
    )
    assert tune(monkeypatch, *arguments, "--trials", 3) == 0
    written = (study / "posteriors.npz").stat().st_mtime_ns
    assert tune(monkeypatch, *arguments, "--trials", 4) == 0
    assert (study / "posteriors.npz").stat().st_mtime_ns == written
    first, *_ = trials = open_study(study).trials
    assert len(trials) == 4 and all(0 < trial.user_attrs["real_time_factor"] for trial in trials)
    weights = json.loads((small_lm_folder / "config.json").read_text())["weights"]
    assert first.params == {"beam": 12.0} | {name: weights[name] for name in first.params if name != "beam"}
