"""Many live streams on one server: delay of results, words lost or mixed up, memory.

    python benchmarks/server.py --streams 8 --minutes 5 [--workers 1] [--engine onnx] [--decoder ...] [--chunk-ms 160]
                                [--table TABLE] [--url URL] [--json FILE] [--plot FILE]

Starts `asr serve` as a process of its own (or takes one that runs, with --url, whose engine and decoder must be named)
and speaks to it from this one: recordings joined to pieces of so many minutes, sent in chunks as fast as they are
spoken. Each stream must give the results that a recogniser of this process gives for the same chunks, one piece after
the other beforehand. The delay of a result is the time from sending the chunk that brings it to its arrival. The exit
status is 1 if a stream gives anything else; int8 may,
slightly: its arithmetic depends on the other streams of a batch. Memory is what each process of the server has for
itself, and what the one that has mapped most of them has mapped of files, which all share; "resident" counts what is
shared once for each process, as Linux does.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jiwer
import numpy as np
import websockets

from asr import Recognizer
from asr.acoustic.folder import DEFAULT_MODEL
from asr.audio.files import AudioFile
from asr.data.manifest import load_audio, read_manifest
from asr.streaming.batcher import Batching

PAUSE_SECONDS = 1.5  # between two recordings
SAMPLES = Path(__file__).parent.parent / "samples"


class Said(NamedTuple):
    """A result: what tells it from the one before and after."""

    final: bool
    text: str
    committed: int


@dataclass
class Piece:
    """Audio in chunks, and what is to be heard in it."""

    chunks: list[bytes]
    results: list[tuple[int, Said]]  # with the number of the chunk that brings each; the end counts as one

    @property
    def text(self) -> str:
        return " ".join(said.text for _, said in self.results if said.final and said.text)


@dataclass
class Heard:
    """What a server said to one stream."""

    sent: list[float] = field(default_factory=list)  # when each chunk went, then the end
    events: list[tuple[float, Said]] = field(default_factory=list)  # with the time of arrival
    failure: str | None = None

    @property
    def text(self) -> str:
        return " ".join(said.text for _, said in self.events if said.final and said.text)

    def delays(self, piece: Piece) -> tuple[list[float], int]:
        """Seconds from chunk to result, and how many results are of no chunk: of those joined as they waited."""
        delays, unknown, place = [], 0, 0
        for arrival, said in self.events:
            until = next((k for k in range(place, len(piece.results)) if piece.results[k][1] == said), None)
            if until is None or self.sent[piece.results[until][0]] > arrival:
                unknown += 1
            else:
                delays.append(arrival - self.sent[piece.results[until][0]])
                place = until + 1
        return delays, unknown


def recordings(table: Path | None, rate: int) -> list[np.ndarray]:
    """Float samples of every recording."""
    if table is not None:
        return [load_audio(utterance, rate) for utterance in read_manifest(table).utterances[:200]]
    found = []
    for path in sorted(SAMPLES.glob("*.wav")):
        with AudioFile(path, rate) as audio:
            found.append(np.concatenate(list(audio)))
    return found


def make_piece(recognizer: Recognizer, audio: list[np.ndarray], first: int, seconds: float, chunk: int) -> Piece:
    """Recordings from the ``first`` on, in a circle, until they last so long; and what is heard in them."""
    rate = recognizer.sample_rate
    joined, length, number = [], 0, first
    while length < seconds * rate:
        joined += [audio[number % len(audio)], np.zeros(round(PAUSE_SECONDS * rate), np.float32)]
        length += len(joined[-2]) + len(joined[-1])
        number += 1
    samples = (np.concatenate(joined)[: round(seconds * rate)] * 32_767).astype("<i2")
    chunks = [samples[start : start + chunk] for start in range(0, len(samples), chunk)]
    state, heard = recognizer.start(), []
    for number in range(len(chunks) + 1):
        if number < len(chunks):
            results, state = recognizer.step(state, chunks[number].astype(np.int16))
        else:
            results, _ = recognizer.finish(state)
        heard += [(number, Said(result.final, result.text, result.committed)) for result in results]
    return Piece([part.tobytes() for part in chunks], heard)


async def speak(url: str, key: str | None, piece: Piece, chunk_seconds: float, wait: float) -> Heard:
    """Send a piece as it is spoken, and take what comes."""
    heard = Heard()
    await asyncio.sleep(wait)
    header = {"Authorization": f"Bearer {key}"} if key else None
    try:
        async with websockets.connect(url, additional_headers=header, compression=None, open_timeout=60) as socket:
            await socket.recv()

            async def send() -> None:
                begun = time.perf_counter()
                for number, chunk in enumerate(piece.chunks, start=1):
                    await asyncio.sleep(begun + number * chunk_seconds - time.perf_counter())  # when it has been spoken
                    heard.sent.append(time.perf_counter())
                    await socket.send(chunk)
                heard.sent.append(time.perf_counter())
                await socket.send('{"type": "finish"}')

            sending = asyncio.create_task(send())
            async for message in socket:
                arrival = time.perf_counter()
                event = json.loads(message)
                if event["type"] in ("partial", "final"):
                    said = Said(event["type"] == "final", event["text"], event["committed"])
                    heard.events.append((arrival, said))
                elif event["type"] == "error":
                    heard.failure = event["message"]
            await sending
    except (OSError, websockets.WebSocketException) as error:
        heard.failure = heard.failure or str(error)
    return heard


async def load(url: str, key: str | None, pieces: list[Piece], options: argparse.Namespace, pid: int | None):
    """All streams at once, begun within one chunk; with the server's memory and processor time while they last."""
    chunk_seconds = options.chunk_ms / 1_000
    address = (
        url.replace("http", "ws", 1) + "/v1/stream?sample_rate=16000&readable=0"
    )  # as the recogniser of this process
    memory: list[tuple[float, ...]] = []

    async def watch() -> None:
        begun = time.perf_counter()
        while pid is not None:
            memory.append((time.perf_counter() - begun, *memory_mib(pid)))
            await asyncio.sleep(2)

    watching = asyncio.create_task(watch())
    processor = cpu_seconds(pid)
    heard = await asyncio.gather(
        *(
            speak(address, key, pieces[number % len(pieces)], chunk_seconds, number * chunk_seconds / options.streams)
            for number in range(options.streams)
        )
    )
    processor = cpu_seconds(pid) - processor
    watching.cancel()
    return heard, memory, processor


