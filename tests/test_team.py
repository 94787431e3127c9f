"""Several processes train as one: real ones, started by torchrun."""

import csv
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
from conftest import SAMPLES

from asr.cli.main import main
from asr.errors import DataError
from asr.training import checkpoint

TINY = """
[model]
size = 16
look_ahead_frames = [1, 0]
dropout = 0.1
[training]
speeds = [1.0, 0.9]
[rows]
batch_seconds = 40
[machine]
precision = "float32"
checkpoint_seconds = 0
"""
TORCHRUN = (
    "-m",
    "torch.distributed.run",
    "--nproc-per-node",
    "2",
    "--rdzv-backend",
    "c10d",
    "--rdzv-endpoint",
    "localhost:0",
    "-m",
    "--",
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("team") / "table.tsv"
    wavs = sorted(SAMPLES.glob("*.wav"))[:6]
    rows = [f"{wav.stem}\t{wav}\t{wav.with_suffix('.txt').read_text().strip()}" for wav in wavs]
    path.write_text("\n".join(["id\tpath\ttext", *rows]) + "\n")
    path.with_name("tiny.toml").write_text(TINY)
    return path


def arguments(table, run, *options):
    here = ("--cache", str(table.parent / "cache"), "--config", str(table.with_name("tiny.toml")))
    usual = ("--align-with", "none", "--threads", "1", "--workers", "0", "--device", "cpu")
    return ["train", str(table), "--run", str(run), *here, *usual, *options]


def train(monkeypatch, table, run, *options):
    """In this process: its status."""
    monkeypatch.setattr(sys, "argv", ["asr", *arguments(table, run, *options)])
    return main()


def curve(run):
    with open(run / "curve.csv", newline="", encoding="utf-8") as file:
        return [
            {key: float(value) for key, value in row.items() if value and key != "minutes"}
            for row in csv.DictReader(file)
        ]


def test_two_processes_learn_what_one_learns(table, tmp_path, monkeypatch, capsys):
    dev = table.with_name("dev.tsv")
    dev.write_text(table.read_text().replace("\n", "\nagain-").removesuffix("again-"))
    options = ("--dev", str(dev), "--epochs", "3")
    assert (
        train(monkeypatch, table, tmp_path / "alone", *options, "--set", "machine.accumulate=2", "--tensorboard") == 0
    )
    command = [sys.executable, *TORCHRUN, "asr", *arguments(table, tmp_path / "together", *options)]
    together = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert together.returncode == 0, together.stderr
    assert together.stderr.count("finished:") == 1, "only the first process speaks"
    one, two = curve(tmp_path / "alone"), curve(tmp_path / "together")
    assert len(one) == len(two) == 3
    for row, twin in zip(one, two, strict=True):
        assert row.keys() == twin.keys()
        for name, value in row.items():  # a rounding may tip a frame, and so an error rate, but hardly a loss
            assert value == pytest.approx(twin[name], rel=2e-4, abs=0.05 if name.startswith("dev_") else 0), name
    assert one[-1]["loss"] < one[0]["loss"]
    check_tensorboard(tmp_path / "alone", one)
    capsys.readouterr()
    assert train(monkeypatch, table, tmp_path / "together", *options) == 2
    assert "parts" in capsys.readouterr().err, "a run of two goes on in one process, its batches in as many parts"


def check_tensorboard(run, rows):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert {"loss/phones", "dev/wer", "progress/learning_rate"} <= set(events.Tags()["scalars"])
    points = events.Scalars("loss/loss")
    assert [(point.step, point.value) for point in points] == [
        (row["step"], pytest.approx(row["loss"], rel=1e-5)) for row in rows
    ]


def test_a_process_that_is_killed_ends_the_run_and_the_checkpoint_stands(table, tmp_path):
    run = tmp_path / "run"
    options = ("--epochs", "5000")
    command = [sys.executable, *TORCHRUN, "asr", *arguments(table, run, *options)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as training:
        deadline = time.monotonic() + 200
        while not (run / "checkpoint.pt").is_file():
            assert training.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        workers = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and parent(pid) == training.pid]
        os.kill(max(workers), signal.SIGKILL)
        _, told = training.communicate(timeout=120)
    assert training.returncode != 0
    assert "exitcode  : -9" in told, told
    assert checkpoint.load(run)["step"] > 0


def parent(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return None


def test_a_full_disk_leaves_the_last_checkpoint(table, tmp_path, monkeypatch):
    run = tmp_path / "run"
    assert train(monkeypatch, table, run, "--epochs", "1") == 0
    before = (run / "checkpoint.pt").read_bytes()
    content = checkpoint.load(run)
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails as it does on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, was[1]))
    try:
        with pytest.raises(DataError, match="cannot be written .* the one before it stands"):
            checkpoint.save(run, content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)
        signal.signal(signal.SIGXFSZ, handler)
    assert (run / "checkpoint.pt").read_bytes() == before
    assert [path.name for path in run.glob("*.partial")] == []
