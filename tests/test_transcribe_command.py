"""`asr transcribe` as a user runs it: its output, its exit status, its end by Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SAMPLES, wav_bytes
from serving import PATIENCE_SECONDS, wait_for

from asr.recognizer import Recognizer

GREETING = str(SAMPLES / "greeting.wav")
REQUEST = str(SAMPLES / "request.wav")


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and text.endswith("\n")


@pytest.fixture(scope="module")
def recognizer(model_folder: Path) -> Recognizer:
    """With the engine that the command takes."""
    return Recognizer.load(model_folder)


@pytest.fixture(scope="module")
def texts(recognizer: Recognizer) -> dict[str, str]:
    return {path: recognizer.with_readable().transcribe(path).text for path in (GREETING, REQUEST)}


def test_one_file_gives_its_text(asr, model_folder, texts):
    run = asr("transcribe", "--model", model_folder, GREETING)
    assert (run.returncode, run.stdout, run.stderr) == (0, texts[GREETING] + "\n", "")


def test_the_text_does_not_depend_on_chunks_engine_or_stdin(asr, model_folder):
    exact = ("transcribe", "--model", model_folder, "--engine", "onnx")
    expected = Recognizer.load(model_folder, engine="onnx").with_readable().transcribe(GREETING).text + "\n"
    assert asr(*exact, "--chunk-ms", 10, GREETING).stdout == expected
    assert asr(*exact[:-1], "torch", GREETING).stdout == expected
    data = Path(GREETING).read_bytes()
    assert asr(*exact, "-", stdin=data).stdout == expected
    assert asr(*exact, "--raw-rate", 16_000, "-", stdin=data[44:]).stdout == expected


def test_files_that_fail_are_named_and_the_others_kept(asr, model_folder, texts, tmp_path):
    missing, text, cut = tmp_path / "missing.wav", tmp_path / "text.wav", tmp_path / "cut.wav"
    text.write_text("no audio at all")
    data = Path(GREETING).read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    empty = tmp_path / "empty"
    empty.mkdir()
    run = asr("transcribe", "--model", model_folder, missing, GREETING, empty, text, cut, REQUEST)
    assert run.returncode == 1
    lines = run.stdout.splitlines()
    assert lines[0] == f"{GREETING}: {texts[GREETING]}"
    assert lines[1].startswith(f"{cut}: ")
    assert lines[2] == f"{REQUEST}: {texts[REQUEST]}"
    reasons = ("has no audio or video files", "no such file", "is no audio file", "truncated")
    for path, reason, line in zip((empty, missing, text, cut), reasons, run.stderr.splitlines(), strict=True):
        assert line.startswith(f"asr: {path}: ") and reason in line


def test_jsonl_gives_an_object_a_file(asr, model_folder, recognizer, tmp_path):
    output = tmp_path / "out.jsonl"
    output.write_text("what was there before")
    run = asr("transcribe", "--model", model_folder, "--format", "jsonl", "--output", output, GREETING, "x", REQUEST)
    assert (run.returncode, run.stdout) == (1, "")
    first, second = map(json.loads, output.read_text(encoding="utf-8").splitlines())
    result = recognizer.with_readable().transcribe(GREETING)
    assert list(first) == ["file", "duration", "text", "normalized", "words"]
    assert (first["file"], first["text"]) == (GREETING, result.text)
    assert first["duration"] == pytest.approx(result.end_seconds, abs=1e-3)
    assert [word["word"] for word in first["words"]] == first["normalized"].split() == result.normalized.split()
    assert all(list(word) == ["word", "written", "start", "end", "confidence"] for word in first["words"])
    assert second["file"] == REQUEST
    assert list(tmp_path.iterdir()) == [output]  # nothing left beside it


def test_output_keeps_what_was_there_when_nothing_was_transcribed(asr, model_folder, tmp_path):
    output = tmp_path / "out.txt"
    output.write_text("before")
    assert asr("transcribe", "--model", model_folder, "--output", output, "missing.wav").returncode == 1
    assert output.read_text() == "before"
    assert list(tmp_path.iterdir()) == [output]


def test_wrong_command_lines_are_told_in_one_line(asr, model_folder, tmp_path):
    copy = tmp_path / "copy.wav"
    copy.write_bytes(Path(GREETING).read_bytes())
    model = ("--model", model_folder)
    for arguments in (
        ("nonsense",),
        ("transcribe",),
        ("transcribe", "--nonsense", GREETING),
        ("transcribe", "--format", "xml", GREETING),
        ("transcribe", "--model", "whisper-large", GREETING),
        ("transcribe", *model, "--engine", "tensorflow", GREETING),
        ("transcribe", *model, "--decoder", "beam", GREETING),
        ("transcribe", *model, "--chunk-ms", "0", GREETING),
        ("transcribe", *model, "--chunk-ms", "many", GREETING),
        ("transcribe", *model, "--raw-rate", "16000", GREETING),
        ("transcribe", *model, "--format", "", GREETING),
        ("transcribe", *model, "--format", "txt,doc", GREETING),
        ("transcribe", *model, "--format", "txt,srt", GREETING),
        ("transcribe", *model, "--format", "srt", GREETING, REQUEST),
        ("transcribe", *model, "--format", "txt,srt", "--output", copy, GREETING),
        ("transcribe", *model, "--output", tmp_path, GREETING, copy.with_name("greeting.wav")),
        ("transcribe", *model, "--jobs", "0", GREETING),
        ("transcribe", *model, "--jobs", "many", GREETING),
        ("transcribe", *model, "--jobs", "2", GREETING, "-"),
        ("transcribe", *model, "--resume", GREETING),
        ("transcribe", *model, "--output", tmp_path / "no" / "such" / "folder.txt", GREETING),
        ("transcribe", *model, "--output", copy, copy),
    ):
        run = asr(*arguments)
        assert (run.returncode, run.stdout) == (2, ""), arguments
        assert one_line(run.stderr) and run.stderr.startswith("asr: "), run.stderr
    assert copy.read_bytes() == Path(GREETING).read_bytes()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder of recordings, and of things that are none."""
    folder = tmp_path / "archive"
    for place in ("one.wav", "deep/er/two.wav", "same.wav", "same.WAV"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(Path(GREETING).read_bytes())
    (folder / "deep" / "broken.mp3").write_text("no audio at all")
    (folder / "deep" / "notes.doc").write_text("of no interest")
    (folder / ".hidden.wav").write_text("of no interest")
    return folder


def test_a_folder_gives_a_line_for_every_recording_in_it_and_below(asr, model_folder, texts, archive):
    once, together = (asr("transcribe", "--model", model_folder, "--jobs", jobs, archive) for jobs in (1, 3))
    assert (once.returncode, once.stdout) == (1, together.stdout)
    names = ["one.wav", "same.WAV", "same.wav", "deep/er/two.wav"]
    assert once.stdout.splitlines() == [f"{archive / name}: {texts[GREETING]}" for name in names]
    for run in (once, together):
        left_out, broken = run.stderr.splitlines()
        assert "left out 1 file" in left_out and "notes.doc" in left_out and "broken.mp3: is no audio file" in broken


def test_several_formats_of_a_folder_go_into_a_folder_and_are_gone_on_with(asr, model_folder, texts, archive, tmp_path):
    output = tmp_path / "texts"
    command = (
        "transcribe",
        "--model",
        model_folder,
        "--format",
        "txt,jsonl",
        "--format",
        "srt",
        "--jobs",
        2,
        archive,
        "--output",
        output,
    )
    run = asr(*command)
    assert (run.returncode, run.stdout) == (1, "")
    assert "broken.mp3: is no audio file" in run.stderr and "4 files" in run.stderr.splitlines()[-1]
    bases = ("one", "same.wav", "same.WAV", "deep/er/two")
    expected = {output / f"{base}.{format}" for base in bases for format in ("txt", "jsonl", "srt")}
    assert {path for path in output.rglob("*") if path.is_file()} == expected
    assert (output / "deep/er/two.txt").read_text() == texts[GREETING] + "\n"
    assert json.loads((output / "one.jsonl").read_text())["text"] == texts[GREETING]
    (output / "one.srt").unlink()
    (output / "same.wav.txt").write_text("kept")
    run = asr(*command, "--resume")
    assert run.returncode == 1 and "3 left out" in run.stderr.splitlines()[-1]
    assert (output / "one.srt").is_file() and (output / "same.wav.txt").read_text() == "kept"


def test_ctrl_c_leaves_whole_texts_and_says_how_to_go_on(model_folder, tmp_path, speech):
    folder, output = tmp_path / "long", tmp_path / "texts"
    folder.mkdir()
    (folder / "a.wav").write_bytes(wav_bytes(speech))
    for name in ("b.wav", "c.wav"):
        (folder / name).write_bytes(wav_bytes(np.tile(speech, 200)))
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "asr",
            "transcribe",
            "--model",
            model_folder,
            folder,
            "-o",
            output,
            "--jobs",
            "2",
            "--format",
            "txt,srt",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for((output / "a.srt").is_file)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out) == (130, "")
    assert one_line(error) and "--resume goes on" in error
    assert sorted(path.name for path in output.iterdir()) == ["a.srt", "a.txt"]


