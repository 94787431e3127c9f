"""A recording of many hours: memory while it is transcribed, and whether its text is that of its parts.

    python benchmarks/hours.py [--hours 2] [--part-minutes 60] [--table TABLE] [--source NAME] [--engine int8]
                               [--format txt] [--json FILE] [--plot FILE]

Recordings are joined, with pauses between, to parts of so many minutes and these to one file, which `asr transcribe`
reads in a process of its own; its memory is looked at every second, and told at twelve times of equal distance. Then it
transcribes the parts as files. Parts begin with a chunk, so what may differ is what the network and the search remember
of the part before. A line of the table is a point in time; below it, the words that differ. Linux alone tells memory.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import jiwer
import numpy as np
from measuring import RATE, SAMPLES, Row, parser, report

from asr.audio.files import AudioFile
from asr.data.manifest import load_audio, read_manifest

PAUSE_SECONDS = 1.2
CHUNK_SECONDS = 2  # of `asr transcribe`: a part is a multiple of it
POINTS = 12


def recordings(table: Path | None, source: str | None) -> Iterator[np.ndarray]:
    """Float samples of recordings, over and over."""
    if table is None:
        found = []
        for path in sorted(SAMPLES.glob("*.wav")):
            with AudioFile(path, RATE) as audio:
                found.append(np.concatenate(list(audio)))
        while True:
            yield from found
    utterances = [one for one in read_manifest(table).utterances if source in (None, one.source)]
    for number in count():
        yield load_audio(utterances[number * 7_919 % len(utterances)], RATE)


def write_parts(folder: Path, parts: int, minutes: float, spoken: Iterator[np.ndarray]) -> tuple[Path, list[Path]]:
    """The whole as WAV, and its parts."""
    size = round(minutes * 60 / CHUNK_SECONDS) * CHUNK_SECONDS * RATE
    pause = np.zeros(round(PAUSE_SECONDS * RATE), np.float32)
    whole_path, paths = folder / "whole.wav", [folder / f"part-{number:03d}.wav" for number in range(parts)]
    with wave.open(str(whole_path), "wb") as whole:
        whole.setparams((1, 2, RATE, 0, "NONE", ""))
        for path in paths:
            length = 0
            with wave.open(str(path), "wb") as part:
                part.setparams((1, 2, RATE, 0, "NONE", ""))
                while length < size:
                    following = np.concatenate([pause, next(spoken), pause])
                    if length + len(following) > size:  # it ends with silence rather than in a word
                        following = np.zeros(size - length, np.float32)
                    data = (following * 32_767).astype("<i2").tobytes()
                    part.writeframes(data)
                    whole.writeframes(data)
                    length += len(following)
    return whole_path, paths


def memory_mb(pid: int) -> tuple[float, float]:
    """What a process has for itself, and what it has mapped of files."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    own, files = (re.search(rf"{name}:\s+(\d+)", status) for name in ("RssAnon", "RssFile"))
    return (int(own.group(1)) / 1_024, int(files.group(1)) / 1_024) if own and files else (0.0, 0.0)


def transcribe(files: list[Path], output: Path, *options: str) -> list[tuple[float, float, float]]:
    """Run the command; seconds and memory, own and of files, once a second."""
    command = [sys.executable, "-m", "asr", "transcribe", *options, "--output", str(output), *map(str, files)]
    seen, begun = [], time.perf_counter()
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            time.sleep(1.0)
            try:
                seen.append((time.perf_counter() - begun, *memory_mb(process.pid)))
            except OSError:  # it has just ended
                break
    if process.returncode:
        raise SystemExit(process.returncode)
    return [point for point in seen if point[1]]


def differences(whole: str, parts: list[str]) -> list[str]:
    """Words of the parts that are others in the whole, each with the part it is in."""
    expected, found = " ".join(parts).split(), whole.split()
    ends = np.cumsum([len(part.split()) for part in parts])
    places = []
    for chunk in jiwer.process_words(" ".join(expected), whole).alignments[0]:
        if chunk.type != "equal":
            part = int(np.searchsorted(ends, chunk.ref_start_idx, side="right"))
            number = chunk.ref_start_idx - (int(ends[part - 1]) if part else 0)
            there = " ".join(expected[chunk.ref_start_idx : chunk.ref_end_idx])
            here = " ".join(found[chunk.hyp_start_idx : chunk.hyp_end_idx])
            places.append(f"part {part + 1}, word {number + 1}: {there!r} is {here!r} in the whole")
    return places


def bare(text: str) -> str:
    """Text without marks and capitals."""
    return " ".join(word for word in (one.strip(".,?!;:").lower() for one in text.split()) if word)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--hours", type=float, default=2.0)
    arguments.add_argument("--part-minutes", type=float, default=60.0)
    arguments.add_argument("--table", type=Path, help="recordings to join; the samples by default")
    arguments.add_argument("--source", help="of the table, such as librispeech; all by default")
    arguments.add_argument("--engine", default="int8")
    arguments.add_argument("--format", default="txt")
    options = arguments.parse_args()
    parts = max(1, round(options.hours * 60 / options.part_minutes))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        whole, paths = write_parts(folder, parts, options.part_minutes, recordings(options.table, options.source))
        seen = transcribe(
            [whole], folder / f"whole.{options.format}", "--engine", options.engine, "--format", options.format
        )
        rows: list[Row] = []
        hours = parts * options.part_minutes / 60
        for place_in_time in np.linspace(0, len(seen) - 1, POINTS).round().astype(int):
            seconds, own, files = seen[place_in_time]
            rows.append(
                {
                    "hours of audio": round(hours * seconds / seen[-1][0], 2),  # as if the speed were always the same
                    "seconds": round(seconds, 1),
                    "own_mb": round(own, 1),
                    "files_mb": round(files, 1),
                }
            )
        report(options, rows, "hours of audio", "own_mb")
        print(f"{hours:g} hours, {3_600 * hours / seen[-1][0]:.0f} times real time")
        if options.format != "txt" or parts == 1:
            return
        (folder / "parts").mkdir()
        transcribe(paths, folder / "parts", "--engine", options.engine, "--format", "txt")
        texts = [(folder / "parts" / f"{path.stem}.txt").read_text(encoding="utf-8") for path in paths]
        text = (folder / "whole.txt").read_text(encoding="utf-8")
        in_words = differences(bare(text), [bare(part) for part in texts])
        different = differences(text, texts)
        print(
            f"{len(text.split())} words; the whole differs from its parts in {len(different)} places, "
            f"without marks and capitals in {len(in_words)}:"
        )
        print("\n".join(in_words))


if __name__ == "__main__":
    main()
