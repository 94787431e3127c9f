"""Fuzzing of all that reads bytes from outside: audio, tables, lexicons, grammars, model folders, protocols.

    python -m benchmarks.fuzz --minutes 60 [--only audio] [--seed 1] [--keep FOLDER]

Changes good inputs at random and has them read. Crashes, exceptions that are no message for the user, readings of more
than ten seconds and memory that grows are printed, and their inputs kept; the exit status is then 1. Inputs are read by
a process of its own, so that one that ends the process is found, too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

SLOW_SECONDS = 10.0  # of computing
NO_END_SECONDS = 60.0  # on the clock
GROWTH_MIB = 200.0  # of a process that has read thousands of inputs
CASES = 4_000  # that a process reads before another one begins
ODD_VALUES = (
    None,
    True,
    0,
    -1,
    2**63,
    1e308,
    float("nan"),
    "",
    "x" * 999,
    "\ud800",
    [],
    {},
    [[]],
    [1],
    {"a": 1},
    "1",
    0.5,
)
SIZES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\x80\0\0\0", b"\0\0\0\x80", b"\1\0\0\0")


def mutated(data: bytes, others: list[bytes], random: random.Random) -> bytes:
    """The same bytes with one to six changes, as transmission, cutting, joining and malice make them."""
    if data[:1] in (b"{", b"[") and random.random() < 0.7:
        data = mutated_json(data, random)
        lines = [mutated_json(line, random) if random.random() < 0.4 else line for line in data.split(b"\n")]
        if random.random() < 0.3:
            random.shuffle(lines)
        data = b"\n".join(lines)
        if random.random() < 0.7:
            return data
    changed = bytearray(data)
    for _ in range(random.randint(1, 6)):
        size = len(changed)
        at = random.randrange(size + 1)
        if random.random() < 0.5:  # headers matter most
            at = min(at, random.randrange(200))
        span = min(size - at, 1 << random.randrange(12))
        match random.randrange(10):
            case 0 if size:
                changed[min(at, size - 1)] ^= 1 << random.randrange(8)
            case 1:
                changed[at : at + span] = random.randbytes(span)
            case 2:
                changed[at : at + 4] = random.choice(SIZES)
            case 3:
                del changed[at : at + span]
            case 4:
                changed[at:at] = changed[at : at + span] * random.randint(1, 9)
            case 5:
                del changed[at:]
            case 6:
                other = random.choice(others)
                begin = random.randrange(len(other) + 1)
                changed[at : at + span] = other[begin : begin + span]
            case 7:
                changed += random.choice(others) if random.random() < 0.5 else bytes(random.randrange(5_000))
            case 8:
                changed[at:at] = random.choice(
                    (b"\0", b"\n", b"\r", b"\t", b"\xff", b"\xef\xbb\xbf", b"|", b"(", b"]", b"<")
                )
            case _:
                changed[at : at + span] = bytes(span)
    return bytes(changed)


def mutated_json(line: bytes, random: random.Random) -> bytes:
    """JSON with one value in place of another; what is no JSON as it is."""
    try:
        content = json.loads(line)
    except ValueError:
        return line
    places = []

    def visit(value: object) -> None:
        keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            places.append((value, key))
            visit(value[key])

    visit(content)
    if not places:
        return line
    parent, key = random.choice(places)
    if isinstance(parent, dict) and random.random() < 0.2:
        del parent[key]
    else:
        parent[key] = random.choice(ODD_VALUES)
    return json.dumps(content).encode()


def work(seed: int, only: str, cases: int) -> None:
    """Read inputs; on stdout, the number and the name of each before it is read, and what was found."""
    from asr.errors import RillError
    from benchmarks.fuzz_targets import targets

    with tempfile.TemporaryDirectory() as folder:
        os.environ["RILL_CACHE"] = folder
        found = [target for target in targets(Path(folder)) if only in target.name]
        last = Path(folder) / "last"
        for case in range(cases):
            chance = random.Random(f"{seed} {case}")
            target = chance.choice(found)
            data = mutated(chance.choice(target.seeds), target.seeds, chance)
            last.write_bytes(data)
            print(f"case {case} {last} {target.name}", flush=True)
            begun = time.process_time()
            try:
                target.read(data)
            except RillError as error:
                if "\n" in str(error):
                    print(f"found message of several lines: {str(error)!r}", flush=True)
            except Exception:
                print("found exception: " + json.dumps(traceback.format_exc()), flush=True)
            if time.process_time() - begun > SLOW_SECONDS:
                print(f"found slow: {time.process_time() - begun:.0f} s", flush=True)
            if case in (cases // 4, cases - 1):
                print(f"memory {resident_mib():.0f}", flush=True)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Findings:
    """What was found, each kind once, with an input that shows it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.counts: Counter[str] = Counter()

    def add(self, target: str, what: str, data: bytes) -> None:
        lines = [line for line in what.strip().splitlines() if line.strip()]
        places = re.findall(r'File "[^"]*/((?:asr|streaming|models)/[^"]+)", line (\d+)', what)
        kind = f"{target}: {lines[-1][:200] if lines else what}" + (f" at {':'.join(places[-1])}" if places else "")
        key = re.sub(r"\d+|'[^']*'|\"[^\"]*\"", "*", f"{target} {lines[-1] if lines else what} {places[-1:]}")[:200]
        if not self.counts[key]:
            path = self._folder / f"{len(self.counts)}-{re.sub('[^a-z]+', '-', target)}"
            path.write_bytes(data)
            print(f"{kind}\n  shown by {path}", flush=True)
        self.counts[key] += 1