def processes(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [pid, *map(int, children.split())]


def memory_mib(pid: int) -> list[float]:
    """Memory of a server, with what its processes share counted once, and once for each."""
    statuses = [Path(f"/proc/{one}/status").read_text(encoding="ascii") for one in processes(pid)]
    kinds = [re.compile(rf"^Rss{kind}:\s+(\d+)", re.MULTILINE) for kind in ("Anon", "File")]
    own, files = ([int(kind.search(status).group(1)) / 1_024 for status in statuses] for kind in kinds)
    return [sum(own) + max(files), sum(own) + sum(files)]


def cpu_seconds(pid: int | None) -> float:
    """Processor time that a server has taken, all its processes together."""
    total = 0
    for one in [] if pid is None else processes(pid):
        fields = Path(f"/proc/{one}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def report_of(pieces: list[Piece], heard: list[Heard], memory: list, processor: float, options) -> dict:
    delays, unknown, wrong, words, different = [], 0, 0, 0, 0
    for number, stream in enumerate(heard):
        piece = pieces[number % len(pieces)]
        found, missing = stream.delays(piece)
        delays += found
        unknown += missing
        words += len(piece.text.split())
        if stream.text != piece.text:
            counts = jiwer.process_words(piece.text, stream.text or " ")
            wrong += counts.substitutions + counts.deletions + counts.insertions
            different += 1
    seconds = options.minutes * 60
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "engine": options.engine,
        "decoder": options.decoder or "lm",
        "workers": options.workers,
        "streams": options.streams,
        "minutes": options.minutes,
        "chunk_ms": options.chunk_ms,
        "results": len(delays),
        "results_of_no_chunk": unknown,
        **{f"delay_p{p}_ms": round(1_000 * float(np.percentile(delays or [np.nan], p)), 1) for p in (50, 95, 99)},
        "delay_worst_ms": round(1_000 * max(delays, default=float("nan")), 1),
        "words": words,
        "words_wrong": wrong,
        "streams_with_another_text": different,
        "failures": [stream.failure for stream in heard if stream.failure],
    }
    if memory:
        times, sizes, resident = np.array(memory).T
        late = times >= times[-1] / 4  # before that, pools fill
        slope = np.polyfit(times[late], sizes[late], 1)[0] * 60 if late.sum() > 2 else float("nan")
        report |= {
            "server_cores": round(processor / seconds, 3),
            "memory_first_quarter_mib": round(float(sizes[late][0]), 1),
            "memory_end_mib": round(float(sizes[-1]), 1),
            "resident_end_mib": round(float(resident[-1]), 1),
            "memory_growth_mib_per_minute": round(float(slope), 2),
        }
    return report


def plot(path: Path, pieces: list[Piece], heard: list[Heard], memory: list, report: dict) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    delays = (
        np.sort(np.concatenate([stream.delays(pieces[number % len(pieces)])[0] for number, stream in enumerate(heard)]))
        * 1_000
    )
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(delays, np.arange(1, len(delays) + 1) / len(delays) * 100)
    left.set(xlabel="delay of a result, ms", ylabel="results that came within it, %", xscale="log", ylim=(0, 100))
    left.grid(alpha=0.3)
    for percent in (50, 95, 99):
        left.axvline(report[f"delay_p{percent}_ms"], linestyle=":", color="grey")
    if memory:
        times, sizes, _ = np.array(memory).T
        right.plot(times / 60, sizes)
        right.set(xlabel="minutes", ylabel="memory of the server, MiB", ylim=(0, None))
        right.grid(alpha=0.3)
    figure.suptitle(f"{report['streams']} live streams, {report['engine']}, {report['chunk_ms']} ms chunks")
    figure.savefig(path, dpi=120)


def start_server(options: argparse.Namespace) -> tuple[subprocess.Popen[str], str]:
    command = [
        sys.executable,
        "-m",
        "asr",
        "serve",
        "--port",
        "0",
        "--engine",
        options.engine,
        "--model",
        str(options.model),
        "--max-streams",
        str(options.streams),
        "--workers",
        str(options.workers),
    ]
    if options.decoder:
        command += ["--decoder", options.decoder]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if '"event": "ready"' in line:
            threading.Thread(target=process.stderr.read, daemon=True).start()  # so that its log never blocks it
            return process, f"http://127.0.0.1:{json.loads(line)['port']}"
    raise SystemExit("the server did not start")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1, help="processes of the server")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--pieces", type=int, default=8, help="different pieces; streams share them")
    parser.add_argument("--chunk-ms", type=int, default=160)
    parser.add_argument("--table", type=Path, help="recordings to speak; the samples by default")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--decoder")
    parser.add_argument("--url")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    with Recognizer.load(
        options.model, engine=options.engine, decoder=options.decoder, batching=Batching(wait_ms=0)
    ) as recognizer:
        rate = recognizer.sample_rate
        audio = recordings(options.table, rate)
        pieces = [
            make_piece(
                recognizer,
                audio,
                number * max(1, len(audio) // options.pieces),
                options.minutes * 60,
                options.chunk_ms * rate // 1_000,
            )
            for number in range(min(options.pieces, options.streams))
        ]
    print(f"{len(pieces)} pieces of {options.minutes:g} minutes are ready", file=sys.stderr)
    process = None
    if options.url is None:
        process, options.url = start_server(options)
    try:
        key = os.environ.get("RILL_API_KEY")
        heard, memory, processor = asyncio.run(
            load(options.url, key, pieces, options, process.pid if process else None)
        )
        report = report_of(pieces, heard, memory, processor, options)
        request = urllib.request.Request(f"{options.url}/metrics")
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        samples = dict(line.rsplit(" ", 1) for line in urllib.request.urlopen(request).read().decode().splitlines())
        for name in ("batch_size", "queue_seconds", "step_seconds"):
            count = float(samples[f"rill_{name}_count"])
            report[f"mean_{name}"] = round(float(samples[f"rill_{name}_sum"]) / count, 5) if count else None
    finally:
        if process is not None:
            process.terminate()
            process.wait(30)
    print("| | |\n|---|---|")
    print("\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in report.items()))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        plot(options.plot, pieces, heard, memory, report)
    return 1 if report["streams_with_another_text"] or report["failures"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
