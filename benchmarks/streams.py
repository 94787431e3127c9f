"""How many live speakers a machine keeps up with.

    python benchmarks/streams.py [--cores 1 2] [--decoder greedy lm] [--seconds 6] [--most 256]
                                 [--json FILE] [--plot FILE]

Every stream gets a chunk of 160 ms every 160 ms, at a moment of its own, and is stepped by its own thread; a delay is
the time from the end of a chunk to its results. The number of streams doubles until the 95th percentile of the delays
is above 160 ms, and is then narrowed down. Computing time counts all cores.
"""

from __future__ import annotations

import threading
import time

import numpy as np
from measuring import ALLOWED, RATE, parser, pin, report, resident_mb, speech

from asr import Recognizer
from asr.streaming.batcher import Batching

CHUNK_SECONDS = 0.16
WARM_UP_SECONDS = 1.0


def serve(recognizer: Recognizer, streams: int, seconds: float) -> dict[str, float]:
    """Run so many streams for so long."""
    audio = speech()
    chunk = round(CHUNK_SECONDS * RATE)
    begin = time.perf_counter() + 0.2 + streams * 0.002
    delays: list[list[float]] = [[] for _ in range(streams)]

    def speak(number: int) -> None:
        state = recognizer.start()
        place = number * 7_919 % (len(audio) - chunk)
        due = begin + CHUNK_SECONDS * ((number * 0.618) % 1.0)
        while due < begin + WARM_UP_SECONDS + seconds:
            due += CHUNK_SECONDS
            time.sleep(max(0.0, due - time.perf_counter()))
            place = place + chunk if place + 2 * chunk <= len(audio) else 0
            _, state = recognizer.step(state, audio[place : place + chunk])
            if due > begin + WARM_UP_SECONDS:
                delays[number].append(time.perf_counter() - due)
            if delays[number] and delays[number][-1] > 2.0:
                return  # hopelessly behind

    threads = [threading.Thread(target=speak, args=(number,), daemon=True) for number in range(streams)]
    computing = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    computing = time.process_time() - computing
    p50, p95, p99 = (1_000 * np.percentile(np.concatenate(delays), (50, 95, 99))).tolist()
    return {
        "streams": streams,
        "p50 ms": round(p50, 1),
        "p95 ms": round(p95, 1),
        "p99 ms": round(p99, 1),
        "computing ms per stream and s": round(1_000 * computing / streams / (WARM_UP_SECONDS + seconds), 2),
        **resident_mb(),
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--cores", type=int, nargs="+", default=sorted({1, min(2, len(ALLOWED))}))
    arguments.add_argument("--decoder", nargs="+", default=["greedy", "lm"])
    arguments.add_argument("--engine", default="int8")
    arguments.add_argument("--seconds", type=float, default=6.0)
    arguments.add_argument("--most", type=int, default=256)
    options = arguments.parse_args()
    rows, served = [], []
    for cores in options.cores:
        pin(cores)
        for decoder in options.decoder:
            setting = f"{decoder}, {cores} core{'s' * (cores > 1)}"
            with Recognizer.load(engine=options.engine, decoder=decoder, batching=Batching()) as recognizer:
                good, bad, streams = 0, None, 1
                while streams <= options.most and (bad is None or bad - good > max(4, good // 10)):
                    rows.append({"setting": setting, **serve(recognizer, streams, options.seconds)})
                    print(rows[-1], flush=True)
                    if rows[-1]["p95 ms"] < 1_000 * CHUNK_SECONDS:
                        good = streams
                    else:
                        bad = streams
                    streams = 2 * good if bad is None else (good + bad) // 2
            served.append(f"{setting}: {good}{'' if bad else ' or more'} live streams")
    rows.sort(key=lambda row: (row["setting"], row["streams"]))
    report(options, rows, "streams", "p95 ms", by="setting")
    print("\n".join(served))


if __name__ == "__main__":
    main()
