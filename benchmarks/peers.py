"""Rill beside what one would use instead: the same speech, one core, one run.

    python benchmarks/peers.py TABLE [--every 4] [--streamed 16] [--only NAME] [--json FILE] [--plot FILE]

Each system runs in a process of its own, on one core. Whole recordings: word error rate, and processor seconds a second
of audio. Live, some recordings arrive at their own speed: what takes pieces gets them of 160 ms (PocketSphinx 100 ms);
what cannot is run again every second on all that was said so far, as people do. "First" is from the end of the first
word to the first text, "final" from the end of the audio to the final text, both medians, the time for computing
included. Memory is what the system adds to the process at most. Texts are compared in lower case, without marks,
numbers and titles as words. What is not installed is left out; `benchmarks/peer_systems.py` names the packages.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jiwer
import numpy as np
from measuring import RATE, parser, pin, report
from peer_systems import SYSTEMS, System, installed

from asr.data.manifest import Utterance, load_audio, read_manifest
from asr.errors import DataError
from asr.importing.spoken import spelled_out
from asr.words.text import normalise

TITLES = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint"}


def plain(text: str) -> str:
    """A text as references are written."""
    try:
        text = spelled_out(text)
    except DataError:  # symbols and codes without one reading
        text = normalise(re.sub(r"[^A-Za-z' -]", " ", text))
    return " ".join(TITLES.get(word, word) for word in text.split())


def live_delays(system: System, audio: np.ndarray, first_word: float) -> tuple[float, float, float]:
    """Seconds from the end of the first word to the first text, from the end of the audio to the final text, of
    computing.

    Pieces arrive at the speed of speech; a piece waits while the one before is computed.
    """
    feed, finish = system.live()
    size = round(system.chunk_seconds * RATE)
    now, shown, computing = 0.0, None, 0.0
    for start in range(0, len(audio), size):
        piece = audio[start : start + size]
        now = max(now, (start + len(piece)) / RATE)
        begun, used = time.perf_counter(), time.process_time()
        text = feed(piece)
        now += time.perf_counter() - begun
        computing += time.process_time() - used
        if text and shown is None:
            shown = now
    begun, used = time.perf_counter(), time.process_time()
    finish()
    now += time.perf_counter() - begun
    computing += time.process_time() - used
    return (now if shown is None else shown) - first_word, now - len(audio) / RATE, computing


def measure(name: str, utterances: list[Utterance], first_words: dict[str, float]) -> dict[str, object]:
    """The row of a system."""
    pin(1)
    before = memory_mb("VmRSS")
    system = SYSTEMS[name].make()
    texts, seconds, computing = [], 0.0, 0.0
    for number, utterance in enumerate(utterances):
        audio = load_audio(utterance, RATE)
        if number == 0:
            system.text(audio)  # what is loaded when it is first used
        used = time.process_time()
        texts.append(plain(system.text(audio)))
        computing += time.process_time() - used
        seconds += len(audio) / RATE
    wrong = {}
    for source in ("all", *dict.fromkeys(one.source for one in utterances)):
        chosen = [k for k, one in enumerate(utterances) if source in ("all", one.source)]
        rate = jiwer.wer([plain(utterances[k].text) for k in chosen], [texts[k] for k in chosen])
        wrong[f"{source} WER %" if source != "all" else "WER %"] = round(100 * rate, 1)
    heard = [one for one in utterances if one.id in first_words]
    delays = [live_delays(system, load_audio(one, RATE), first_words[one.id]) for one in heard]
    first, final, live = zip(*delays, strict=True)
    return {
        "system": name,
        **wrong,
        "CPU s a s": round(computing / seconds, 4),
        "live CPU s a s": round(sum(live) / sum(one.seconds for one in heard), 3),
        "first s": round(statistics.median(first), 2),
        "final s": round(statistics.median(final), 2),
        "memory MB": memory_mb("VmHWM") - before,
        "model MB": round(system.megabytes),
    }


def memory_mb(which: str) -> int:
    """Of this process, now (VmRSS) or at most so far (VmHWM); 0 where the system does not tell."""
    status = Path("/proc/self/status")  # getrusage counts the process that started this one, too
    found = re.search(rf"{which}:\s+(\d+)", status.read_text()) if status.exists() else None
    return round(int(found[1]) / 1024) if found else 0


def first_word_ends(utterances: list[Utterance]) -> dict[str, float]:
    """When the first word of each utterance ends, by forced alignment."""
    from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage
    from asr.decoding.word_alignment import WordAligner
    from asr.words.lexicon import Lexicon

    aligner = WordAligner(ModelPackage.open(DEFAULT_MODEL), Lexicon.load())
    return {one.id: aligner.align(load_audio(one, RATE), one.text)[0].end_seconds for one in utterances}


def draw(rows: list[dict], path: Path) -> None:
    """Words wrong against cost."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(7, 4.5), layout="constrained")).subplots()
    for row in rows:
        own = str(row["system"]).startswith("Rill")
        axes.scatter(row["CPU s a s"], row["WER %"], s=70, color="#c2410c" if own else "#475569")
        above = 8 if len(axes.texts) % 2 == 0 else -17  # so that neighbours do not overlap
        axes.annotate(
            row["system"], (row["CPU s a s"], row["WER %"]), (0, above), textcoords="offset points", ha="center"
        )
    axes.set_xscale("log")
    axes.set_xlim(0.01, 1)
    axes.set_ylim(0)
    axes.set_xticks(ticks := (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1), map(str, ticks))
    axes.minorticks_off()
    axes.set_xlabel("processor seconds for a second of audio, one core")
    axes.set_ylabel("words wrong, %")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("table", type=Path)
    arguments.add_argument("--every", type=int, default=4, help="take every n-th utterance")
    arguments.add_argument("--streamed", type=int, default=16, help="recordings of at least 3 s that arrive live")
    arguments.add_argument("--only", choices=SYSTEMS, action="append")
    arguments.add_argument("--first-words", type=Path, help=argparse.SUPPRESS)  # in the process of a system
    options = arguments.parse_args()
    utterances = list(read_manifest(options.table).utterances)[:: options.every]
    if options.first_words:
        row = measure(options.only[0], utterances, json.loads(options.first_words.read_text()))
        options.json.write_text(json.dumps(row))
        return
    long = [one for one in utterances if one.seconds >= 3]
    streamed = long[:: max(1, len(long) // options.streamed)][: options.streamed]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        (first_words := Path(folder) / "first.json").write_text(json.dumps(first_word_ends(streamed)))
        for name in filter(installed, options.only or SYSTEMS):
            command = [sys.executable, __file__, str(options.table), f"--every={options.every}", f"--only={name}"]
            row = Path(folder) / "row.json"
            subprocess.run([*command, f"--first-words={first_words}", f"--json={row}"], check=True)
            rows.append(json.loads(row.read_text()))
            print(rows[-1], flush=True)
    plot, options.plot = options.plot, None
    report(options, rows, "system", "WER %")
    if plot:
        draw(rows, plot)


if __name__ == "__main__":
    main()
