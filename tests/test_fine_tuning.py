"""Fine-tuning: the commands of docs/fine_tuning.md, on a small model and a few recordings."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import warnings

import numpy as np
import pytest
import torch
from conftest import ROOT, SAMPLES, make_talkative

from asr import Recognizer, RillWarning
from asr.acoustic.export import write_model_folder
from asr.acoustic.phone_states import Biphones
from asr.models.acoustic import AcousticConfig, AcousticModel
from asr.words.tokens import CHARACTERS, PHONES

PAGE = ROOT / "docs" / "fine_tuning.md"
QUICK = ["--epochs", "1", "--workers", "0", "--threads", "1", "--set", "rows.batch_seconds=10"]


@pytest.fixture(scope="module")
def base(tmp_path_factory, small_lm_folder):
    """A small model with states and a language model, of another shape than `asr train` makes unasked."""
    torch.manual_seed(1)
    alignments = [np.repeat(np.random.default_rng(0).integers(0, len(PHONES), 400), 3)]
    biphones = Biphones.estimate(alignments, len(PHONES), 1, 1, 1)
    config = AcousticConfig(
        len(CHARACTERS), len(PHONES), 24, (1, 0), 1, states=len(biphones), phone_share=0.25, front="stack"
    )
    model = AcousticModel(config)
    make_talkative(model)
    folder = tmp_path_factory.mktemp("models") / "base"
    write_model_folder(model.eval(), folder, "base", biphones=biphones)
    shutil.copytree(small_lm_folder, folder / "lm")
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Four recordings of one's own."""
    path = tmp_path_factory.mktemp("mine") / "mine.tsv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("id", "path", "text"))
        for wav in sorted(SAMPLES.glob("*.wav"))[:4]:
            writer.writerow((wav.stem, wav, wav.with_suffix(".txt").read_text().strip()))
    return path


def commands() -> list[list[str]]:
    """The commands of the page's walk-through, in order."""
    text = PAGE.read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.split("\n")]
    joined = re.sub(r" *\\\n *", " ", "\n".join(lines))
    return [shlex.split(line, comments=True) for line in joined.splitlines() if line.startswith("asr ")]


def test_the_page_runs_and_the_model_keeps_its_language_model(asr, base, table, tmp_path, monkeypatch):
    monkeypatch.setenv("RILL_DATA", str(tmp_path / "data"))
    assert asr("models", "get", base, "--name", "base").returncode == 0
    places = {
        "rill-en-small": "base",
        "mine/": f"{tmp_path}/mine/",
        "mine.tsv": str(table),
        "test.tsv": str(table),
        "runs/mine": str(tmp_path / "run"),
        "./rill-mine": str(tmp_path / "tuned"),
        "rill-mine": str(tmp_path / "tuned"),
        "rill-mine-office": str(tmp_path / "tuned-office"),
        "office": str(base / "lm"),
        "recording.wav": str(SAMPLES / "greeting.wav"),
    }
    done = set()
    for _, name, *arguments in commands():
        if name not in ("train", "export", "evaluate", "transcribe"):
            continue
        arguments = [places.get(argument, argument) for argument in arguments]
        if name == "train":  # what the page says is for hours of speech and many minutes
            arguments = arguments[: arguments.index("--minutes")] + QUICK
        ended = asr(name, *arguments)
        assert ended.returncode == 0, ended.stderr
        assert "language model" not in ended.stderr
        done.add(name)
    assert done == {"train", "export", "evaluate", "transcribe"}
    assert (tmp_path / "tuned-office" / "lm").is_dir()
    tuned = tmp_path / "tuned"
    for path in (base / "lm").iterdir():
        assert (tuned / "lm" / path.name).read_bytes() == path.read_bytes()
    made, given = (json.loads((folder / "config.json").read_text())["acoustic"] for folder in (tuned, base))
    assert made == given  # the shape, the states, and how much the phones count
    with warnings.catch_warnings():
        warnings.simplefilter("error", RillWarning)
        assert Recognizer.load(tuned).decoder == "lm"


@pytest.fixture(scope="module")
def run(base, table, tmp_path_factory):
    """A run that began with the base model, which is no more."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("runs")
    start = shutil.copytree(base, folder / "start")
    train = ["train", str(table), "--run", str(folder / "run"), "--start-from", str(start), *QUICK]
    subprocess.run([sys.executable, "-m", "asr", *train], cwd=ROOT, check=True, capture_output=True)
    shutil.rmtree(start)
    return folder / "run"


def test_a_run_keeps_what_it_began_with(asr, run, base, table, tmp_path):
    again = ("train", table, "--run", tmp_path / "again", "--start-from", run, *QUICK)
    assert asr(*again).returncode == 0
    for source in (run, tmp_path / "again"):
        done = asr("export", source, "--output", tmp_path / f"{source.name}-model")
        assert (done.returncode, done.stderr) == (0, "")
        config = json.loads((tmp_path / f"{source.name}-model" / "config.json").read_text())
        assert config["acoustic"]["phone_share"] == 0.25
        graph = "lm/graph.packed"
        assert (tmp_path / f"{source.name}-model" / graph).read_bytes() == (base / graph).read_bytes()


def test_a_model_without_its_language_model_says_so(asr, run, base, tmp_path):
    model = tmp_path / "model"
    assert asr("export", run, "--output", model, "--lm", "none").returncode == 0
    assert not (model / "lm").exists()
    with pytest.warns(RillWarning, match="has no language model.*asr lm build"):
        assert Recognizer.load(model).decoder == "greedy"
    told = asr("transcribe", "--model", model, SAMPLES / "greeting.wav")
    assert told.returncode == 0
    assert len(told.stderr.splitlines()) == 1 and "has no language model" in told.stderr
    meant = asr("transcribe", "--model", model, "--decoder", "greedy", SAMPLES / "greeting.wav")
    assert (meant.returncode, meant.stderr) == (0, "")

    without = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(without / "lm")
    exported = asr("export", without, "--output", tmp_path / "other")
    assert exported.returncode == 0
    assert "has no language model yet" in exported.stderr and "asr lm build TEXT... --output" in exported.stderr
    added = asr("export", without, "--output", tmp_path / "third", "--lm", base / "lm")
    assert (added.returncode, added.stderr) == (0, "") and (tmp_path / "third/lm/config.json").is_file()
    wrong = asr("export", without, "--output", tmp_path / "fourth", "--lm", tmp_path / "nowhere")
    assert wrong.returncode == 2 and "no such folder" in wrong.stderr


def test_a_damaged_language_model_is_not_carried_over(asr, base, table, tmp_path):
    start = shutil.copytree(base, tmp_path / "start")
    (start / "lm" / "lexicon.txt").write_text("cat K AE T\n")
    refused = asr("train", table, "--run", tmp_path / "run", "--start-from", start, *QUICK)
    assert refused.returncode == 1 and "lexicon.txt was altered" in refused.stderr


def test_an_unknown_start_is_wrong_usage(asr, table, tmp_path):
    refused = asr("train", table, "--run", tmp_path / "run", "--start-from", "rill-xx-large", *QUICK)
    assert refused.returncode == 2 and "unknown model 'rill-xx-large'" in refused.stderr
