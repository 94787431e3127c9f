"""The speller: aligned pieces of speech, sentences put together of them, training, and decoding in any chunks."""

import shutil
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from conftest import SAMPLES
from jiwer import cer

from asr.ctc_alignment import token_spans
from asr.errors import DataError
from asr.lexicon import Lexicon
from asr.package import DEFAULT_MODEL, find_model
from asr.phone_bank import PhoneBank
from asr.recognizer import Recognizer
from asr.tokens import PHONES, TokenTable


def log_probs_of(rows):
    return np.log(rows / rows.sum(axis=1, keepdims=True))


def test_alignment_is_the_likeliest_of_all_paths():
    random = np.random.default_rng(3)
    log_probs = log_probs_of(random.random((6, 4)) ** 3 + 1e-6)
    tokens = [2, 2, 1]
    best = max(
        (path for path in product(range(4), repeat=6)
         if [t for k, t in enumerate(path) if t and (k == 0 or path[k - 1] != t)] == tokens),
        key=lambda path: sum(log_probs[k, t] for k, t in enumerate(path)),
    )  # fmt: skip
    runs = [k for k, t in enumerate(best) if t and (k == 0 or best[k - 1] != t)]
    spans = token_spans(log_probs, np.array(tokens))
    assert spans[:, 0].tolist() == runs
    for start, end in spans:
        assert len({best[k] for k in range(start, end)}) == 1


def test_too_few_frames_align_with_nothing():
    assert token_spans(np.zeros((2, 3)), np.array([1, 1])) is None
    assert token_spans(np.zeros((2, 3)), np.array([], dtype=int)).shape == (0, 2)


def spiky(text, lexicon):
    """Rows in which every phone is certain for a frame, and a blank follows."""
    phones = [p for word in text.split() for p in TokenTable(PHONES).encode(lexicon.pronounce(word)[0])]
    rows = np.full((2 * len(phones) + 4, len(PHONES)), 1e-4)
    rows[:, 0] = 0.5
    rows[2 : 2 * len(phones) + 2 : 2][np.arange(len(phones)), phones] = 5.0
    return log_probs_of(rows), phones


@pytest.fixture(scope="module")
def lexicon():
    return Lexicon.load(guesses=1)


def test_a_bank_speaks_what_nobody_said(lexicon, tmp_path):
    bank = PhoneBank(lexicon)
    for text in ("the cat sat", "a big dog", "then they sang", ""):
        bank.add(spiky(text, lexicon)[0] if text else np.zeros((5, len(PHONES))), text)
    bank.close()
    bank.save(tmp_path / "bank.npz")
    again = PhoneBank.read(tmp_path / "bank.npz", lexicon)
    for one in (bank, again):
        rows = one.spoken("sad cats", np.random.default_rng(1))
        best = rows.argmax(axis=1)
        heard = [int(t) for k, t in enumerate(best) if t and (k == 0 or best[k - 1] != t)]
        assert heard == TokenTable(PHONES).encode(["S", "AE", "D", "K", "AE", "T", "S"])
    assert {again.heard(np.random.default_rng(k))[1] for k in range(40)} == {text for *_, text in bank.utterances}


def test_a_bank_of_nothing_and_a_file_that_is_none_are_named(lexicon, tmp_path):
    with pytest.raises(DataError, match="nothing was said"):
        PhoneBank(lexicon).close()
    (tmp_path / "bank.npz").write_bytes(b"no bank")
    with pytest.raises(DataError, match="remove it"):
        PhoneBank.read(tmp_path / "bank.npz", lexicon)


@pytest.fixture(scope="module")
def spelling_model(tmp_path_factory):
    """A copy of the shipped model with a small speller of its own, by the public command: killed, and taken up."""
    folder = tmp_path_factory.mktemp("speller")
    model = folder / "model"
    shutil.copytree(find_model(DEFAULT_MODEL), model)
    (model / "speller.onnx").unlink(missing_ok=True)
    table = folder / "table.tsv"
    wav = SAMPLES / "greeting.wav"
    table.write_text(f"id\tpath\ttext\ngreeting\t{wav}\t{wav.with_suffix('.txt').read_text().strip()}\n")
    (folder / "text.txt").write_text("Good morning, and welcome to the show!\n" * 40)
    command = [
        sys.executable, "-m", "asr", "train-speller", model, table, "--text", folder / "text.txt", "--run",
        folder / "run", "--variants", "1", "--passes", "1", "--size", "48", "--layers", "1", "--delay", "4",
        "--steps", "300", "--batch-seconds", "6", "--learning-rate", "0.01", "--threads", "1", "--workers", "1",
        "--precision", "32-true",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return model, folder / "run", command


def test_it_learns_to_spell_and_any_chunks_give_the_same_words(spelling_model, speech):
    model, run, command = spelling_model
    assert len((run / "curve.csv").read_text().splitlines()) == 7
    recognizer = Recognizer.load(model, decoder="greedy")
    whole = recognizer.transcribe(SAMPLES / "greeting.wav")
    assert cer((SAMPLES / "greeting.txt").read_text().strip(), whole.text) < 0.2
    pieces = recognizer.transcribe(SAMPLES / "greeting.wav", chunk_ms=70)
    assert [(w.text, w.start_seconds, w.end_seconds) for w in whole.words] == [
        (w.text, w.start_seconds, w.end_seconds) for w in pieces.words
    ]
    truth = Recognizer.load(model).transcribe(SAMPLES / "greeting.wav")
    times = [word.start_seconds for word in truth.words]
    for word in whole.words:
        assert min(abs(word.start_seconds - time) for time in times) < 0.3, "times are of the audio, not of the delay"
    other = subprocess.run([*map(str, command), "--seed", "1"], capture_output=True, text=True, timeout=240)
    assert other.returncode == 2 and "other settings" in other.stderr


def test_a_damaged_speller_is_named(spelling_model, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(spelling_model[0], model)
    (model / "speller.onnx").write_bytes(b"no speller")
    done = subprocess.run(
        [sys.executable, "-m", "asr", "transcribe", "--model", model, "--decoder", "greedy", SAMPLES / "greeting.wav"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and "speller.onnx was altered or damaged" in done.stderr
