"""Error rates: pooled over words, by source, over the streamed path."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from asr.audio.files import AudioFile
from asr.data.manifest import read_manifest
from asr.evaluation.report import write_report
from asr.evaluation.score import Hypothesis, recognise, score


def hypothesis(reference, text, source="a", seconds=2.0):
    return Hypothesis("id", source, reference, text, seconds, 0.5)


def test_errors_are_pooled_over_words_not_averaged_over_utterances():
    of_a, of_b, total = score(
        [
            hypothesis("one two three four", "one two three four"),
            hypothesis("five", "nine"),
            hypothesis("six seven", "six", source="b", seconds=1.0),
        ]
    )
    assert (of_a.source, of_a.utterances, of_a.words) == ("a", 2, 5)
    assert of_a.word_error_rate == pytest.approx(1 / 5)
    assert (of_b.substitutions, of_b.deletions, of_b.insertions) == (0, 1, 0)
    assert total.word_error_rate == pytest.approx(2 / 7)
    assert total.real_time_factor == pytest.approx(1.5 / 5)


def test_a_silent_reference_counts_what_was_invented():
    *_, total = score([hypothesis("hello there", "hello there"), hypothesis("", "oh no")])
    assert total.insertions == 2
    assert total.word_error_rate == 1.0


@pytest.fixture
def table(tmp_path: Path, write_wav, speech) -> Path:
    write_wav("a.wav", speech[:32_000])
    write_wav("b.wav", speech[32_000:48_000])
    path = tmp_path / "table.tsv"
    path.write_text("id\tpath\ttext\tsource\na\ta.wav\thello there\tone\nb\tb.wav\tgood night\ttwo\n", encoding="utf-8")
    return path


def test_hypotheses_are_those_of_the_recogniser_whatever_the_chunk(table, recognizer):
    utterances = read_manifest(table).utterances
    small, big = ([h.text for h in recognise(utterances, recognizer, chunk_ms)] for chunk_ms in (40, 4_000))
    assert small == big
    assert small[0] == recognizer.transcribe(table.parent / "a.wav").text
    assert any(small)


def test_command_prints_a_row_a_source_and_writes_every_utterance(asr, table, model_folder, tmp_path):
    done = asr("evaluate", table, "--model", model_folder, "--output", tmp_path / "texts.jsonl")
    assert done.returncode == 0, done.stderr
    for source in ("one", "two", "all"):
        assert any(source in line.split("│")[1] for line in done.stdout.splitlines() if "│" in line)
    lines = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text().splitlines()]
    assert [line["reference"] for line in lines] == ["hello there", "good night"]


def test_report_is_one_page_that_shows_and_plays_the_worst(tmp_path):
    hypotheses = [
        Hypothesis("good", "a", "one two", "one two", 1.0, 0.1),
        Hypothesis("bad <b>", "b", "three sat four five now", "tree sat five now <i>", 5.0, 0.1),
        Hypothesis("worse", "b", "six", "seven ate", 20.0, 0.1),
    ]
    tone = (0.5 * np.sin(np.arange(8_000) / 9)).astype(np.float32)
    path = tmp_path / "report.html"
    write_report(path, "a & b", hypotheses, 2, lambda name: tone, 16_000)
    page = path.read_text(encoding="utf-8")
    assert "<h1>a &amp; b</h1>" in page and "<b>" not in page and "<i>" not in page
    text = re.sub(r'"data:[^"]*"', "", page)
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import", text), "nothing from elsewhere"
    assert text.index("worse, b, 20.0 s, 2 errors, 200 %") < text.index("bad &lt;b&gt;, b, 5.0 s")
    assert "good" not in text
    for row in (
        "below 2</td><td>1</td><td>2</td><td>0.0",
        "4 to 8</td><td>1</td><td>5</td><td>60.0",
        "from 16</td><td>1</td><td>1</td><td>200.0",
        "all</td><td>3</td><td>8</td><td>62.5",
        "three</td><td>tree</td><td>1",
        "four</td><td>1",
    ):
        assert f"<td>{row}" in page
    assert '<span class="wrong">four</span><span class="wrong"></span>' in page
    assert '<span class="wrong"></span><span class="added">' in page
    sounds = re.findall(r'src="data:audio/flac;base64,([^"]+)"', page)
    assert len(sounds) == 2
    (tmp_path / "sound.flac").write_bytes(base64.b64decode(sounds[0]))
    with AudioFile(tmp_path / "sound.flac", 16_000) as audio:
        assert np.concatenate(list(audio)) == pytest.approx(tone, abs=1e-4)


def test_command_writes_a_report(asr, table, model_folder, tmp_path):
    done = asr("evaluate", table, "--model", model_folder, "--report", tmp_path / "report.html", "--worst", 1)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<audio ") == 1 and "The 1 worst utterances" in page
    for wrong in (tmp_path, tmp_path / "report.doc", tmp_path / "no" / "report.html"):
        done = asr("evaluate", table, "--model", model_folder, "--report", wrong)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "--report" in done.stderr


def test_rows_left_out_are_named_and_fail_the_command(asr, table, model_folder):
    with open(table, "a", encoding="utf-8") as file:
        file.write("c\tgone.wav\tnever heard\tone\n")
    done = asr("evaluate", table, "--model", model_folder)
    assert done.returncode == 1
    assert "left out c (line 4)" in done.stderr and "gone.wav" in done.stderr
    assert "all" in done.stdout


@pytest.mark.parametrize(("content", "said"), [("", "nothing"), ("id\ttext\n", "path or shard"), (None, "missing")])
def test_tables_that_cannot_be_used_are_told_in_one_line(asr, tmp_path, model_folder, content, said):
    table = tmp_path / "table.tsv"
    if content is not None:
        table.write_text(content)
    done = asr("evaluate", table, "--model", model_folder)
    assert done.returncode == 1
    assert said in done.stderr and len(done.stderr.strip().splitlines()) == 1
