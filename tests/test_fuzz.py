"""The fuzz harness, and what it has found: each a message for the user now."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, wav_bytes

from asr.audio.files import AudioFile
from asr.errors import AudioError, ModelError, RillError
from asr.lm.folder import LanguageModel
from asr.words.tokens import PHONES, TokenTable
from benchmarks import fuzz
from benchmarks.fuzz_targets import Target, audio_targets, protocol_targets, text_targets

PHONE_TABLE = TokenTable(PHONES)


@pytest.fixture
def changed(small_lm_folder: Path, tmp_path: Path):
    """A function that opens the language model with another value in its description."""

    def opened(key: str, value: object) -> LanguageModel:
        for file in small_lm_folder.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        config = json.loads((tmp_path / "config.json").read_text())
        config[key] = config[key] | value if isinstance(value, dict) and isinstance(config[key], dict) else value
        (tmp_path / "config.json").write_text(json.dumps(config))
        return LanguageModel.open(tmp_path, PHONE_TABLE)

    return opened


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("phones", 5),
        ("files", "x"),
        ("files", []),
        ("weights", 7),
        ("weights", {"language_weight": "1"}),
        ("weights", {"word_cost": []}),
        ("weights", {"blank_penalty": float("nan")}),
        ("weights", {"silence_cost": 2**63}),
        ("weights", {"least_confidence": True}),
        ("weights", {"unknown": 1.0}),
    ],
)
def test_a_language_model_with_odd_values_is_told(changed, key, value):
    with pytest.raises(ModelError, match="is no language model folder"):
        changed(key, value)


@pytest.mark.parametrize("rate", [1, 16, 999, 2_000_000])
def test_a_rate_that_no_audio_has_is_damage(rate):
    wav = bytearray(wav_bytes(np.zeros(48_000, np.float32)))
    wav[24:28] = rate.to_bytes(4, "little")
    with pytest.raises(AudioError, match="is damaged: none of its audio can be decoded|is no audio file"):
        for block in AudioFile(io.BytesIO(wav), 16_000):
            assert len(block) < 1_000_000


def read_changed(targets: list[Target], cases: int) -> None:
    for target in targets:
        for case in range(cases):
            chance = random.Random(f"{target.name} {case}")
            data = fuzz.mutated(chance.choice(target.seeds), target.seeds, chance)
            try:
                target.read(data)
            except RillError as error:
                assert "\n" not in str(error)


def test_changed_audio_is_read_or_refused():
    read_changed(audio_targets(), 40)


def test_changed_tables_and_texts_are_read_or_refused(tmp_path):
    read_changed(text_targets(tmp_path), 60)


def test_changed_conversations_do_not_make_the_server_fail():
    pytest.importorskip("fastapi")
    read_changed(protocol_targets(), 15)


def test_good_inputs_are_read(tmp_path):
    for target in (*audio_targets(), *protocol_targets()):
        for seed in target.seeds:
            if not seed.startswith((b"#EXTM3U", b"ffconcat")):
                target.read(seed)


def test_findings_are_kept_once_a_kind(tmp_path, capsys):
    findings = fuzz.Findings(tmp_path)
    for number in range(3):
        findings.add("audio", f'File "x/asr/audio/files.py", line 7\nValueError: {number} is odd', b"input")
    findings.add("audio", "the process ended with status -11", b"other")
    assert sorted(findings.counts.values()) == [1, 3]
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"input", b"other"]
    assert "audio: ValueError: 0 is odd at asr/audio/files.py:7" in capsys.readouterr().out
    assert (ROOT / "benchmarks" / "fuzz.py").is_file()
