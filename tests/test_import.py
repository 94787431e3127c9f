"""Importing the corpora of others: what each layout gives, and what is named as unusable."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLES

from asr.data.manifest import load_audio, read_manifest
from asr.errors import DataError
from asr.importing.spoken import spelled_out

GREETING, WEATHER = SAMPLES / "greeting.wav", SAMPLES / "weather.wav"


def rows(table: Path) -> dict[str, dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}


@pytest.fixture
def imported(asr, tmp_path):
    """A function that imports a corpus: the command's end, the rows, and the rejected with their reasons."""

    def run(kind, source, *options):
        table = tmp_path / "out" / "mine.tsv"
        done = asr("import", kind, source, table, *options)
        if done.returncode:
            return done, {}, {}
        rejects = table.with_suffix(".rejected.tsv")
        manifest = read_manifest(table)  # as training reads it
        found = rows(table)
        assert not manifest.rejected and [one.id for one in manifest.utterances] == list(found)
        return done, found, {key: row["reason"] for key, row in rows(rejects).items()} if rejects.exists() else {}

    return run


def audio_of(tmp_path: Path, identity: str) -> np.ndarray:
    return load_audio(next(one for one in read_manifest(tmp_path / "out/mine.tsv").utterances if one.id == identity))


def test_common_voice(imported, tmp_path):
    corpus = tmp_path / "en"
    (corpus / "clips").mkdir(parents=True)
    shutil.copy(GREETING, corpus / "clips" / "cv_1.wav")
    lines = [
        "client_id\tpath\tsentence\tage",
        f'{"ab" * 64}\tcv_1.wav\t"Good" morning, 21 of you!\t',
        "c\tcv_2.mp3\tHi.\t",
    ]
    (corpus / "validated.tsv").write_text("\n".join(lines) + "\n")
    done, found, rejected = imported("commonvoice", corpus)
    assert found["cv_1"] == {
        "id": "cv_1",
        "path": "../en/clips/cv_1.wav",
        "source": "commonvoice",
        "speaker": "ab" * 8,
        "text": "good morning twenty one of you",
    }
    assert "missing" in rejected["cv_2"] and "1 left out, named in" in done.stderr
    assert imported("commonvoice", corpus / "validated.tsv", "--name", "mine")[1]["cv_1"]["source"] == "mine"
    (corpus / "validated.tsv").write_text("id\ttext\n1\tx\n")
    wrong = imported("commonvoice", corpus)[0]
    assert wrong.returncode == 1 and "no table of Common Voice" in wrong.stderr and len(wrong.stderr.splitlines()) == 1


