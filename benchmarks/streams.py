"""How many live speakers a machine keeps up with.

    python benchmarks/streams.py [--cores 1 2] [--workers 1 2] [--decoder greedy lm] [--seconds 6] [--most 256]
                                 [--json FILE] [--plot FILE]

With several workers the streams are spread over so many processes. Every stream gets a chunk of 160 ms every 160 ms, at
a moment of its own, and is stepped by its own thread; a delay is the time from the end of a chunk to its results. The
number of streams doubles until the 95th percentile of the delays is above 160 ms, and is then narrowed down. Computing
time counts all cores.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from itertools import product
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
from measuring import ALLOWED, RATE, parser, pin, report, resident_mb, speech

from asr import Recognizer
from asr.memory import limit_arenas
from asr.streaming.batcher import Batching

CHUNK_SECONDS = 0.16
WARM_UP_SECONDS = 1.0


def speak(recognizer: Recognizer, numbers: range, streams: int, seconds: float, begin: float) -> Heard:
    """Run the streams of these numbers, of so many in all, from ``begin`` on the monotonic clock."""
    audio = speech()
    chunk = round(CHUNK_SECONDS * RATE)
    delays: dict[int, list[float]] = {number: [] for number in numbers}

    def one(number: int) -> None:
        state = recognizer.start()
        place = number * 7_919 % (len(audio) - chunk)
        due = begin + CHUNK_SECONDS * ((number * 0.618) % 1.0)
        while due < begin + WARM_UP_SECONDS + seconds:
            due += CHUNK_SECONDS
            time.sleep(max(0.0, due - time.monotonic()))
            place = place + chunk if place + 2 * chunk <= len(audio) else 0
            _, state = recognizer.step(state, audio[place : place + chunk])
            if due > begin + WARM_UP_SECONDS:
                delays[number].append(time.monotonic() - due)
            if delays[number] and delays[number][-1] > 2.0:
                return  # hopelessly behind

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in numbers]
    computing = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Heard(sum(delays.values(), []), time.process_time() - computing, resident_mb())


class Heard(NamedTuple):
    """What one process measured."""

    delays: list[float]  # seconds
    computing: float  # seconds of all its threads
    memory: dict[str, float]


def work(options: dict[str, str], at_once: int, pipe: Connection) -> None:
    """A worker process: speaks what it is sent until there is nothing more."""
    limit_arenas(len(ALLOWED))  # as `asr serve` does
    with Recognizer.load(**options, batching=Batching(at_once=at_once)) as recognizer:
        pipe.send(None)
        while (task := pipe.recv()) is not None:
            pipe.send(speak(recognizer, *task))


class Crew:
    """The processes that share the streams, as those of `asr serve --workers` do."""

    def __init__(self, workers: int, at_once: int, **options: str) -> None:
        self._pipes, self._processes = [], []
        for _ in range(workers):
            ours, theirs = multiprocessing.Pipe()
            context = multiprocessing.get_context("spawn")
            self._processes.append(context.Process(target=work, args=(options, at_once, theirs), daemon=True))
            self._processes[-1].start()
            ours.recv()  # one after the other, as the first one may fill the cache
            self._pipes.append(ours)

    def serve(self, streams: int, seconds: float) -> dict[str, float]:
        """Run so many streams for so long."""
        begin = time.monotonic() + 0.2 + streams * 0.002
        for number, pipe in enumerate(self._pipes):
            pipe.send((range(number, streams, len(self._pipes)), streams, seconds, begin))
        heard: list[Heard] = [pipe.recv() for pipe in self._pipes]
        p50, p95, p99 = (1_000 * np.percentile([delay for one in heard for delay in one.delays], (50, 95, 99))).tolist()
        computing = sum(one.computing for one in heard) / streams / (WARM_UP_SECONDS + seconds)
        return {
            "streams": streams,
            "p50 ms": round(p50, 1),
            "p95 ms": round(p95, 1),
            "p99 ms": round(p99, 1),
            "computing ms per stream and s": round(1_000 * computing, 2),
            "own_mb": round(sum(one.memory.get("own_mb", 0.0) for one in heard), 1),
            "files_mb": max(one.memory.get("files_mb", 0.0) for one in heard),  # the same files
        }

    def close(self) -> None:
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(None)
            process.join()


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--cores", type=int, nargs="+", default=sorted({1, min(2, len(ALLOWED))}))
    arguments.add_argument("--workers", type=int, nargs="+", default=[1], help="processes")
    arguments.add_argument("--decoder", nargs="+", default=["greedy", "lm"])
    arguments.add_argument("--engine", default="int8")
    arguments.add_argument("--seconds", type=float, default=6.0)
    arguments.add_argument("--most", type=int, default=256)
    options = arguments.parse_args()
    rows, served = [], []
    for cores, workers, decoder in product(options.cores, options.workers, options.decoder):
        pin(cores)  # and so the workers, which inherit it
        setting = f"{decoder}, {cores} core{'s' * (cores > 1)}" + f", {workers} workers" * (workers > 1)
        crew = Crew(workers, -(-cores // workers), engine=options.engine, decoder=decoder)
        good, bad, streams = 0, None, 1
        while streams <= options.most and (bad is None or bad - good > max(4, good // 10)):
            rows.append({"setting": setting, **crew.serve(streams, options.seconds)})
            print(rows[-1], flush=True)
            if rows[-1]["p95 ms"] < 1_000 * CHUNK_SECONDS:
                good = streams
            else:
                bad = streams
            streams = 2 * good if bad is None else (good + bad) // 2
        crew.close()
        served.append(f"{setting}: {good}{'' if bad else ' or more'} live streams")
    rows.sort(key=lambda row: (row["setting"], row["streams"]))
    report(options, rows, "streams", "p95 ms", by="setting")
    print("\n".join(served))


if __name__ == "__main__":
    main()
