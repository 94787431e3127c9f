"""Separate channels: each is heard as if it were alone, and the turns are in the order in which they begin."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from conftest import SAMPLES

from asr.audio.files import AudioFile
from asr.output.dialogue import Turn, as_subtitles, as_text, as_vtt_voices, in_order
from asr.streaming.results import Result, Word


def sample(name: str) -> np.ndarray:
    with AudioFile(SAMPLES / f"{name}.wav", 16_000) as file:
        return np.concatenate(list(file))


@pytest.fixture
def call(write_wav):
    """A call: on the left a greeting, then on the right a customer."""
    left, right = sample("greeting"), sample("telephone")
    frames = np.zeros((len(left) + len(right) + 16_000, 2), np.float32)
    frames[: len(left), 0] = left
    frames[len(left) + 8_000 : len(left) + 8_000 + len(right), 1] = right
    return write_wav("call.wav", frames)


def test_a_channel_is_given_out_alone(call, write_wav):
    def channel(which):
        with AudioFile(call, 16_000, channel=which) as file:
            assert file.channels == 2
            return np.concatenate(list(file))

    whole = sample("greeting")
    np.testing.assert_allclose(channel(0)[: len(whole)], whole, atol=2 / 32_768)
    assert not channel(1)[: len(whole)].any()
    with AudioFile(call, 16_000) as file:
        np.testing.assert_allclose(np.concatenate(list(file)), (channel(0) + channel(1)) / 2, atol=1e-6)


def test_two_sides_of_a_call_are_two_speakers(asr, call, shipped_recognizer, tmp_path):
    texts = [
        shipped_recognizer.with_readable().transcribe(SAMPLES / f"{name}.wav").text
        for name in ("greeting", "telephone")
    ]
    told = asr("transcribe", "--channels", "separate", "--speakers", "agent,customer", "--engine", "int8", call)
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert [re.match(r"\[00:0\d\.\d\] (\w+): ", line)[1] for line in lines] == ["agent", "customer"]
    assert [line.split(": ", 1)[1] for line in lines] == texts
    table = asr("transcribe", "--channels", "separate", "--output", tmp_path / "call.jsonl", call)
    assert (table.returncode, table.stdout) == (0, "")
    turns = [json.loads(line) for line in (tmp_path / "call.jsonl").read_text().splitlines()]
    assert [(turn["channel"], turn["speaker"]) for turn in turns] == [(1, "1"), (2, "2")]
    assert turns[1]["words"][0]["start"] > turns[0]["words"][-1]["end"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--channels", "left"], "average or separate"),
        (["--channels", "separate", "--resume"], "--resume does not go"),
        (["--channels", "separate", "--raw-rate", "8000"], "--raw-rate is about stdin"),
        (["--channels", "separate", "--ray"], "--ray does not go"),
        (["--channels", "separate", "--format", "ctm"], "give one format of"),
        (["--channels", "separate", "--speakers", "one"], "names 1"),
        (["--speakers", "one,two"], "go with --channels separate"),
    ],
)
def test_wrong_wishes_are_refused(asr, call, model_folder, options, told):
    refused = asr("transcribe", "--model", model_folder, call, *options)
    assert refused.returncode == 2 and told in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_one_channel_is_no_conversation(asr, model_folder):
    refused = asr("transcribe", "--model", model_folder, "--channels", "separate", SAMPLES / "greeting.wav")
    assert refused.returncode == 1 and "has 1 channel;" in refused.stderr


def test_subtitles_have_voices():
    def turn(channel, speaker, text, start):
        words = tuple(Word(word, start + at, start + at + 0.4, 0.9) for at, word in enumerate(text.split()))
        return Turn(channel, speaker, Result(text, words, start, start + len(words), final=True))

    turns = in_order(
        [turn(2, "bob", "not now", 1.5), turn(1, "ann", "are you there", 0.25), turn(1, "ann", "now", 1.5)]
    )
    assert [(one.speaker, one.result.text) for one in turns] == [
        ("ann", "are you there"),
        ("ann", "now"),
        ("bob", "not now"),
    ]
    assert as_text("x", turns).splitlines()[0] == "[00:00.2] ann: are you there"
    assert as_vtt_voices("x", turns).startswith("WEBVTT\n\n00:00:00.250 --> 00:00:02.650\n<v ann>are you there\n\n")
    blocks = as_subtitles("x", turns).split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == ["1", "2", "3"] and blocks[2].splitlines()[
        2
    ] == "bob: not now"
