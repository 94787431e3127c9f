"""Compute the features of a store: part by part, on several processes, so that a killed build loses little."""

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
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from asr.data.augment_audio import Augmenter
from asr.data.features import FORMAT, FeatureStore, index_path, mels_path, read_json, write_json
from asr.data.manifest import Rejected, Utterance, load_audio
from asr.errors import AudioError, DataError
from asr.files import write_whole
from asr.models.frontend import FrontendConfig, LogMel

PART_UTTERANCES = 200  # what a worker loses at most when the build is killed


class Part(NamedTuple):
    """Some utterances of one variant, and the file their features go to."""

    variant: int
    utterances: Sequence[Utterance]
    path: Path


class PartComputer:
    """Computes parts; one in each process."""

    def __init__(self, augmenter: Augmenter, frontend: FrontendConfig) -> None:
        self.augmenter = augmenter
        self.frontend = frontend
        self.log_mel = LogMel(frontend)

    def __call__(self, part: Part) -> int:
        """Write the part's file; the number of its utterances."""
        rows = [self._features(utterance, part.variant) for utterance in part.utterances]
        mels, speeds, reasons = zip(*rows, strict=True)
        arrays = {
            "mels": np.concatenate(mels),
            "frames": np.array([len(frames) for frames in mels], np.int64),
            "speed": np.array(speeds, np.float32),
            "reasons": np.array(reasons, np.str_),
        }
        write_whole(part.path, lambda file: np.savez(file, **arrays))
        return len(rows)

    def _features(self, utterance: Utterance, variant: int) -> tuple[np.ndarray, float, str]:
        """Frames (F, mels) float16, the speed, and the reason when there are no frames."""
        try:
            samples = load_audio(utterance, self.frontend.sample_rate)
        except AudioError as error:
            return np.zeros((0, self.frontend.mels), np.float16), 1.0, str(error)
        return self.features(samples, utterance.id, variant)

    def features(self, samples: np.ndarray, utterance_id: str, variant: int) -> tuple[np.ndarray, float, str]:
        """Of a variant of (N,) samples the frames (F, mels) float16, the speed, and the reason when there are none."""
        samples, speed = self.augmenter.variant(samples, utterance_id, variant)
        window = self.frontend.window_samples
        if samples.size < window:
            reason = f"its {samples.size} samples are fewer than one window of {window}"
            return np.zeros((0, self.frontend.mels), np.float16), speed, reason
        samples = np.pad(samples, (0, window))  # a stream, too, is padded with zeros until its last sample is covered
        with torch.inference_mode():
            return self.log_mel(torch.from_numpy(samples)[None])[0].half().numpy(), speed, ""


def build_features(
    folder: Path | str,
    utterances: Sequence[Utterance],
    augmenter: Augmenter,
    variants: int = 1,
    workers: int = 0,
    frontend: FrontendConfig | None = None,
) -> FeatureStore:
    """Compute the features of variants 0 to `variants` - 1 and open them.

    What an earlier build of the same utterances finished is kept, even of one that was killed. `workers` is the number
    of processes; 0 computes in this one. Utterances that cannot be decoded or are shorter than one analysis window are
    left out and listed in `rejected`.

    Raises:
        DataError: `folder` holds features of other data, augmentation or front end, or there is nothing to store.
    """
    folder, frontend = Path(folder), frontend or FrontendConfig()
    if variants < 1 or not utterances:
        raise DataError(f"nothing to compute: {variants} variants of {len(utterances)} utterances")
    parts = folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    _claim(folder, utterances, augmenter, frontend)
    computer = PartComputer(augmenter, frontend)
    console = Console(stderr=True)
    for variant in range(variants):
        if not index_path(folder, variant).is_file():
            # Variant 0 decides which utterances can be used; the others follow its list.
            population = FeatureStore.open(folder).utterances if variant else utterances
            left_out = _build_variant(folder, parts, variant, population, computer, workers, console)
            frames = int(FeatureStore.open(folder).frames(variant).sum())
            hours = frames * frontend.hop_samples / frontend.sample_rate / 3600
            console.print(f"{folder.name}: variant {variant} finished, {hours:.2f} h, {left_out} utterances left out")
    shutil.rmtree(parts)
    return FeatureStore.open(folder)


