"""Whether training from streamed shards takes more memory the more hours there are.

    python benchmarks/streaming_memory.py [--hours 1 10 100] [--read 1] [--batch-seconds 80] [--json FILE] [--plot FILE]

The sample recordings are written as lhotse Shar again and again, under new names, until there are so many hours; each
size is then counted, and ``--read`` hours are streamed by one worker process, which decodes
them and lays them out in rows.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import SAMPLES, parser, report

from asr.data.manifest import AudioLocation, Utterance
from asr.data.shar import find_shards, take_census, write_shar
from asr.data.stream import StreamedSet, StreamStep
from asr.models.acoustic import AcousticConfig
from asr.words.text import normalise
from asr.words.tokens import CHARACTERS, PHONES

CONFIG = AcousticConfig(len(CHARACTERS), len(PHONES))
SHARD_UTTERANCES = 200


def write(folder: Path, hours: float) -> None:
    """Shards of so many hours: two of them made of the samples, the others hard links to the first."""
    recordings = [
        Utterance(path.stem, normalise(path.with_suffix(".txt").read_text()), 0.0, "", "", AudioLocation(path))
        for path in sorted(SAMPLES.glob("*.wav"))
        if path.with_suffix(".txt").is_file()
    ]
    copies = [
        dataclasses.replace(recordings[k % len(recordings)], id=f"{recordings[k % len(recordings)].id}-{k}")
        for k in range(SHARD_UTTERANCES)
    ]
    write_shar(copies, folder, SHARD_UTTERANCES)
    seconds = take_census(find_shards([folder]), CONFIG, folder.parent / "one.json").seconds
    for number in range(1, max(2, round(3600 * hours / seconds))):
        for kind, suffix in (("cuts", ".jsonl.gz"), ("recording", ".tar")):
            (folder / f"{kind}.{number:06d}{suffix}").hardlink_to(folder / f"{kind}.000000{suffix}")


def stream(folder: Path, hours: float, batch_seconds: float) -> str:
    """Read so many hours of a corpus: "hours, census seconds, seconds read, wall seconds, both peaks"."""
    begun = time.perf_counter()
    shards = find_shards([folder])
    census = take_census(shards, CONFIG, folder.parent / "census.json")
    counted = time.perf_counter()
    data = StreamedSet(shards, census, workers=1)
    frames, worker = 0, 0.0
    for step in range(max(1, round(3600 * hours / batch_seconds))):
        frames += int(data.batch(StreamStep(step, 0, batch_seconds), 0, 1, CONFIG).frames.sum())
        worker = max([worker, *map(peak_mb, Path("/proc/self/task", str(os.getpid()), "children").read_text().split())])
    read = frames * CONFIG.frame_samples / CONFIG.frontend.sample_rate
    wall = time.perf_counter() - counted
    return f"{census.seconds / 3600} {counted - begun} {read} {wall} {peak_mb('self')} {worker}"


def peak_mb(process: str) -> float:
    """The most memory a process has had in RAM so far; Linux alone tells it."""
    lines = dict(line.split(":", 1) for line in Path("/proc", process, "status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--hours", type=float, nargs="+", default=[1, 10, 100])
    arguments.add_argument("--read", type=float, default=1.0, help="hours streamed of each, over and over if need be")
    arguments.add_argument("--batch-seconds", type=float, default=80.0)
    arguments.add_argument("--folder", type=Path, help="measure this one; for the script's own use")
    options = arguments.parse_args()
    if options.folder:
        print(stream(options.folder, options.read, options.batch_seconds))
        return
    rows = []
    for hours in options.hours:
        with tempfile.TemporaryDirectory() as place:
            write(Path(place) / "shar", hours)
            command = [
                sys.executable,
                __file__,
                "--folder",
                str(Path(place) / "shar"),
                "--read",
                str(options.read),
                "--batch-seconds",
                str(options.batch_seconds),
            ]
            figures = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        there, counting, read, wall, main_mb, worker_mb = map(float, figures)
        rows.append(
            {
                "hours there": round(there, 2),
                "hours read": round(read / 3600, 2),
                "census s": round(counting, 1),
                "audio s/s": round(read / wall, 1),
                "peak MB of training process": round(main_mb),
                "peak MB of worker": round(worker_mb),
            }
        )
    report(options, rows, "hours there", "peak MB of worker")


if __name__ == "__main__":
    main()
