"""Decode the recordings of a store: part by part, on several processes, so that a killed build loses little."""

from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from asr.data.audio_store import STORE_VERSION, AudioStore, index_path, read_json, samples_path, write_json
from asr.data.manifest import Rejected, Utterance, load_audio
from asr.errors import AudioError, DataError
from asr.files import write_whole
from asr.models.frontend import FrontendConfig

PART_UTTERANCES = 200  # what a worker loses at most when the build is killed
FULL_SCALE = 32_768
SPEEDS = (1.0, 0.9, 1.1)  # of the recordings, the first as they are


class Part(NamedTuple):
    """Some utterances at one speed, and the file their samples go to."""

    speed: float
    utterances: Sequence[Utterance]
    path: Path


def build_audio(
    folder: Path | str,
    utterances: Sequence[Utterance],
    speeds: Sequence[float] = (1.0,),
    workers: int = 0,
) -> AudioStore:
    """Decode utterances at every speed and open the store.

    What an earlier build of the same utterances finished is kept, even of one that was killed. `workers` is the number
    of processes; 0 decodes in this one. Utterances that cannot be decoded or are shorter than one analysis window are
    left out and listed in `rejected`.

    Raises:
        DataError: `folder` holds audio of other data, or there is nothing to store.
    """
    folder = Path(folder)
    if not speeds or speeds[0] != 1.0 or not utterances:
        raise DataError(
            f"nothing to decode: speeds {tuple(speeds)} (the first must be 1) of {len(utterances)} utterances"
        )
    parts = folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    _claim(folder, utterances)
    console = Console(stderr=True)
    for speed in speeds:
        if not index_path(folder, speed).is_file():
            # The recordings themselves decide which utterances can be used; other speeds follow their list.
            population = utterances if speed == 1.0 else AudioStore.open(folder).utterances
            left_out = _build_speed(folder, parts, speed, population, workers, console)
            hours = int(AudioStore.open(folder).lengths(speed).sum()) / FrontendConfig.sample_rate / 3600
            console.print(f"{folder.name}: speed {speed} decoded, {hours:.2f} h, {left_out} utterances left out")
    shutil.rmtree(parts)
    return AudioStore.open(folder)


def samples_at(utterance: Utterance, speed: float) -> np.ndarray:
    """Decode an utterance: (N,) int16 samples, played ``speed`` times as fast.

    Raises:
        AudioError: it cannot be decoded, or is shorter than one analysis window.
    """
    samples = load_audio(utterance, FrontendConfig.sample_rate)
    if samples.size < FrontendConfig.window_samples:
        raise AudioError(f"its {samples.size} samples are fewer than one window of {FrontendConfig.window_samples}")
    return as_int16(at_speed(samples, speed))


def at_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """(N,) samples -> about (N / speed,): faster and higher, as a tape would be (Ko et al. 2015)."""
    if speed == 1.0:
        return samples
    return soxr.resample(samples, FrontendConfig.sample_rate * speed, FrontendConfig.sample_rate)


def as_int16(samples: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] in 16 bits."""
    return np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def _write_part(part: Part) -> int:
    """Write a part's file; the number of its utterances."""
    samples, reasons = [], []
    for utterance in part.utterances:
        try:
            samples.append(samples_at(utterance, part.speed))
            reasons.append("")
        except AudioError as error:
            samples.append(np.zeros(0, np.int16))
            reasons.append(str(error))
    arrays = {
        "samples": np.concatenate(samples),
        "lengths": np.array([len(one) for one in samples], np.int64),
        "reasons": np.array(reasons, np.str_),
    }
    write_whole(part.path, lambda file: np.savez(file, **arrays))
    return len(samples)


def _build_speed(
    folder: Path, parts: Path, speed: float, utterances: Sequence[Utterance], workers: int, console: Console
) -> int:
    """Decode at one speed; how many utterances were left out."""
    plan = [
        Part(speed, utterances[start : start + PART_UTTERANCES], parts / f"speed-{speed}-at-{start}.npz")
        for start in range(0, len(utterances), PART_UTTERANCES)
    ]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        missing = [part for part in plan if not part.path.is_file()]
        done = len(utterances) - sum(len(part.utterances) for part in missing)
        task = progress.add_task(f"decoding, speed {speed}", total=len(utterances), completed=done)
        for count in _written(missing, workers):
            progress.advance(task, count)
    lengths, reasons = _join(samples_path(folder, speed), [part.path for part in plan])
    if speed == 1.0:
        _write_population(folder, utterances, reasons)
    elif any(reasons):
        culprit, reason = next(pair for pair in zip(utterances, reasons, strict=True) if pair[1])
        raise DataError(f"{culprit.id} could be decoded before and cannot at speed {speed}: {reason}")
    write_whole(index_path(folder, speed), lambda file: np.savez(file, lengths=lengths))
    for part in plan:
        part.path.unlink()
    return len(reasons) - reasons.count("")


def _written(parts: list[Part], workers: int) -> Iterator[int]:
    """Write parts, and give each one's number of utterances when it is done."""
    if workers < 1:
        yield from map(_write_part, parts)
        return
    # Spawned, not forked: a fork of a process whose torch threads are running can hang.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    try:
        for future in as_completed([pool.submit(_write_part, part) for part in parts]):
            yield future.result()
    except BrokenProcessPool as error:
        raise DataError("a decoding process died, perhaps for want of memory; run again to go on from here") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _join(target: Path, parts: list[Path]) -> tuple[np.ndarray, list[str]]:
    """Write the samples of all parts one after the other: the lengths of the kept, and why, or "", for everyone."""
    lengths, reasons = [], []

    def write(file) -> None:
        for path in parts:
            with np.load(path) as part:
                file.write(part["samples"].tobytes())
                lengths.append(part["lengths"])
                reasons.extend(part["reasons"].tolist())

    write_whole(target, write)
    kept = np.array([not reason for reason in reasons])
    if not kept.any():
        os.remove(target)
        raise DataError(f"none of {len(reasons)} utterances can be used; the first: {reasons[0]}")
    return np.concatenate(lengths)[kept], reasons


def _write_population(folder: Path, utterances: Sequence[Utterance], reasons: list[str]) -> None:
    pairs = list(zip(utterances, reasons, strict=True))
    content = {
        "format": STORE_VERSION,
        "utterances": [dataclasses.asdict(utterance) for utterance, reason in pairs if not reason],
        "rejected": [dataclasses.asdict(Rejected(utterance.id, 0, reason)) for utterance, reason in pairs if reason],
    }
    write_json(folder / "store.json", content)


def _claim(folder: Path, utterances: Sequence[Utterance]) -> None:
    """Note what the folder is for, or check that it was begun for the same."""
    plan = {"format": STORE_VERSION, "data": _digest(utterances), "sample_rate": FrontendConfig.sample_rate}
    path = folder / "plan.json"
    if not path.is_file():
        write_json(path, plan)
        return
    present = read_json(path)
    differing = [key for key in plan if present.get(key) != plan[key]]
    if differing:
        what = " and ".join(differing)
        raise DataError(f"{folder} was built with another {what}; give another folder or remove this one")


def _digest(utterances: Sequence[Utterance]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for utterance in utterances:
        audio = utterance.audio
        digest.update(f"{utterance.id}\0{audio.path.name}\0{audio.offset}\0{audio.size}\n".encode())
    return digest.hexdigest()
