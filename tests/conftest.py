"""What several tests share: a small random model as a model folder, and real speech."""

from __future__ import annotations

import csv
import io
import os
import signal
import tarfile
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from small_lm import write_small_lm

from asr.acoustic.folder import DEFAULT_MODEL, shipped_models
from asr.audio.files import AudioFile
from asr.cli.main import main
from asr.recognizer import Recognizer

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from sound_server import SoundServer

    from asr.models.acoustic import AcousticModel

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
SPEECH_DATA = ROOT.parent / "shared" / "data" / "speech"
SAMPLE_RATE = 16_000

# For networks as small as those of the tests more threads only cost time, most of all on a busy machine. This holds for
# the commands that tests start, too; torch reads it when it is loaded.
os.environ["OMP_NUM_THREADS"] = "1"

# A shell that starts the tests in the background has them ignore Ctrl-C, and so the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("rill", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("rill")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoding graphs are kept where the tests keep their files, not where the user does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with small random weights, scaled so that it says many words, though no sensible ones."""
    import torch

    from asr.acoustic.export import write_model_folder
    from asr.models.acoustic import AcousticConfig, AcousticModel
    from asr.words.tokens import CHARACTERS, PHONES

    torch.manual_seed(4)
    config = AcousticConfig(len(CHARACTERS), len(PHONES), size=32, look_ahead_frames=(2, 1, 0), phone_layer=2)
    model = AcousticModel(config)
    make_talkative(model)
    folder = tmp_path_factory.mktemp("models") / "random"
    write_model_folder(model, folder, "random")
    return folder


@pytest.fixture(scope="session")
def small_lm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of five words."""
    return write_small_lm(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def recognizer(model_folder: Path) -> Recognizer:
    """A recogniser with the random model; in fp32, where chunks change nothing."""
    return Recognizer.load(model_folder, engine="onnx")


@pytest.fixture(scope="session")
def shipped_recognizer() -> Recognizer:
    """A recogniser with the shipped model; in fp32, where chunks change nothing."""
    if DEFAULT_MODEL not in shipped_models():
        pytest.skip(f"models/pretrained/{DEFAULT_MODEL} is not in this checkout")
    return Recognizer.load(engine="onnx")


@pytest.fixture(scope="session")
def readable_recognizer(shipped_recognizer: Recognizer) -> Recognizer:
    """The same, with text for readers, as commands and servers give it unless they are asked for plain text."""
    return shipped_recognizer.with_readable()


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Speech, (N,) float32, 4 to 8 s: real from the development data if it lies beside the checkout, else a sample."""
    path = SAMPLES / "weather.wav"
    if (SPEECH_DATA / "dev.tsv").is_file() and (SPEECH_DATA / "dev-00.tar").is_file():
        with (SPEECH_DATA / "dev.tsv").open(encoding="utf-8", newline="") as table:
            rows = csv.DictReader(table, delimiter="\t")
            name = next(row["id"] for row in rows if row["source"] == "librispeech" and 4 <= float(row["seconds"]) <= 8)
        with tarfile.open(SPEECH_DATA / "dev-00.tar") as shard:
            member = next(member for member in shard if member.name.rsplit(".", 1)[0] == name)
            path = tmp_path_factory.mktemp("speech") / member.name
            path.write_bytes(shard.extractfile(member).read())
    with AudioFile(path, SAMPLE_RATE) as audio:
        return np.concatenate(list(audio))


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoundServer]:
    """A sound server whose default microphone hears what it plays."""
    from sound_server import sound_server

    with sound_server(tmp_path_factory.mktemp("pulse")) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser whose microphone hears half a second of nothing, the greeting, then nothing."""
    from browser import chromium

    with AudioFile(SAMPLES / "greeting.wav", 48_000) as file:
        speech = np.concatenate(list(file))
    heard = tmp_path_factory.mktemp("microphone") / "heard.wav"
    heard.write_bytes(wav_bytes(np.concatenate([np.zeros(24_000), speech, np.zeros(960_000)]), 48_000))
    with chromium(heard) as browser:
        yield browser


def make_talkative(model: AcousticModel) -> None:
    """Scale a model's random weights so that it writes many words."""
    import torch

    with torch.no_grad():
        model.mel_mean.fill_(-8.0)
        model.mel_std.fill_(4.0)
        for head in (model.character_head, model.phone_head):
            head[-1].weight *= 6.0
        model.character_head[-1].bias[:2] += 5.0  # the blank and the word border


class Stdin(io.BytesIO):
    name = "<stdin>"


@pytest.fixture
def asr(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., CompletedProcess[str]]:
    """A function that runs the command `asr` in this process, which has loaded already what a new one must load first.

    It takes the arguments, and bytes for ``stdin``; there must be no traceback, whatever happens.
    """

    def run(*arguments: object, stdin: bytes = b"") -> CompletedProcess[str]:
        command = ["asr", *map(str, arguments)]
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr("sys.argv", command)
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Stdin(stdin))))
            patch.chdir(ROOT)
            status = main()
        told = capfd.readouterr()
        assert "Traceback" not in told.err
        return CompletedProcess(command, status, told.out, told.err)

    return run


@pytest.fixture
def write_wav(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes float samples (N,) or (N, channels) as 16-bit WAV in the test's folder."""

    def write(name: str, samples: np.ndarray, sample_rate: int = SAMPLE_RATE) -> Path:
        path = tmp_path / name
        path.write_bytes(wav_bytes(samples, sample_rate))
        return path

    return write


def wav_bytes(samples: np.ndarray, sample_rate: int = SAMPLE_RATE) -> bytes:
    """Float samples (N,) or (N, channels) in [-1, 1] as the bytes of a 16-bit WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((samples * 32_767).astype("<i2").tobytes())
    return buffer.getvalue()
