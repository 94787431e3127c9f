"""Stored features are those of the audio, whoever computed them and however often they were interrupted."""

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
import torch

import asr.data.compute_features
from asr.data.augment_audio import Augmenter
from asr.data.compute_features import build_features
from asr.data.features import FeatureStore
from asr.data.manifest import AudioLocation, Utterance, load_audio, read_manifest
from asr.errors import DataError
from asr.models.frontend import FrontendConfig, LogMel

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
    monkeypatch.setattr(asr.data.compute_features, "PART_UTTERANCES", 3)


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Of the samples and the window of zeros that ends every stream."""
    ended = np.pad(samples, (0, FrontendConfig.window_samples))
    with torch.inference_mode():
        return LogMel(FrontendConfig())(torch.from_numpy(ended)[None])[0].numpy()


def assert_holds(store: FeatureStore, utterances: list[Utterance], augmenter: Augmenter, variant: int) -> None:
    for index, utterance in enumerate(utterances):
        samples, speed = augmenter.variant(load_audio(utterance), utterance.id, variant)
        expected = log_mel(samples)
        mels = store.mels(index, variant)
        assert mels.dtype == np.float16 and mels.shape == expected.shape == (store.frames(variant)[index], 80)
        assert np.allclose(mels, expected, rtol=2**-10, atol=1e-3)
        assert store.speed(index, variant) == pytest.approx(speed)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_mels_are_those_of_the_audio_in_every_variant(tmp_path, utterances):
    augmenter = Augmenter(seed=3)
    store = build_features(tmp_path / "store", utterances, augmenter, variants=4)
    assert store.variants == [0, 1, 2, 3] and store.utterances == tuple(utterances) and len(store) == 11
    for variant in store.variants:
        assert_holds(store, utterances, augmenter, variant)
    every_frame = np.concatenate([store.mels(index) for index in range(len(store))]).astype(np.float64)
    assert np.allclose(store.mean, every_frame.mean(axis=0), atol=1e-4)
    assert np.allclose(store.std, every_frame.std(axis=0), atol=1e-4)
    assert sorted(files(tmp_path / "store")) == sorted(
        ["plan.json", "store.json", *(f"variant-{v}.{kind}" for v in range(4) for kind in ("mels", "npz"))]
    )


def test_processes_make_no_difference(tmp_path, utterances):
    for workers in (0, 2):
        build_features(tmp_path / str(workers), utterances, Augmenter(seed=3), variants=2, workers=workers)
    assert files(tmp_path / "0") == files(tmp_path / "2")


def test_further_variants_are_added_to_what_is_there(tmp_path, utterances):
    store = build_features(tmp_path, utterances, Augmenter(seed=3), variants=1)
    before = files(tmp_path)
    with pytest.raises(DataError, match=r"has no variant 1; it has \[0\]"):
        store.mels(0, 1)
    build_features(tmp_path, utterances, Augmenter(seed=3), variants=2)
    assert store.variants == [0, 1] and store.mels(0, 1).size  # a store that is open sees them
    assert before.items() <= files(tmp_path).items()


def test_interrupted_build_redoes_only_unfinished_parts(tmp_path, utterances, monkeypatch):
    loaded: list[str] = []

    def load_until_interrupted(utterance: Utterance, sample_rate: int) -> np.ndarray:
        if len(loaded) == interrupt_at:
            raise KeyboardInterrupt
        loaded.append(utterance.id)
        return load_audio(utterance, sample_rate)

    monkeypatch.setattr(asr.data.compute_features, "load_audio", load_until_interrupted)
    interrupt_at = 7  # within the third part
    with pytest.raises(KeyboardInterrupt):
        build_features(tmp_path / "resumed", utterances, Augmenter(seed=3), variants=2)
    with pytest.raises(DataError, match="no finished features"):
        FeatureStore.open(tmp_path / "resumed")
    loaded.clear()
    interrupt_at = -1
    build_features(tmp_path / "resumed", utterances, Augmenter(seed=3), variants=2)
    assert loaded == [f"u{number}" for number in [*range(6, 11), *range(11)]]
    build_features(tmp_path / "whole", utterances, Augmenter(seed=3), variants=2)
    assert files(tmp_path / "resumed") == files(tmp_path / "whole")


def test_killed_build_resumes(tmp_path, utterances):
    many = [Utterance(f"{u.id}-{copy}", u.text, u.seconds, "", "", u.audio) for copy in range(20) for u in utterances]
    (tmp_path / "utterances").write_bytes(pickle.dumps(many))
    script = (
        "import pickle, asr.data.compute_features as build; from asr.data.augment_audio import Augmenter;"
        "from asr.data.compute_features import build_features; build.PART_UTTERANCES = 5;"
        f"build_features({str(tmp_path / 'store')!r}, pickle.load(open('utterances', 'rb')), Augmenter(seed=3), 3)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    build = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=environment)
    while build.poll() is None and len(list((tmp_path / "store").glob("parts/variant-1-*.npz"))) < 3:
        time.sleep(0.005)
    build.send_signal(signal.SIGKILL)
    assert build.wait() == -signal.SIGKILL  # it was still at work
    store = FeatureStore.open(tmp_path / "store")
    assert store.variants == [0] and len(store) == len(many)  # what was finished can be trained on
    parts, asr.data.compute_features.PART_UTTERANCES = asr.data.compute_features.PART_UTTERANCES, 5
    try:
        store = build_features(tmp_path / "store", many, Augmenter(seed=3), variants=2)
    finally:
        asr.data.compute_features.PART_UTTERANCES = parts
    assert_holds(store, many[:40], Augmenter(seed=3), 1)
    assert not (tmp_path / "store" / "parts").exists()


def test_unusable_utterances_are_left_out_of_every_variant_and_named(tmp_path, utterances):
    text, short = tmp_path / "text.wav", tmp_path / "short.wav"
    text.write_text("this is not audio")
    soundfile.write(short, np.zeros(399), RATE)
    bad = [Utterance(path.stem, "hello", 1.0, "", "", AudioLocation(path)) for path in (text, short)]
    mixed = [bad[0], *utterances[:4], bad[1], *utterances[4:]]
    store = build_features(tmp_path / "store", mixed, Augmenter(seed=3), variants=2)
    assert store.utterances == tuple(utterances)
    assert [rejected.id for rejected in store.rejected] == ["text", "short"]
    assert "text.wav" in store.rejected[0].reason and "399 samples" in store.rejected[1].reason
    assert_holds(store, utterances, Augmenter(seed=3), 1)
    with pytest.raises(DataError, match="none of 2 utterances"):
        build_features(tmp_path / "bad", bad, Augmenter())


def test_a_folder_of_other_features_is_refused(tmp_path, utterances):
    build_features(tmp_path, utterances, Augmenter(seed=3))
    for changed, what in (
        ((utterances[1:], Augmenter(seed=3)), "data"),
        ((utterances, Augmenter(seed=4)), "augmenter"),
        ((utterances, Augmenter(seed=3), 1, 0, FrontendConfig(low_hz=60.0)), "frontend"),
    ):
        with pytest.raises(DataError, match=f"another {what}"):
            build_features(tmp_path, *changed)


def test_stores_that_cannot_be_opened(tmp_path, utterances):
    with pytest.raises(DataError, match="no finished features"):
        FeatureStore.open(tmp_path)
    build_features(tmp_path, utterances, Augmenter())
    with open(tmp_path / "variant-0.mels", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match="cut short"):
        FeatureStore.open(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        FeatureStore.open(tmp_path)
    with pytest.raises(DataError, match="nothing to compute"):
        build_features(tmp_path / "none", [], Augmenter())


def test_another_process_gets_the_store_by_its_folder(tmp_path, utterances):
    store = build_features(tmp_path, utterances, Augmenter())
    pickled = pickle.dumps(store)
    assert len(pickled) < 1000
    assert np.array_equal(pickle.loads(pickled).mels(4), store.mels(4))


@needs_speech
def test_real_speech(tmp_path):
    spoken = list(read_manifest(SPEECH / "dev.tsv").utterances[:6])
    store = build_features(tmp_path, spoken, Augmenter(), variants=2)
    assert_holds(store, spoken, Augmenter(), 0)
    assert_holds(store, spoken, Augmenter(), 1)
