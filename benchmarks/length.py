"""Whether computing or memory grow with the length of a stream.

    python benchmarks/length.py [--seconds 10 60 600 3600 7200] [--decoder greedy lm] [--json FILE] [--plot FILE]

Streams hours of audio in chunks of 160 ms as fast as one core computes them, and reports at each length the speed
since the last one, the slowest chunk, and the memory of the process.
"""

from __future__ import annotations

import time

from measuring import RATE, parser, pin, report, resident_mb, speech

from asr import Recognizer


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=int, nargs="+", default=[10, 60, 600, 3_600, 7_200])
    arguments.add_argument("--decoder", nargs="+", default=["greedy", "lm"])
    arguments.add_argument("--engine", default="int8")
    options = arguments.parse_args()
    pin(1)
    audio, chunk, rows = speech(), 2_560, []
    for decoder in options.decoder:
        recognizer = Recognizer.load(engine=options.engine, decoder=decoder)
        state, heard, place = recognizer.start(), 0, 0
        for length in sorted(options.seconds):
            before, begun, slowest = heard, time.perf_counter(), 0.0
            while heard < length * RATE:
                last = time.perf_counter()
                _, state = recognizer.step(state, audio[place : place + chunk])
                slowest = max(slowest, time.perf_counter() - last)
                heard, place = heard + chunk, (place + chunk) % (len(audio) - chunk)
            wall = time.perf_counter() - begun
            rows.append(
                {
                    "decoder": decoder,
                    "audio s": length,
                    "times real time": round((heard - before) / RATE / wall, 1),
                    "slowest chunk ms": round(1_000 * slowest, 1),
                    **resident_mb(),
                }
            )
            print(rows[-1], flush=True)
    report(options, rows, "audio s", "times real time", by="decoder")


if __name__ == "__main__":
    main()
