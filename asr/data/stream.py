"""Training batches streamed from Shar folders: read, decoded and laid out in rows by worker processes.

A step of training learns from a batch in parts, by one process or by several (see `asr.training.processes`). Every part
has a stream of its own, and each stream its workers; they share out the shards, so that of two no one reads the same in
a pass over the corpus. Streams have no end: an epoch is as many steps as the corpus has audio for, and all parts have
the same number of steps. What a stream gives is decided by the seed, the shards and the numbers of parts and workers
alone, so a run can be taken up at any step: the stream is read up to there, but not decoded.
"""

from __future__ import annotations

import functools
import itertools
import signal
import sys
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from lhotse.cut import Cut
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from asr.acoustic.forced_alignment import Alignment
from asr.data.build_audio import SPEEDS, as_int16, at_speed
from asr.data.manifest import Rejected
from asr.data.rows import Batch, Place, RowOptions, Spoken, Step, collate, plan_rows
from asr.data.shar import Census, Shard, doubt, read_cuts, samples_of
from asr.data.training_set import TextEncoder
from asr.errors import AudioError, DataError, UsageError
from asr.models.acoustic import AcousticConfig
from asr.words.lexicon import Lexicon
from asr.words.text import normalise

BUFFERED_BATCHES = 8  # of audio, encoded: they are laid out in rows together
LEAST_BUFFERED = 200  # utterances


class StreamStep(NamedTuple):
    """A step: where it is in the streams, and what they are made with."""

    number: int
    seed: int
    batch_seconds: float


class StreamedSet:
    """A `asr.data.training_set.TrainingSet` that is not in memory. It has no forced alignments."""

    def __init__(
        self,
        shards: Sequence[Shard],
        census: Census,
        speeds: Sequence[float] = SPEEDS,
        workers: int = 2,
        parts: int = 1,
    ) -> None:
        """Stream shards.

        Args:
            shards: as `find_shards` gives them.
            census: of them.
            speeds: of the recordings; in each pass over the corpus an utterance has the next one.
            workers: processes of each stream; 0: this one does their work.
            parts: of a step, each with its own stream.
        Raises:
            UsageError: there are fewer shards than workers.
        """
        readers = max(1, workers) * parts
        if len(shards) < readers:
            raise UsageError(
                f"{len(shards)} shards cannot be shared out to {readers} workers ({parts} parts of a batch with "
                f"{max(1, workers)} each): give fewer --workers, or write smaller shards"
            )
        self.shards = tuple(shard._replace(size=size) for shard, size in zip(shards, census.sizes, strict=True))
        self.census, self.speeds, self.workers = census, tuple(speeds), workers
        self.seconds, self.utterances = census.seconds, census.utterances
        self.rejected: tuple[Rejected, ...] = census.rejected
        self._readers: dict[tuple[StreamStep, int], _Reader] = {}  # each under the step and part it gives next

    def alignments(self) -> Iterator[Alignment]:
        """None: what is streamed is not aligned."""
        return iter(())

    def normalisation(self, config: AcousticConfig) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of each mel, as the census measured them."""
        return self.census.mean, self.census.std

    def plan(self, options: RowOptions, config: AcousticConfig, seed: int, epoch: int) -> list[StreamStep]:
        """The places of an epoch's steps. Raises UsageError for options that need to know all utterances."""
        if options.shares or options.recording_seconds:
            raise UsageError("Shar folders are streamed: shares of sources and long recordings are of tables alone")
        steps = max(1, round(self.seconds / options.batch_seconds))
        return [StreamStep(epoch * steps + step, seed, options.batch_seconds) for step in range(steps)]

    def batch(self, step: StreamStep, part: int, parts: int, config: AcousticConfig) -> Batch:
        """The batch of a part at a step. Raises `DataError` for a torn shard, a dead worker."""
        reader = self._readers.pop((step, part), None)
        if reader is None:
            stream = SharStream(self.shards, config, self.census, self.speeds, part, parts, step)
            reader = _Reader(stream, self.workers)
        batch = reader.take()
        self._readers[step._replace(number=step.number + 1), part] = reader
        return batch


class Fault(NamedTuple):
    """Why a worker gives no more batches; an exception would come with its whole traceback."""

    message: str


