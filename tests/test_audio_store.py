"""Stored samples are those of the recordings, whoever decoded them and however often they were interrupted."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr.data.build_audio
from asr.data.audio_store import AudioStore
from asr.data.build_audio import SPEEDS, at_speed, build_audio
from asr.data.manifest import AudioLocation, Utterance, load_audio, read_manifest
from asr.errors import DataError
from asr.models.frontend import FrontendConfig

ROOT = Path(__file__).resolve().parents[1]
SPEECH = ROOT.parent / "shared" / "data" / "speech"
needs_speech = pytest.mark.skipif(not (SPEECH / "dev.tsv").is_file(), reason="the speech data folder is not here")
RATE = FrontendConfig.sample_rate


@pytest.fixture(scope="session")
def utterances(tmp_path_factory) -> list[Utterance]:
    """Eleven recordings of noise, 0.1 to 0.6 s."""
    folder = tmp_path_factory.mktemp("audio")
    made = []
    for number in range(11):
        seconds = 0.1 + 0.05 * number
        path = folder / f"{number}.wav"
        soundfile.write(path, np.random.default_rng(number).normal(0, 0.05, round(seconds * RATE)), RATE)
        made.append(Utterance(f"u{number}", "hello", seconds, "noise", f"s{number % 3}", AudioLocation(path)))
    return made


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(asr.data.build_audio, "PART_UTTERANCES", 3)


def assert_holds(store: AudioStore, utterances: list[Utterance], speed: float) -> None:
    for index, utterance in enumerate(utterances):
        expected = at_speed(load_audio(utterance), speed)
        samples = store.samples(index, speed)
        assert samples.dtype == np.int16 and samples.shape == expected.shape == (store.lengths(speed)[index],)
        assert np.allclose(samples / 32_768, expected, atol=0.6 / 32_768)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_samples_are_those_of_the_recordings_at_every_speed(tmp_path, utterances):
    store = build_audio(tmp_path / "store", utterances, SPEEDS)
    assert store.speeds == sorted(SPEEDS) and store.utterances == tuple(utterances) and len(store) == 11
    for speed in SPEEDS:
        assert_holds(store, utterances, speed)
        assert np.allclose(store.lengths(speed), store.lengths() / speed, atol=1)
    assert sorted(files(tmp_path / "store")) == sorted(
        ["plan.json", "store.json", *(f"speed-{speed}.{kind}" for speed in SPEEDS for kind in ("samples", "npz"))]
    )


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_speed_moves_events_and_pitch(speed):
    click = np.zeros(2 * RATE, np.float32)
    click[24_000] = 0.5
    assert abs(int(np.abs(at_speed(click, speed)).argmax()) - 24_000 / speed) <= 1
    tone = 0.1 * np.sin(2 * np.pi * 500 * np.arange(2 * RATE) / RATE).astype(np.float32)
    faster = at_speed(tone, speed)
    assert abs(np.abs(np.fft.rfft(faster)).argmax() * RATE / faster.size - 500 * speed) < 1
    assert np.square(faster).mean() == pytest.approx(np.square(tone).mean(), rel=0.05)


def test_processes_make_no_difference(tmp_path, utterances):
    for workers in (0, 2):
        build_audio(tmp_path / str(workers), utterances, SPEEDS[:2], workers)
    assert files(tmp_path / "0") == files(tmp_path / "2")


def test_further_speeds_are_added_to_what_is_there(tmp_path, utterances):
    store = build_audio(tmp_path, utterances)
    before = files(tmp_path)
    with pytest.raises(DataError, match=r"has no speed 0.9; it has \[1.0\]"):
        store.samples(0, 0.9)
    build_audio(tmp_path, utterances, SPEEDS[:2])
    assert store.speeds == [0.9, 1.0] and store.samples(0, 0.9).size  # a store that is open sees them
    assert before.items() <= files(tmp_path).items()


def test_interrupted_build_redoes_only_unfinished_parts(tmp_path, utterances, monkeypatch):
    loaded: list[str] = []

    def load_until_interrupted(utterance: Utterance, sample_rate: int) -> np.ndarray:
        if len(loaded) == interrupt_at:
            raise KeyboardInterrupt
        loaded.append(utterance.id)
        return load_audio(utterance, sample_rate)

    monkeypatch.setattr(asr.data.build_audio, "load_audio", load_until_interrupted)
    interrupt_at = 7  # within the third part
    with pytest.raises(KeyboardInterrupt):
        build_audio(tmp_path / "resumed", utterances, SPEEDS[:2])
    with pytest.raises(DataError, match="no finished audio"):
        AudioStore.open(tmp_path / "resumed")
    loaded.clear()
    interrupt_at = -1
    build_audio(tmp_path / "resumed", utterances, SPEEDS[:2])
    assert loaded == [f"u{number}" for number in [*range(6, 11), *range(11)]]
    build_audio(tmp_path / "whole", utterances, SPEEDS[:2])
    assert files(tmp_path / "resumed") == files(tmp_path / "whole")


def test_killed_build_resumes(tmp_path, utterances):
    many = [Utterance(f"{u.id}-{copy}", u.text, u.seconds, "", "", u.audio) for copy in range(20) for u in utterances]
    (tmp_path / "utterances").write_bytes(pickle.dumps(many))
    script = (
        "import pickle, asr.data.build_audio as build; build.PART_UTTERANCES = 5;"
        f"build.build_audio({str(tmp_path / 'store')!r}, pickle.load(open('utterances', 'rb')), {SPEEDS!r})"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    build = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=environment)
    while build.poll() is None and len(list((tmp_path / "store").glob("parts/speed-0.9-*.npz"))) < 3:
        time.sleep(0.005)
    build.send_signal(signal.SIGKILL)
    assert build.wait() == -signal.SIGKILL  # it was still at work
    store = AudioStore.open(tmp_path / "store")
    assert store.speeds == [1.0] and len(store) == len(many)  # what was finished can be trained on
    parts, asr.data.build_audio.PART_UTTERANCES = asr.data.build_audio.PART_UTTERANCES, 5
    try:
        store = build_audio(tmp_path / "store", many, SPEEDS[:2])
    finally:
        asr.data.build_audio.PART_UTTERANCES = parts
    assert_holds(store, many[:40], 0.9)
    assert not (tmp_path / "store" / "parts").exists()


def test_unusable_utterances_are_left_out_of_every_speed_and_named(tmp_path, utterances):
    text, short = tmp_path / "text.wav", tmp_path / "short.wav"
    text.write_text("this is not audio")
    soundfile.write(short, np.zeros(399), RATE)
    bad = [Utterance(path.stem, "hello", 1.0, "", "", AudioLocation(path)) for path in (text, short)]
    mixed = [bad[0], *utterances[:4], bad[1], *utterances[4:]]
    store = build_audio(tmp_path / "store", mixed, SPEEDS[:2])
    assert store.utterances == tuple(utterances)
    assert [rejected.id for rejected in store.rejected] == ["text", "short"]
    assert "text.wav" in store.rejected[0].reason and "399 samples" in store.rejected[1].reason
    assert_holds(store, utterances, 0.9)
    with pytest.raises(DataError, match="none of 2 utterances"):
        build_audio(tmp_path / "bad", bad)


def test_a_folder_of_other_audio_is_refused(tmp_path, utterances):
    build_audio(tmp_path, utterances)
    with pytest.raises(DataError, match="another data"):
        build_audio(tmp_path, utterances[1:])


def test_stores_that_cannot_be_opened(tmp_path, utterances):
    with pytest.raises(DataError, match="no finished audio"):
        AudioStore.open(tmp_path)
    build_audio(tmp_path, utterances)
    with open(tmp_path / "speed-1.0.samples", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match="cut short"):
        AudioStore.open(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        AudioStore.open(tmp_path)
    with pytest.raises(DataError, match="nothing to decode"):
        build_audio(tmp_path / "none", [])


def test_another_process_gets_the_store_by_its_folder(tmp_path, utterances):
    store = build_audio(tmp_path, utterances)
    pickled = pickle.dumps(store)
    assert len(pickled) < 1000
    assert np.array_equal(pickle.loads(pickled).samples(4), store.samples(4))


@needs_speech
def test_real_speech(tmp_path):
    spoken = list(read_manifest(SPEECH / "dev.tsv").utterances[:6])
    store = build_audio(tmp_path, spoken, SPEEDS[:2])
    assert_holds(store, spoken, 1.0)
    assert_holds(store, spoken, 0.9)