def _build_variant(
    folder: Path,
    parts: Path,
    variant: int,
    utterances: Sequence[Utterance],
    computer: PartComputer,
    workers: int,
    console: Console,
) -> int:
    """Compute one variant; how many utterances were left out."""
    plan = [
        Part(variant, utterances[start : start + PART_UTTERANCES], parts / f"variant-{variant}-at-{start}.npz")
        for start in range(0, len(utterances), PART_UTTERANCES)
    ]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        missing = [part for part in plan if not part.path.is_file()]
        done = len(utterances) - sum(len(part.utterances) for part in missing)
        task = progress.add_task(f"features, variant {variant}", total=len(utterances), completed=done)
        for count in _computed(computer, missing, workers):
            progress.advance(task, count)
    index, reasons = _join(mels_path(folder, variant), [part.path for part in plan])
    if variant == 0:
        _write_population(folder, utterances, reasons, computer.frontend)
    elif any(reasons):
        culprit, reason = next(pair for pair in zip(utterances, reasons, strict=True) if pair[1])
        raise DataError(f"{culprit.id} could be used for variant 0 and cannot for variant {variant}: {reason}")
    write_whole(index_path(folder, variant), lambda file: np.savez(file, **index))
    for part in plan:
        part.path.unlink()
    return len(reasons) - reasons.count("")


_computer_of_this_process: PartComputer


def _start_worker(augmenter: Augmenter, frontend: FrontendConfig) -> None:
    global _computer_of_this_process
    torch.set_num_threads(1)  # the processes are the parallelism
    _computer_of_this_process = PartComputer(augmenter, frontend)


def _compute_in_worker(part: Part) -> int:
    return _computer_of_this_process(part)


def _computed(computer: PartComputer, parts: list[Part], workers: int) -> Iterator[int]:
    """Compute parts, and give each one's number of utterances when it is done."""
    if workers < 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # an utterance is too little work to share; it also rounds as the processes do
        try:
            yield from map(computer, parts)
        finally:
            torch.set_num_threads(threads)
        return
    # Spawned, not forked: a fork of a process whose torch threads are running can hang.
    spawn = multiprocessing.get_context("spawn")
    setup = computer.augmenter, computer.frontend
    pool = ProcessPoolExecutor(workers, spawn, initializer=_start_worker, initargs=setup)
    try:
        for future in as_completed([pool.submit(_compute_in_worker, part) for part in parts]):
            yield future.result()
    except BrokenProcessPool as error:
        raise DataError("a feature process died, perhaps for want of memory; run again to go on from here") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _join(target: Path, parts: list[Path]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Write the frames of all parts one after the other: the index of the kept, and why, or "", for everyone."""
    frames, speeds, reasons, sums, squares = [], [], [], [], []

    def write(file) -> None:
        for path in parts:
            with np.load(path) as part:
                mels = part["mels"]
                file.write(mels.tobytes())
                sums.append(mels.sum(axis=0, dtype=np.float64))
                squares.append(np.square(mels, dtype=np.float64).sum(axis=0))
                frames.append(part["frames"])
                speeds.append(part["speed"])
                reasons.extend(part["reasons"].tolist())

    write_whole(target, write)
    kept = np.array([not reason for reason in reasons])
    if not kept.any():
        os.remove(target)
        raise DataError(f"none of {len(reasons)} utterances can be used; the first: {reasons[0]}")
    all_frames = np.concatenate(frames)[kept]
    mean = np.sum(sums, axis=0) / all_frames.sum()
    variance = np.sum(squares, axis=0) / all_frames.sum() - mean**2
    index = {
        "frames": all_frames,
        "speed": np.concatenate(speeds)[kept],
        "mean": mean.astype(np.float32),
        "std": np.sqrt(np.maximum(variance, 1e-8)).astype(np.float32),
    }
    return index, reasons


def _write_population(
    folder: Path, utterances: Sequence[Utterance], reasons: list[str], frontend: FrontendConfig
) -> None:
    pairs = list(zip(utterances, reasons, strict=True))
    content = {
        "format": FORMAT,
        "frontend": dataclasses.asdict(frontend),
        "utterances": [dataclasses.asdict(utterance) for utterance, reason in pairs if not reason],
        "rejected": [dataclasses.asdict(Rejected(utterance.id, 0, reason)) for utterance, reason in pairs if reason],
    }
    write_json(folder / "store.json", content)


def _claim(folder: Path, utterances: Sequence[Utterance], augmenter: Augmenter, frontend: FrontendConfig) -> None:
    """Note what the folder is for, or check that it was begun for the same."""
    plan = {
        "format": FORMAT,
        "data": _digest(utterances),
        "augmenter": augmenter.identity,
        "frontend": dataclasses.asdict(frontend),
    }
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
