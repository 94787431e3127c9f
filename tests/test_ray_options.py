"""Options of replicas and workers of a Ray cluster, without the cluster, which is in test_ray.py."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from conftest import SAMPLES

from asr.cli.ray_workers import _Worker
from asr.output.files import Source
from asr.recognizer import Recognizer
from asr.recognizer_options import RecognizerOptions
from asr.server.ray_serve import Fleet
from asr.streaming.endpoint import EndpointRule

GREETING = SAMPLES / "greeting.wav"


def test_a_worker_takes_every_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shipped_recognizer) -> None:
    (tmp_path / "words.txt").write_text("rill:2\n")
    monkeypatch.chdir(tmp_path)
    options = RecognizerOptions(hotwords="words.txt", readable=True).for_another_process()
    monkeypatch.chdir("/")
    worker = pickle.loads(pickle.dumps(_Worker(2_000, None, options)))
    outcome = worker.transcribe(Source("greeting.wav", Path("greeting")), str(GREETING))
    assert outcome.result.text == shipped_recognizer.with_readable().transcribe(GREETING).text
    missing = worker.transcribe(Source("no.wav", Path("no")), "/there/no.wav")
    assert missing.result is None and missing.problem == "no.wav: no such file"


def test_a_replica_takes_every_option(tmp_path: Path, model_folder: Path, small_lm_folder: Path, speech) -> None:
    rule = EndpointRule(silence_seconds=0.5, complete_seconds=0.3)
    options = RecognizerOptions(model_folder, "onnx", lm=small_lm_folder, endpoint=rule, readable=True)
    fleet = pickle.loads(pickle.dumps(Fleet(options)))
    recognizer = fleet.build().state.service.recognizer
    expected = Recognizer.open(options)
    with recognizer:
        there = [result.text for result in recognizer.stream([speech])]
    assert there == [result.text for result in expected.stream([speech])]