def test_kaldi(imported, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    scp = [f"rec1 {GREETING}", "rec2 touch /tmp/pwned; sox a.wav -t wav - |", "rec3 raw.ark:1234", "rec4 nothere.wav"]
    (data / "wav.scp").write_text("\n".join(scp) + "\n")
    (data / "text").write_text("rec1 GOOD MORNING\nrec2 NO\nrec3 NO\nrec4 NO\n")
    (data / "utt2spk").write_text("rec1 anna\n")
    _, found, rejected = imported("kaldi", data)
    assert list(found) == ["rec1"] and found["rec1"]["speaker"] == "anna"
    assert "not run" in rejected["rec2"] and "archive of Kaldi" in rejected["rec3"] and "missing" in rejected["rec4"]
    assert not Path("/tmp/pwned").exists()

    (data / "segments").write_text("a rec1 0.5 1.25\nb rec1 1.0 99\nc rec1 50 51\nd rec9 0 1\ne rec1 x y\n")
    (data / "text").write_text("".join(f"{name} words here\n" for name in "abcde"))
    refused = imported("kaldi", data)[0]
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1
    assert "--copy FOLDER" in rows(tmp_path / "out/mine.rejected.tsv")["a"]["reason"]
    _, found, rejected = imported("kaldi", data, "--copy", tmp_path / "parts")
    assert sorted(found) == ["a", "b"] and sorted(rejected) == ["c", "d", "e"]
    whole = load_audio(read_manifest(_one(tmp_path, GREETING)).utterances[0])
    np.testing.assert_allclose(audio_of(tmp_path, "a"), whole[8_000:20_000], atol=2 / 32_768)


def _one(tmp_path: Path, wav: Path) -> Path:
    table = tmp_path / "one.tsv"
    table.write_text(f"id\tpath\ttext\none\t{wav}\twords\n")
    return table


def test_libri_speech_and_lj_speech(imported, tmp_path):
    chapter = tmp_path / "LibriSpeech" / "19" / "198"
    chapter.mkdir(parents=True)
    shutil.copy(GREETING, chapter / "19-198-0000.wav")
    (chapter / "19-198.trans.txt").write_text("19-198-0000 GOOD MORNING\n19-198-0001 NOT THERE\n")
    _, found, rejected = imported("librispeech", tmp_path / "LibriSpeech")
    assert found["19-198-0000"]["speaker"] == "19" and list(rejected) == ["19-198-0001"]

    corpus = tmp_path / "LJSpeech-1.1"
    (corpus / "wavs").mkdir(parents=True)
    shutil.copy(GREETING, corpus / "wavs" / "LJ001-0001.wav")
    (corpus / "metadata.csv").write_text('LJ001-0001|in 1455, "he" said|in fourteen fifty-five, "he" said\nLJ2\n')
    _, found, rejected = imported("ljspeech", corpus)
    assert found["LJ001-0001"]["text"] == "in fourteen fifty five he said" and "no |" in rejected["LJ2"]


def test_nemo(imported, tmp_path):
    lines = [
        {"audio_filepath": str(GREETING), "text": "good morning", "duration": 3.0},
        {"audio_filepath": str(GREETING), "text": "morning", "duration": 1.0, "offset": 1.0, "speaker": "b"},
        {"audio_filepath": str(WEATHER), "duration": 1.0},
    ]
    manifest = tmp_path / "manifest.json"
    manifest.write_text("\n".join(map(json.dumps, lines)) + "\n")
    _, found, rejected = imported("nemo", manifest, "--copy", tmp_path / "parts")
    assert sorted(found) == ["greeting", "greeting-1000"] and list(rejected) == ["line 3"]
    assert len(audio_of(tmp_path, "greeting-1000")) == 16_000
    manifest.write_text("[1, 2\n")
    assert "line 1, is not JSON" in imported("nemo", manifest)[0].stderr


def test_hugging_face_folders(imported, tmp_path):
    data = tmp_path / "set" / "train"
    data.mkdir(parents=True)
    shutil.copy(GREETING, data / "one.wav")
    (data / "metadata.csv").write_text('file_name,transcription\none.wav,"good, morning"\n')
    assert imported("huggingface", tmp_path / "set")[1]["one"]["text"] == "good morning"
    (data / "metadata.csv").write_text("file_name,words\none.wav,good morning\n")
    unnamed = imported("huggingface", data)[0]
    assert unnamed.returncode == 1 and "--text-column" in unnamed.stderr
    assert list(imported("huggingface", data, "--text-column", "words")[1]) == ["one"]


def test_hugging_face_parquet(imported, tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install '.[import]'")
    from pyarrow import parquet

    audio = [{"bytes": GREETING.read_bytes(), "path": "a.wav"}, {"bytes": None, "path": None}]
    table = pyarrow.table({"audio": audio, "text": ["good morning", "no"], "speaker_id": [7, 8]})
    parquet.write_table(table, tmp_path / "train-0.parquet")
    refused = imported("huggingface", tmp_path / "train-0.parquet")[0]
    assert refused.returncode == 1 and "--copy FOLDER" in refused.stderr
    _, found, rejected = imported("huggingface", tmp_path, "--copy", tmp_path / "clips")
    assert found["train-0-000001"]["speaker"] == "7" and list(rejected) == ["train-0-000002"]
    assert (tmp_path / "clips" / "train-0-000001.wav").read_bytes() == GREETING.read_bytes()
    (tmp_path / "train-0.parquet").write_bytes(b"PAR1 nothing")
    assert "cannot be read as Parquet" in imported("huggingface", tmp_path)[0].stderr


def test_lhotse_cuts(imported, tmp_path):
    lhotse = pytest.importorskip("lhotse", reason="lhotse is not installed: pip install '.[import]'")
    from lhotse.audio import AudioSource

    recording = lhotse.Recording.from_file(GREETING, recording_id="rec")
    command = lhotse.Recording(
        "command", [AudioSource("command", [0], "touch /tmp/pwned")], 16_000, 16_000, 1.0, channel_ids=[0]
    )

    def cut(name, of, start=0.0, duration=None, text="good morning"):
        duration = of.duration if duration is None else duration
        spoken = lhotse.SupervisionSegment(name, of.id, 0, duration, text=text, speaker="anna")
        return lhotse.MonoCut(name, start, duration, 0, [spoken], recording=of)

    cuts = [
        cut("whole", recording),
        cut("part", recording, 0.5, 1.0),
        cut("run", command),
        cut("mute", recording, text=None),
    ]
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    _, found, rejected = imported("lhotse", tmp_path / "cuts.jsonl.gz", "--copy", tmp_path / "parts")
    assert sorted(found) == ["part", "whole"] and sorted(rejected) == ["mute", "run"]
    assert found["whole"]["speaker"] == "anna" and len(audio_of(tmp_path, "part")) == 16_000
    assert not Path("/tmp/pwned").exists()
    (tmp_path / "cuts.jsonl").write_text("not json\n")
    assert imported("lhotse", tmp_path / "cuts.jsonl")[0].returncode == 1


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Call 21 people.", "call twenty one people"),
        ("In 1984, 1,250 came", "in nineteen eighty four one thousand two hundred and fifty came"),
        ("the 3rd of 21st", "the third of twenty first"),
        ("3.14 % & more", "three point one four percent and more"),
        ("at 9:30, 9:05 or 9:00", "at nine thirty nine oh five or nine o'clock"),
        ("$5, £1 and $2.50", "five dollars one pound and two dollars and fifty cents"),
        ("agent 007", "agent zero zero seven"),
        ("in 2005.", "in two thousand and five"),
        ("-5 to 10, e-mail 7", "minus five to ten e mail seven"),
        ("no figures at all", "no figures at all"),
    ],
)
def test_figures_are_spelled_out(written, spoken):
    assert spelled_out(written) == spoken


