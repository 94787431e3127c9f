"""Training through the public command: it learns, it resumes after a kill as if nothing had happened."""

import csv
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import SAMPLES, SPEECH_DATA

from asr.data.manifest import load_audio, read_manifest

SMALL = """
[model]
front = "stack"
size = 96
look_ahead_frames = [1, 1, 0]
dropout = 0.0
[training]
speeds = [1.0]
[rows]
batch_seconds = 20
[changes]
room = 0.0
noise = 0.0
telephone = 0.0
low_pass = 0.0
least_gain_db = 0.0
most_gain_db = 0.0
warp = 0.0
channel_db = 0.0
[masks]
mel_width = 0
time_width_frames = 0
[machine]
precision = "float32"
"""


ONE_WORD = 0.03  # of the four texts, and a bit: CPUs round differently, and what is learnt differs with it


def process_of(*arguments):
    """`asr` as a process of its own, that can be killed."""
    return subprocess.Popen([sys.executable, "-m", "asr", *map(str, arguments)], stderr=subprocess.PIPE, text=True)


def write_table(path: Path, recordings, prefix=""):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("id", "path", "text"))
        writer.writerows((prefix + wav.stem, wav, text) for wav, text in recordings)
    return path


def curve(run: Path):
    with open(run / "curve.csv", newline="", encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if key != "minutes"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def few_utterances(tmp_path_factory):
    """Four short recordings with their texts: of real speakers where the speech data is there, else the samples."""
    if not (SPEECH_DATA / "dev.tsv").is_file():
        return [(wav, wav.with_suffix(".txt").read_text().strip()) for wav in sorted(SAMPLES.glob("*.wav"))[:4]]
    folder = tmp_path_factory.mktemp("speech")
    utterances = [u for u in read_manifest(SPEECH_DATA / "dev.tsv").utterances if u.source == "librispeech"]
    recordings = []
    for utterance in sorted(utterances, key=lambda u: u.seconds)[:4]:
        wav = folder / f"{utterance.id}.wav"
        soundfile.write(wav, load_audio(utterance), 16_000)
        recordings.append((wav, utterance.text))
    return recordings


@pytest.fixture(scope="module")
def tables(tmp_path_factory, few_utterances):
    """A table of four short utterances, and the same ones as a dev table under other ids."""
    folder = tmp_path_factory.mktemp("tables")
    return write_table(folder / "train.tsv", few_utterances), write_table(folder / "dev.tsv", few_utterances, "again-")


@pytest.fixture(scope="module")
def small(tables):
    """Options of a small model, trained on audio that these tests share."""
    config = tables[0].parent / "small.toml"
    config.write_text(SMALL)
    return (
        "--config",
        config,
        "--cache",
        tables[0].parent / "cache",
        "--threads",
        "1",
        "--workers",
        "0",
        "--align-with",
        "none",
    )


def test_a_few_utterances_are_learnt_by_heart(asr, tables, small, tmp_path):
    train, dev = tables
    run, model = tmp_path / "run", tmp_path / "model"
    done = asr(
        "train",
        train,
        "--dev",
        dev,
        "--run",
        run,
        *small,
        "--epochs",
        "120",
        "--set",
        "rows.batch_seconds=4",
        "--set",
        "training.learning_rate=0.005",
    )
    assert done.returncode == 0, done.stderr
    learnt = float(curve(run)[-1]["dev_wer"])
    assert learnt < ONE_WORD
    assert (run / "curve.png").stat().st_size > 5_000

    assert asr("export", run, "--output", model, "--name", "by-heart").returncode == 0
    for number, start in enumerate((run, model)):
        again = ("train", train, "--dev", dev, "--run", tmp_path / f"again-{number}", "--start-from", start, *small)
        assert asr(*again, "--epochs", "1", "--set", "training.learning_rate=1e-9").returncode == 0
        assert [float(row["dev_wer"]) for row in curve(tmp_path / f"again-{number}") if row["dev_wer"]] == [learnt]
        other_shape = asr(*again, "--set", "model.size=32", "--run", tmp_path / f"other-{number}")
        assert other_shape.returncode == 2 and "another shape" in other_shape.stderr
    nothing = asr("train", train, "--run", tmp_path / "new", "--start-from", tmp_path / "nowhere", *small)
    assert nothing.returncode == 1 and "neither a training run nor a model" in nothing.stderr

    exact = ("--engine", "onnx", "--chunk-ms", "160", "--output", tmp_path / "texts.jsonl")
    evaluated = asr("evaluate", dev, "--model", model, *exact)
    assert evaluated.returncode == 0, evaluated.stderr
    total = next(line for line in evaluated.stdout.splitlines() if "all" in line)
    assert float(total.split()[7]) < 100 * ONE_WORD


@pytest.fixture(scope="module")
def uninterrupted(tables, small, tmp_path_factory):
    """Arguments of a training, and the folder of a run of it that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    often = ("--set", "training.seed=3", "--set", "machine.checkpoint_seconds=0", "--set", "changes.warp=0.1")
    arguments = ("train", tables[0], *small, *often, "--epochs", "60")
    with process_of(*arguments, "--run", folder) as process:
        _, told = process.communicate(timeout=1_500)
    assert process.returncode == 0, told
    return arguments, folder


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_resumes_with_the_same_curve(asr, uninterrupted, tmp_path, how):
    arguments, whole = uninterrupted
    killed = tmp_path / "killed"
    with process_of(*arguments, "--run", killed) as process:
        while not (killed / "checkpoint.pt").is_file():  # at the first of its 60 steps
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(how)
        process.communicate(timeout=600)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    before = curve(killed)
    resumed = asr(*arguments, "--run", killed)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming at step" in resumed.stderr
    assert len(before) < len(curve(killed))
    assert curve(killed) == curve(whole)


def test_states_are_learnt_then_set_apart_from_everything_else(asr, tables, small, uninterrupted, tmp_path):
    run, model = tmp_path / "run", tmp_path / "model"
    options = ("train", tables[0], "--dev", tables[1], *small[:-1], "rill-en-small", "--epochs", "4")
    assert asr(*options, "--run", run).returncode == 0
    rows = curve(run)
    assert [bool(row["states"]) for row in rows] == [True, True, False, False]
    assert [bool(row["mmi"]) for row in rows] == [bool(row["frames"]) for row in rows] == [False, False, True, True]
    assert all(float(row["phones"]) and float(row["characters"]) for row in rows)
    assert asr("export", run, "--output", model).returncode == 0
    said = asr("align", SAMPLES / "greeting.wav", SAMPLES / "greeting.txt", "--model", model)
    assert said.returncode == 0 and len(said.stdout.splitlines()) == 7, said.stderr

    later = (*options, "--set", "training.mmi_from=0", "--start-from")
    assert asr(*later, run, "--run", tmp_path / "later").returncode == 0
    assert all(row["mmi"] and not row["states"] for row in curve(tmp_path / "later"))
    assert (tmp_path / "later" / "states.txt").read_bytes() == (run / "states.txt").read_bytes()
    for align, complaint in (("none", "needs alignments"), ("rill-en-small", "has not learnt states")):
        refused = asr(*later, uninterrupted[1], "--align-with", align, "--run", tmp_path / align)
        assert refused.returncode == 2 and complaint in refused.stderr and "Traceback" not in refused.stderr


def test_alignment_anew_half_way(asr, tables, small, tmp_path):
    options = ("train", tables[0], *small[:-1], "rill-en-small", "--set", "training.realign=true", "--epochs", "4")
    plain, run, killed = (tmp_path / name for name in ("plain", "run", "killed"))
    assert asr(*options[:-4], *options[-2:], "--run", plain).returncode == 0
    assert asr(*options, "--run", run).returncode == 0
    header, *lines = (run / "alignments" / "alignments.jsonl").read_text().splitlines()
    assert '"step 4"' in header and len(lines) == 4
    assert not (plain / "alignments").exists()
    before, after = ([row["mmi"] for row in curve(folder)] for folder in (plain, run))
    assert before[:2] == after[:2] and before[2:] != after[2:]

    often = ("--set", "machine.checkpoint_seconds=0", "--run", killed)
    with process_of(*options, *often) as process:
        while not (killed / "alignments" / "alignments.jsonl").is_file():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.communicate(timeout=600)
    assert asr(*options, *often).returncode == 0
    resumed, whole = ([float(row["loss"]) for row in curve(folder)] for folder in (killed, run))
    assert resumed == pytest.approx(whole, rel=1e-3)  # the alignment between leaves memory laid out otherwise


def test_the_clock_ends_a_run(asr, tables, small, tmp_path):
    done = asr("train", tables[0], *small, "--run", tmp_path, "--minutes", "0.05", "--set", "training.warm_up=0")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(open(tmp_path / "curve.csv", encoding="utf-8")))
    assert float(rows[-1]["minutes"]) >= 0.05
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(1e-5, rel=0.01)


def test_a_run_writes_the_settings_that_make_it_again(asr, tables, small, tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    shares = ("--set", "rows.shares.books=0.5", "--epochs", "2")
    assert asr("train", tables[0], *small, *shares, "--run", first).returncode == 0
    assert 'books" = 0.5' in (first / "run.toml").read_text()
    options = (*small[2:], "--config", first / "run.toml")
    assert asr("train", tables[0], *options, "--run", again).returncode == 0
    assert curve(first) == curve(again)
    assert (first / "run.toml").read_bytes() == (again / "run.toml").read_bytes()


def test_the_whole_recipe_runs(asr, tables, tmp_path):
    """Rooms, noise, masks, states passed, all losses, both stages: with a small network of the shipped shape."""
    random = np.random.default_rng(0)
    for name, length in (("noise", 40_000), ("rooms", 8_000)):
        (tmp_path / name).mkdir()
        sound = random.normal(0, 0.05, length) * np.exp(-np.arange(length) / (1_500 if name == "rooms" else 1e9))
        soundfile.write(tmp_path / name / "one.wav", np.clip(sound, -1, 1), 16_000)
    with tarfile.open(tmp_path / "noise.tar", "w") as tar:
        tar.add(tmp_path / "noise" / "one.wav", "one.wav")
    sizes = ("--set", "model.size=16", "--set", "rows.batch_seconds=10")
    often = ("--set", "changes.room=1", "--set", "changes.noise=1", "--set", "changes.telephone=1")
    options = ("--noise", tmp_path / "noise.tar", "--rooms", tmp_path / "rooms", "--epochs", "4", "--workers", "0")
    done = asr("train", tables[0], "--dev", tables[1], "--run", tmp_path / "run", *sizes, *often, *options)
    assert done.returncode == 0, done.stderr
    rows = [row for row in curve(tmp_path / "run") if row["loss"]]
    assert np.isfinite([float(row["loss"]) for row in rows]).all()
    assert rows[0]["states"] and rows[-1]["mmi"]


def test_other_settings_do_not_resume(asr, tables, small, tmp_path):
    train, _ = tables
    asr("train", train, "--run", tmp_path, *small, "--epochs", "1")
    refused = asr("train", train, "--run", tmp_path, *small, "--epochs", "1", "--set", "training.learning_rate=0.5")
    assert refused.returncode == 2
    assert "learning_rate" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        "--set model.look_ahead_frames=much",
        "--epochs 0",
        "--device quantum",
        "--set machine.precision=7",
        "--set machine.precision=seven",
        "--set model.units=3",
        "--set units=3",
        "--set network.size=3",
        "--set training.learning_rate=-1",
        "--set model.phone_layer=9",
        "--set rows.shares.books=much",
        "--config nowhere.toml",
    ],
)
def test_impossible_settings_are_usage_errors(asr, tables, small, tmp_path, arguments):
    done = asr("train", tables[0], "--run", tmp_path, *small, *arguments.split())
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("asr: ")


def test_what_cannot_be_learnt_from_is_named(asr, few_utterances, small, tmp_path):
    (wav, text), *_ = few_utterances
    rows = [(wav, text), (wav, " ".join([text] * 40)), (wav, "7 digits"), (tmp_path / "nowhere.wav", "hello")]
    table = tmp_path / "table.tsv"
    lines = [f"{number}\t{path}\t{text}\n" for number, (path, text) in enumerate(rows)]
    table.write_text("id\tpath\ttext\n" + "".join(lines), encoding="utf-8")
    done = asr("train", table, "--run", tmp_path / "run", *small[:2], *small[4:], "--epochs", "1")
    assert done.returncode == 0, done.stderr
    rejected = {row.split("\t")[0]: row for row in (tmp_path / "run" / "rejected.tsv").read_text().splitlines()[1:]}
    assert set(rejected) == {"1", "2", "3"}
    assert "frames" in rejected["1"] and "'7'" in rejected["2"] and "missing" in rejected["3"]
    assert "3 left out" in done.stderr


def test_a_run_folder_that_cannot_be_is_told(asr, tables, small, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    done = asr("train", tables[0], "--run", tmp_path / "file" / "run", *small)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1 and "file" in done.stderr


def test_a_damaged_checkpoint_is_told(asr, tables, small, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"PK not really")
    for command in (("train", tables[0], "--run", tmp_path, *small), ("export", tmp_path, "--output", tmp_path / "m")):
        done = asr(*command)
        assert done.returncode == 1
        assert "checkpoint.pt" in done.stderr


def test_training_on_the_dev_set_is_refused(asr, tables, small, tmp_path):
    done = asr("train", tables[0], "--dev", tables[0], "--run", tmp_path, *small)
    assert done.returncode == 1
    assert "what is trained on cannot measure" in done.stderr