class SharStream(IterableDataset):
    """Batches of one part of the steps from a step on, without end; or from one of several workers, every so many."""

    def __init__(
        self,
        shards: Sequence[Shard],
        config: AcousticConfig,
        census: Census,
        speeds: Sequence[float],
        part: int,
        parts: int,
        start: StreamStep,
    ) -> None:
        super().__init__()
        self.shards, self.config, self.speeds = shards, config, tuple(speeds)
        self.part, self.parts, self.start = part, parts, start
        self.options = RowOptions(batch_seconds=start.batch_seconds / parts)
        mean = census.seconds / census.utterances
        self.buffer = max(LEAST_BUFFERED, int(BUFFERED_BATCHES * self.options.batch_seconds / mean))

    def __iter__(self) -> Iterator[Batch | Fault]:
        info = get_worker_info()
        if info:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for training, which saves first
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        try:
            yield from self._batches(worker, workers)
        except (DataError, AudioError) as error:
            yield Fault(str(error))

    def _batches(self, worker: int, workers: int) -> Iterator[Batch]:
        unit, units = self.part * workers + worker, self.parts * workers
        cuts = iter(_Cuts(self.shards, self.config, unit, units, self.start.seed))
        decoder = _Decoder(self.config, self.speeds)
        passed = 0
        for turn in itertools.count():
            held = list(itertools.islice(cuts, self.buffer))
            random = np.random.default_rng((self.start.seed, unit, turn))
            speeds = [decoder.speed(cut) for cut in held]
            frames = [self._frames(cut, speed) for cut, speed in zip(held, speeds, strict=True)]
            utterances = [(k, speeds[k], frames[k]) for k in random.permutation(len(held)).tolist()]
            for step in plan_rows(utterances, random, self.options, self.config):
                passed += 1
                if passed > self.start.number // workers:
                    yield self._collated(step, held, decoder)

    def _frames(self, cut: Cut, speed: float) -> int:
        samples = cut.duration / speed * self.config.frontend.sample_rate
        return -(-int(samples) // self.config.frame_samples) + 1  # decoders differ by some samples

    def _collated(self, step: Step, held: Sequence[Cut], decoder: _Decoder) -> Batch:
        """Rows without what cannot be decoded."""
        found: dict[int, Spoken] = {}
        reason = ""
        for place in (place for row in step.rows for place in row.places):
            try:
                found[place.utterance] = decoder(held[place.utterance])
            except AudioError as error:
                reason = f"shard {held[place.utterance].shard}: {error}"
                print(f"left out of {reason}", file=sys.stderr, flush=True)
        kept = [
            row._replace(places=tuple(place for place in row.places if place.utterance in found)) for row in step.rows
        ]
        kept = [row for row in kept if row.places]
        if not kept:
            raise DataError(f"nothing in a batch could be decoded; the last, of {reason}")

        def spoken(place: Place) -> Spoken:
            return found[place.utterance]

        return collate(kept, step.length, spoken, self.config)


class _Cuts:
    """The usable cuts of every ``units``-th shard, from ``unit`` on: pass after pass, shuffled anew in each."""

    def __init__(self, shards: Sequence[Shard], config: AcousticConfig, unit: int, units: int, seed: int) -> None:
        self.shards, self.config, self.unit, self.units, self.seed = shards, config, unit, units, seed

    def __iter__(self) -> Iterator[Cut]:
        for passed in itertools.count():
            order = np.random.default_rng((self.seed, passed)).permutation(len(self.shards))
            for number in order[self.unit :: self.units].tolist():
                for cut in read_cuts(self.shards[number]):
                    texts = [one.text for one in cut.supervisions if one.text is not None]
                    if doubt(texts, cut.duration, self.config) is None:
                        cut.times_heard, cut.shard = passed, self.shards[number].recording.name
                        yield cut


@functools.cache  # seconds, for every part of a step
def _lexicon() -> Lexicon:
    return Lexicon.load()


class _Decoder:
    """Turns cuts into samples and targets."""

    def __init__(self, config: AcousticConfig, speeds: Sequence[float]) -> None:
        self.speeds, self.rate = speeds, config.frontend.sample_rate
        self.encode = TextEncoder(_lexicon())

    def speed(self, cut: Cut) -> float:
        """In each pass every speed is that of as many utterances, and each utterance has another than in the last."""
        return self.speeds[(cut.times_heard + zlib.crc32(cut.id.encode())) % len(self.speeds)]

    def __call__(self, cut: Cut) -> Spoken:
        """Raises AudioError for a recording that cannot be decoded."""
        speed = self.speed(cut)
        samples = as_int16(at_speed(samples_of(cut, self.rate), speed))
        text = normalise(" ".join(one.text for one in cut.supervisions if one.text is not None))
        return Spoken(samples, *self.encode(text), None, speed)


class _Reader:
    """A stream being read."""

    def __init__(self, dataset: SharStream, workers: int) -> None:
        self._batches = iter(
            DataLoader(
                dataset,
                batch_size=None,
                num_workers=workers,
                generator=torch.Generator(),
                # Spawned, not forked: a fork of a process whose torch threads are running can hang.
                multiprocessing_context="spawn" if workers else None,
            )
        )
        # The loader begins with worker 0, whoever's turn it was.
        for _ in range(dataset.start.number % max(1, workers)):
            self.take()

    def take(self) -> Batch:
        try:
            batch = next(self._batches)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                "a worker process died, perhaps for want of memory (or of shared memory, in a container); "
                "the same command goes on from the last checkpoint"
            ) from error
        if isinstance(batch, Fault):
            raise DataError(batch.message)
        return batch