@pytest.mark.parametrize("written", ["B2B", "1.2.3", "12/5/2020", "555-1234", "x²", "1:2:3", "9" * 40, "déjà"])
def test_what_has_no_sure_reading_is_not_guessed(written):
    with pytest.raises(DataError):
        spelled_out(written)


def test_rejecting_figures_and_wrong_usage(asr, imported, tmp_path):
    chapter = tmp_path / "books"
    chapter.mkdir()
    for name in ("a", "b"):
        shutil.copy(GREETING, chapter / f"{name}.wav")
    (chapter / "x.trans.txt").write_text("a GOOD MORNING\nb ROOM 21\na AGAIN\n")
    _, found, rejected = imported("librispeech", chapter, "--numbers", "reject")
    assert list(found) == ["a"] and "spell them out" in rejected["b"] and "same id" in rejected["a"]
    for arguments, told in (
        (["klingon", chapter, tmp_path / "o.tsv"], "unknown kind"),
        (["kaldi", tmp_path / "nowhere", tmp_path / "o.tsv"], "no such file"),
        (["kaldi", chapter, tmp_path / "o.txt"], "ends in .tsv"),
        (["kaldi", chapter, tmp_path / "o.tsv", "--text-column", "x"], "goes with huggingface"),
        (["kaldi", chapter, tmp_path / "o.tsv", "--numbers", "guess"], "spell or reject"),
    ):
        refused = asr("import", *arguments)
        assert refused.returncode == 2 and told in refused.stderr and len(refused.stderr.splitlines()) == 1
    empty = asr("import", "kaldi", chapter, tmp_path / "o.tsv")
    assert empty.returncode == 1 and "wav.scp is not there" in empty.stderr
