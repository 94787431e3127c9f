"""Folders of recordings, and where their texts go: what is found, what is left out, what cannot be written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SAMPLES, wav_bytes
from serving import PATIENCE_SECONDS, wait_for

from asr.cli.sources import RECORDINGS, find_sources
from asr.errors import OutputError
from asr.output.files import LineWriter, OutputFolder, Source
from asr.streaming.results import Result, Word

GREETING = (SAMPLES / "greeting.wav").read_bytes()
RESULT = Result.of([Word("yes", 0.0, 0.4, 0.9)], final=True)


def test_what_can_be_decoded_is_found_whatever_it_is_called(tmp_path: Path) -> None:
    for name in ("a.xyz", "b", "c.wav", "d.WMV"):
        (tmp_path / name).write_bytes(GREETING)
    (tmp_path / "e.bin").write_bytes(np.random.default_rng(0).bytes(100_000))
    (tmp_path / "f.txt").write_text("notes")
    (tmp_path / "h.list").write_text(f"#EXTM3U\n{tmp_path}/c.wav\n")
    os.mkfifo(tmp_path / "g.wav")
    found = find_sources([str(tmp_path)])
    assert [Path(source.name).name for source in found.sources] == ["a.xyz", "b", "c.wav", "d.WMV"]
    assert [Path(name).name for name in found.left_out] == ["e.bin", "f.txt", "g.wav", "h.list"]
    assert "left out 4 files" in found.remark and "g.wav" in found.remark
    assert set(".wmv .flv .mp2 .mts .ogv .gsm .tta .m2ts .asf".split()) <= RECORDINGS


def test_a_name_at_the_limit_of_the_file_system_ends_nothing(asr, model_folder: Path, tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    longest = "a" * 251
    for name in (f"{longest}.wav", "b.wav"):
        (folder / name).write_bytes(GREETING)
    assert asr("transcribe", "--model", model_folder, folder, "-o", output).returncode == 0
    assert {path.name for path in output.iterdir()} == {f"{longest}.txt", "b.txt"}
    run = asr("transcribe", "--model", model_folder, folder, "-o", output, "--format", "jsonl")
    assert run.returncode == 1 and "File name too long" in run.stderr and "1 file," in run.stderr.splitlines()[-1]
    assert {path.name for path in output.iterdir()} == {f"{longest}.txt", "b.txt", "b.jsonl"}
    with LineWriter(output / f"{longest}.srt") as writer:
        writer.write("text")
    assert (output / f"{longest}.srt").read_text() == "text\n"


def test_the_ending_of_the_output_is_its_format(asr, model_folder: Path, tmp_path: Path) -> None:
    for ending, start in {"srt": "1\n00:00:00,", "vtt": "WEBVTT", "json": "{\n", "tsv": "start\tend"}.items():
        output = tmp_path / f"x.{ending}"
        assert asr("transcribe", "--model", model_folder, SAMPLES / "greeting.wav", "-o", output).returncode == 0
        assert output.read_text().startswith(start)
    several = (SAMPLES / "greeting.wav", SAMPLES / "weather.wav", "-o", tmp_path / "several.srt")
    run = asr("transcribe", "--model", model_folder, *several)
    assert run.returncode == 2 and "need a folder" in run.stderr and not (tmp_path / "several.srt").exists()


def test_names_that_the_terminal_cannot_show(model_folder: Path, tmp_path: Path) -> None:
    for name in ("grüße.wav", "b.wav"):
        (tmp_path / name).write_bytes(GREETING)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "asr", "transcribe", "--model", model_folder, tmp_path, tmp_path / "ß.wav"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 1 and "Traceback" not in run.stderr and "no such file" in run.stderr
    assert [line.split(": ")[0] for line in run.stdout.splitlines()] == [f"{tmp_path}/b.wav", f"{tmp_path}/gr??e.wav"]


def test_silence_is_told_with_its_level(asr, model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "quiet.wav"
    path.write_bytes(wav_bytes(np.zeros(16_000)))
    run = asr("transcribe", "--decoder", "greedy", path)
    assert (run.returncode, run.stdout) == (0, "\n")
    assert run.stderr == f"asr: {path}: no words were recognised in 1.0 s of audio (digital silence)\n"


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="standard output|/dev/full"), open("/dev/full", "w") as full:
        writer = LineWriter(None)
        writer._file = full
        writer.write("text")
    (tmp_path / "deep").write_text("a file where a folder should be")
    source = Source("deep/a.wav", Path("deep/a"))
    with pytest.raises(OutputError, match="deep/a.txt: cannot be written"):
        OutputFolder(tmp_path, ("txt",), [source]).write(source, "a", RESULT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_no_temporary_files(number: int, model_folder: Path, tmp_path: Path, speech) -> None:
    long = tmp_path / "b.wav"
    long.write_bytes(wav_bytes(np.tile(speech, 400)))
    output = tmp_path / "out" / "x.txt"
    output.parent.mkdir()
    command = [sys.executable, "-m", "asr", "transcribe", "--model", model_folder, SAMPLES / "greeting.wav", long]
    process = subprocess.Popen(
        [*command, "-o", output], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: any(path.stat().st_size for path in output.parent.iterdir()))  # the first is written
    process.send_signal(number)
    out, error = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 128 + number and "Traceback" not in error
    assert [path.name for path in output.parent.iterdir()] == ["x.txt"]
    if number == signal.SIGINT:
        assert "interrupted: 1 of 2 files are done" in error and "--resume" in error


def test_ctrl_c_in_a_folder_with_one_job_gives_the_last_words(model_folder: Path, tmp_path: Path, speech) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.wav").write_bytes(GREETING)
    (folder / "b.wav").write_bytes(wav_bytes(np.tile(speech, 400)))
    process = subprocess.Popen(
        [sys.executable, "-m", "asr", "transcribe", "--model", model_folder, folder, "-o", output, "--chunk-ms", "500"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for((output / "a.txt").is_file)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130 and "--resume goes on from there" in error and "1 of 2 files are done" in error
    assert [path.name for path in output.iterdir()] == ["a.txt"]