def test_what_comes_on_stdin_and_is_no_audio_is_told(asr, model_folder):
    for stdin, arguments in ((b"", ()), (b"plain text", ()), (bytes(1_000), ()), (b"", ("--raw-rate", 16_000))):
        run = asr("transcribe", "--model", model_folder, *arguments, "-", stdin=stdin)
        assert (run.returncode, run.stdout) == (1, "")
        assert one_line(run.stderr) and run.stderr.startswith("asr: stdin: ")


def test_a_model_with_a_missing_file_is_told(asr, tmp_path):
    run = asr("transcribe", "--model", tmp_path, GREETING)
    assert run.returncode == 1 and one_line(run.stderr) and "no config.json" in run.stderr


def test_ctrl_c_prints_what_was_heard(model_folder, recognizer, speech):
    samples = np.tile((speech * 32_767).astype("<i2"), 8)
    process = subprocess.Popen(
        [sys.executable, "-m", "asr", "transcribe", "--model", model_folder, "--raw-rate", "16000", "-"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdin.write(samples.tobytes())  # more than a pipe holds: when this returns most of it has been heard
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=PATIENCE_SECONDS)  # stdin is still open: it is the signal that ends the command
    text, errors = process.stdout.read().decode(), process.stderr.read().decode()
    process.stdin.close()
    assert process.returncode == 130
    heard = samples.astype(np.int16)[: len(samples) // 2]
    assert text[:40] == recognizer.with_readable().transcribe(heard).text[:40] != ""
    assert one_line(errors) and "interrupted after" in errors


def test_a_reader_that_has_had_enough_is_no_error_to_look_at(model_folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "asr", "transcribe", "--model", model_folder, GREETING, REQUEST],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait(timeout=PATIENCE_SECONDS)


def test_a_stereo_telephone_recording_is_read(asr, model_folder, tmp_path, speech):
    path = tmp_path / "stereo.wav"
    path.write_bytes(wav_bytes(np.stack([speech, speech], axis=1)[::2], 8_000))
    run = asr("transcribe", "--model", model_folder, path)
    assert run.returncode == 0 and len(run.stdout) > 10


def test_help_and_list_of_models(asr):
    assert "transcribe" in asr().stdout
    assert "--chunk-ms" in asr("transcribe", "--help").stdout
    assert asr("--version").stdout.startswith("rill-asr ")
    assert asr("models").returncode == 0
