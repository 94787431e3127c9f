"""False words in recordings without speech.

    python benchmarks/non_speech.py NOISE.tar [--model NAME_OR_PATH] [--engine int8]

Transcribes every recording of a tar, ten minutes of digital silence and ten of white noise at -40 dB of full scale, and
prints words a minute, with the worst recordings.
"""

import argparse
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from asr import Recognizer
from asr.acoustic.folder import DEFAULT_MODEL
from asr.audio.files import AudioFile

MINUTES = 10


def recordings(tar: Path, sample_rate: int) -> Iterator[tuple[str, np.ndarray]]:
    with tarfile.open(tar) as members:
        for member in members:
            if member.isfile():
                with AudioFile(io.BytesIO(members.extractfile(member).read()), sample_rate) as audio:
                    yield member.name, np.concatenate(list(audio))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("noise", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--engine", default="int8")
    options = parser.parse_args()
    recognizer = Recognizer.load(options.model, engine=options.engine)
    rate = recognizer.sample_rate
    silence = np.zeros(MINUTES * 60 * rate, np.float32)
    white = np.random.default_rng(0).normal(0, 0.01, len(silence)).astype(np.float32)
    found = []
    for name, samples in (("silence", silence), ("white noise", white), *recordings(options.noise, rate)):
        result = recognizer.transcribe(samples, rate)
        found.append((len(result.words), len(samples) / rate / 60, name, result.text))
    for words, minutes, name, _ in found[:2]:
        print(f"{name}: {words} words in {minutes:.1f} min")
    words, minutes = (sum(row[column] for row in found[2:]) for column in (0, 1))
    print(f"{len(found) - 2} recordings: {words} words in {minutes:.1f} min, {words / minutes:.2f} a minute")
    for words, _, name, text in sorted(found[2:], reverse=True)[:5]:
        if words:
            print(f"  {name}: {text}")


if __name__ == "__main__":
    main()
