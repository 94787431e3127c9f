"""How fast `asr train` learns here, and where the time goes: audio seconds a second, everything included.

    python benchmarks/training_speed.py [--threads 1 2] [--steps 8] [--batch-seconds 120] [--json FILE] [--plot FILE]

The shipped network on the sample recordings again and again, as `asr train` learns from them: rows made in a thread,
rooms and noise (synthetic ones), all changes, masks, and the losses of both stages. Seconds are of the clock; on cores
that nothing else uses.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measuring import SAMPLES, parser, report

from asr.acoustic.folder import DEFAULT_MODEL
from asr.data.alignments import PhoneAligner, align_manifest
from asr.data.build_audio import SPEEDS, build_audio
from asr.data.manifest import AudioLocation, Manifest, Utterance
from asr.data.training_set import StoredSet
from asr.training import loop
from asr.training.options import Settings, TrainOptions
from asr.training.processes import Team, open_device
from asr.training.run import Run, prepare_run
from asr.words.lexicon import Lexicon
from asr.words.text import normalise

COPIES = 60  # of each recording
STAGES = {"cross-entropy": 1.0, "lattice-free MMI": 0.0}  # the part of the run after which MMI takes over


class Enough(Exception):
    """The steps that were asked for are taken."""


def training_set(folder: Path) -> StoredSet:
    """The samples, aligned by the shipped model."""
    paths = [path for path in sorted(SAMPLES.glob("*.wav")) if path.with_suffix(".txt").is_file()]
    texts = [normalise(path.with_suffix(".txt").read_text()) for path in paths]
    once = tuple(
        Utterance(path.stem, text, 4.0, "", "", AudioLocation(path)) for path, text in zip(paths, texts, strict=True)
    )
    lexicon = Lexicon.load()
    aligned = align_manifest(Manifest(once, ()), PhoneAligner.load(DEFAULT_MODEL, lexicon.pronounce), folder / "align")
    again = [replace(one, id=f"{one.id}-{copy}") for one in once for copy in range(COPIES)]
    alignments = {one.id: aligned[one.id.rpartition("-")[0]] for one in again}
    return StoredSet([build_audio(folder / "audio", again, SPEEDS)], lexicon, alignments)


def measure(run: Run, steps: int) -> tuple[float, dict[str, float]]:
    """Audio seconds a second, median over steps; and the share of the time in the front end and the changes."""
    marks: list[tuple[float, float]] = []
    changing = 0.0
    changed = loop.changed

    def timed(*arguments):
        nonlocal changing
        begun = time.perf_counter()
        mels = changed(*arguments)
        changing += time.perf_counter() - begun
        return mels

    def note(progress) -> None:
        marks.append((time.perf_counter(), progress.audio_hours * 3600))
        if len(marks) > steps:
            raise Enough

    loop.changed = timed
    try:
        loop.fit(run, note, checkpoint_seconds=1e9)
    except Enough:
        pass
    finally:
        loop.changed = changed
    pairs = list(zip(marks, marks[1:], strict=False))
    speed = statistics.median((after[1] - before[1]) / (after[0] - before[0]) for before, after in pairs)
    return speed, 100 * changing / (marks[-1][0] - marks[0][0]) * (len(pairs) / len(marks))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    arguments.add_argument("--steps", type=int, default=8)
    arguments.add_argument("--batch-seconds", type=float, default=120.0)
    arguments.add_argument("--device", default="cpu")
    options = arguments.parse_args()
    random = np.random.default_rng(0)
    noises = [random.normal(0, 2_000, 80_000).astype(np.int16)]
    rooms = [(random.normal(0, 3_000, 8_000) * np.exp(-np.arange(8_000) / 1_500)).astype(np.int16)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = training_set(Path(folder))
        for threads in options.threads:
            torch.set_num_threads(threads)
            for stage, mmi_from in STAGES.items():
                usual = Settings(training=TrainOptions(mmi_from=mmi_from))
                settings = replace(usual, rows=replace(usual.rows, batch_seconds=options.batch_seconds))
                place = Path(folder) / f"{threads}-{mmi_from}"
                team = Team(open_device(options.device))
                run = prepare_run(place, data, None, settings, team, noises=noises, rooms=rooms)
                speed, changes = measure(run, options.steps)
                rows.append(
                    {
                        "threads": threads,
                        "stage": stage,
                        "audio s/s": round(speed, 1),
                        "changes and front end %": round(changes, 1),
                        "loss": round(run.loss, 3),
                    }
                )
    report(options, rows, "threads", "audio s/s", "stage")


if __name__ == "__main__":
    main()