def watched(seed: int, only: str, findings: Findings, until: float) -> int:
    """Run a process; how many inputs it has read."""
    command = [sys.executable, "-m", "benchmarks.fuzz", "--work", str(seed), "--only", only]
    root = Path(__file__).parent.parent
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root)
    cases, target, last, memory = 0, "start", Path(), []
    timer: threading.Timer | None = None
    slow = threading.Event()

    def stop() -> None:
        slow.set()
        process.kill()

    def data() -> bytes:
        return last.read_bytes() if last.is_file() else b""

    copy = b""
    for line in process.stdout:
        if timer is not None:
            timer.cancel()
        kind, _, rest = line.strip().partition(" ")
        if kind == "case":
            number, path, target = rest.split(" ", 2)
            cases, last = int(number) + 1, Path(path)
            copy = data()
            if time.monotonic() > until:
                process.kill()
                process.wait()
                return cases
            timer = threading.Timer(NO_END_SECONDS, stop)
            timer.daemon = True
            timer.start()
        elif kind == "memory":
            memory.append(float(rest))
        elif rest.startswith("exception: "):
            findings.add(target, json.loads(rest.removeprefix("exception: ")), copy)
        else:
            findings.add(target, rest, copy)
    status = process.wait()
    if timer is not None:
        timer.cancel()
    if slow.is_set():
        findings.add(target, f"no end after {NO_END_SECONDS:.0f} s", copy)
    elif status != 0:
        findings.add(target, f"the process ended with status {status}", copy)
    if len(memory) == 2 and memory[1] - memory[0] > GROWTH_MIB:
        findings.add("all", f"memory grew from {memory[0]:.0f} to {memory[1]:.0f} MiB", b"")
    return cases


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--only", default="", help="targets whose name contains this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for inputs that show something")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        work(options.work, options.only, CASES)
        return 0
    folder = options.keep or Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    findings = Findings(folder)
    begun, cases, seed = time.monotonic(), 0, options.seed
    while (until := begun + 60 * options.minutes) > time.monotonic():
        cases += watched(seed, options.only, findings, until)
        seed += 1
    print(f"{cases} inputs in {(time.monotonic() - begun) / 60:.1f} minutes; {len(findings.counts)} kinds of findings")
    return 1 if findings.counts else 0


if __name__ == "__main__":
    sys.exit(main())
