"""How training gains from a second process: torchrun against one process with one thread and with two.

    python benchmarks/training_scale.py [--steps 12] [--batch-seconds 160] [--size 512] [--json FILE]

The same batches of the sample recordings, as `asr train` learns from them without alignments; two processes learn from
half of each batch. The seconds are between steps, their median; on cores that nothing else uses.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from measuring import SAMPLES, parser, report

from asr.data.build_audio import build_audio
from asr.data.manifest import AudioLocation, Utterance
from asr.data.rows import RowOptions
from asr.data.training_set import StoredSet
from asr.training.loop import fit
from asr.training.options import Settings
from asr.training.processes import Team, open_device
from asr.training.run import prepare_run
from asr.words.lexicon import Lexicon
from asr.words.text import normalise

COPIES = 100  # of each recording
LAYOUTS = ((1, 1), (1, 2), (2, 1))  # processes, threads in each


def training_set(folder: Path) -> StoredSet:
    """The samples, all of about one length: no rank waits for another because of its utterances."""
    paths = [path for path in sorted(SAMPLES.glob("*.wav")) if path.with_suffix(".txt").is_file()]
    utterances = [
        Utterance(
            f"{path.stem}-{copy}", normalise(path.with_suffix(".txt").read_text()), 4.0, "", "", AudioLocation(path)
        )
        for path in paths
        for copy in range(COPIES)
    ]
    return StoredSet([build_audio(folder, utterances)], Lexicon.load())


class Enough(Exception):
    """The steps that were asked for are taken."""


def measure(options) -> None:
    """One process of a layout; the first one prints the seconds of a step, the audio heard in it, and the loss."""
    torch.set_num_threads(options.threads)
    team = Team(open_device("cpu"), precision=options.precision)
    with team.fabric.rank_zero_first():
        data = training_set(options.folder / "audio")
    usual = Settings()
    settings = replace(usual, model=replace(usual.model, size=options.size), rows=RowOptions(options.batch_seconds))
    run = prepare_run(options.folder / f"run-{team.processes}-{options.threads}", data, None, settings, team)
    marks: list[tuple[float, float, float]] = []

    def note(progress) -> None:
        marks.append((time.perf_counter(), progress.audio_hours * 3600, progress.loss))
        if len(marks) > options.steps:
            raise Enough

    try:
        fit(run, note, checkpoint_seconds=1e9)
    except Enough:
        pass
    if team.first:
        steps = list(zip(marks, marks[1:], strict=False))
        print(
            json.dumps(
                {
                    "step": statistics.median(after[0] - before[0] for before, after in steps),
                    "audio": statistics.mean(after[1] - before[1] for before, after in steps),
                    "loss": marks[-1][2],
                }
            )
        )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--steps", type=int, default=12)
    arguments.add_argument("--batch-seconds", type=float, default=160.0)
    arguments.add_argument("--size", type=int, default=512)
    arguments.add_argument("--precision", default="auto")
    arguments.add_argument("--threads", type=int, help="for the script's own use")
    arguments.add_argument("--folder", type=Path, help="for the script's own use")
    options = arguments.parse_args()
    if options.folder:
        measure(options)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for processes, threads in LAYOUTS:
            started = (
                []
                if processes == 1
                else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
            )
            own = [
                "--folder",
                folder,
                "--threads",
                str(threads),
                "--steps",
                str(options.steps),
                "--size",
                str(options.size),
                "--batch-seconds",
                str(options.batch_seconds),
                "--precision",
                options.precision,
            ]
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            told = subprocess.run(
                [sys.executable, *started, __file__, *own],
                env=environment,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
            figures = json.loads(told.strip().splitlines()[-1])
            speed = figures["audio"] / figures["step"]
            first = rows[0]["audio s/s"] if rows else speed
            rows.append(
                {
                    "processes": processes,
                    "threads each": threads,
                    "step s": round(figures["step"], 3),
                    "audio s/s": round(speed, 1),
                    "times one thread": round(speed / first, 2),
                    "efficiency %": round(100 * speed / first / (processes * threads), 1),
                    "loss": round(figures["loss"], 4),
                }
            )
    report(options, rows, "processes", "audio s/s", "threads each")


if __name__ == "__main__":
    main()
