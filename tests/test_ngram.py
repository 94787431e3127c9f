"""From text to an n-gram model, and the command that makes a language model folder of it."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest

from asr.cli.main import main
from asr.errors import DataError, UsageError
from asr.lm.estimate import NgramOptions, estimate, estimate_mixture, find_lmplz, write_corpus
from asr.lm.ngram import NgramModel
from asr.recognizer import Recognizer

TEXT = """It was the best of times,
it was the worst of times;
4 lines hold digits
it was the age of wisdom...
--
It was the age of foolishness!
"""
needs_lmplz = pytest.mark.skipif(shutil.which("lmplz") is None, reason="KenLM's lmplz is not on PATH")


def test_text_is_brought_into_normal_form(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text(TEXT)
    with gzip.open(tmp_path / "more.gz", "wt") as file:
        file.write("WE HAD EVERYTHING BEFORE US\n")
    with lzma.open(tmp_path / "most.xz", "wt") as file:
        file.write("we had nothing before us\n")
    corpus = write_corpus([tmp_path / "plain.txt", tmp_path / "more.gz", tmp_path / "most.xz"], tmp_path / "out")
    assert corpus.path.read_text().splitlines() == [
        "it was the best of times",
        "it was the worst of times",
        "it was the age of wisdom",
        "it was the age of foolishness",
        "we had everything before us",
        "we had nothing before us",
    ]
    assert (corpus.sentences, corpus.left_out, corpus.words["was"]) == (6, 1, 4)


@pytest.mark.parametrize("content", [b"", b"\n\n...\n", b"1 2 3\n", b"\xff\xfe\x00bad"])
def test_text_without_words_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(DataError, match="text.txt"):
        write_corpus([tmp_path / "text.txt"], tmp_path / "out")


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": 0},
        {"order": 6},
        {"prune": (1, 2)},
        {"prune": (0, 3, 2)},
        {"prune": ()},
        {"vocabulary": 0},
        {"shares": (0.5, 0.4)},
        {"shares": (1.5, -0.5)},
        {"most": 50_000},
        {"most": 60_000, "order": 1},
    ],
)
def test_impossible_options_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        NgramOptions(**wrong)


def test_a_missing_estimator_is_said_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="cmake"):
        find_lmplz()
    (tmp_path / "text.txt").write_text(TEXT)
    monkeypatch.setattr("sys.argv", ["asr", "lm", "build", str(tmp_path / "text.txt"), "-o", str(tmp_path / "lm")])
    assert main() == 2
    assert "pip download kenlm" in capsys.readouterr().err
    assert not (tmp_path / "lm").exists()


def test_a_folder_that_holds_something_else_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    monkeypatch.setattr("sys.argv", ["asr", "lm", "build", str(tmp_path / "text.txt"), "-o", str(tmp_path)])
    assert main() == 2
    assert "no language model folder" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["text.txt"]


@needs_lmplz
def test_the_model_knows_what_it_read_and_the_words_it_was_told(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    corpus = write_corpus([tmp_path / "text.txt"], tmp_path / "corpus.txt")
    estimate(corpus, [*corpus.words, "rill"], tmp_path / "model.arpa", NgramOptions(prune=(0,)), find_lmplz())
    lines = (tmp_path / "model.arpa").read_text().splitlines()
    grams = {line.split("\t")[1] for line in lines if "\t" in line}
    assert {"rill", "it was", "it was the", "worst of times"} <= grams


@needs_lmplz
def test_a_language_model_is_built_and_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    model_folder: Path,
    speech: np.ndarray,
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "words.txt").write_text("rill\nfoobaz F UW B AE Z\n")
    folder = tmp_path / "lm"
    command = [
        "asr",
        "lm",
        "build",
        str(tmp_path / "text.txt"),
        "-o",
        str(folder),
        "--words",
        str(tmp_path / "words.txt"),
    ]
    monkeypatch.setattr("sys.argv", [*command, "--prune", "0"])
    assert main() == 0, capsys.readouterr().err
    assert "foobaz F UW B AE Z" in (folder / "lexicon.txt").read_text().splitlines()
    config = json.loads((folder / "config.json").read_text())
    config["weights"] = {"least_confidence": 0.0}  # the model of the tests is sure of nothing
    (folder / "config.json").write_text(json.dumps(config))
    recognizer = Recognizer.load(model_folder, lm=folder)
    assert recognizer.decoder == "lm"
    known = {line.split()[0] for line in (folder / "lexicon.txt").read_text().splitlines()}
    said = recognizer.transcribe(speech).text.split()
    assert said and set(said) <= known


@needs_lmplz
def test_texts_are_mixed_by_their_shares_and_pruned_to_a_size(tmp_path: Path) -> None:
    corpora = []
    for name, text in (("times", TEXT), ("sea", "it was the sea\n" * 3 + "she sells shells by the sea\n")):
        (tmp_path / name).write_text(text)
        corpora.append(write_corpus([tmp_path / name], tmp_path / f"{name}.txt"))
    words = list(dict.fromkeys([*corpora[0].words, *corpora[1].words]))
    chances = {}
    for shares in ((0.9, 0.1), (0.1, 0.9)):
        options = NgramOptions(prune=(0,), vocabulary=20, shares=shares, most=45)
        estimate_mixture(corpora, words, tmp_path / "model.arpa", options, find_lmplz())
        model = NgramModel.read(tmp_path / "model.arpa")
        assert model.size <= 45 and model.order == 3
        grams = np.array([[model.words.index(word) for word in ("was", "the", last)] for last in ("age", "sea")])
        chances[shares] = model.log_probs(grams)
    assert chances[0.9, 0.1][0] > chances[0.1, 0.9][0] and chances[0.9, 0.1][1] < chances[0.1, 0.9][1]


@needs_lmplz
def test_what_lmplz_complains_of_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    corpus = write_corpus([tmp_path / "text.txt"], tmp_path / "corpus.txt")
    with pytest.raises(DataError, match="lmplz failed"):
        estimate(corpus, corpus.words, tmp_path / "model.arpa", NgramOptions(memory="nonsense"), find_lmplz())
    assert "nonsense" not in (tmp_path / "model.arpa").read_text()
