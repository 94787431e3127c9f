"""Training batches streamed from Shar folders: read, decoded, augmented and turned into log-mel by worker processes.

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
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from asr.data.augment_audio import SPEEDS, Augmenter
from asr.data.batches import Batch, Heard, collate
from asr.data.compute_features import PartComputer
from asr.data.features import FeatureStore
from asr.data.manifest import Rejected
from asr.data.shar import Census, Shard, doubt, read_cuts, samples_of
from asr.errors import AudioError, DataError, UsageError
from asr.models.acoustic import AcousticConfig
from asr.words.lexicon import Lexicon
from asr.words.text import normalise
from asr.words.tokens import CHARACTERS, PHONES, WORD_BORDER, TokenTable

BUFFERED_BATCHES = 4  # in each bucket, encoded: among them a batch is drawn
LEAST_BUFFERED = 200  # utterances


@dataclass(frozen=True)
class Augmentation:
    """What workers do to recordings; `Augmenter` tells how. None of it: as recorded."""

    noise: Path | None = None
    rooms: Path | None = None
    seed: int = 0
    wanted: bool = True


class Place(NamedTuple):
    """Of a part of a step: where it is in the stream, and what the stream is made with."""

    step: int
    part: int
    seed: int
    batch_seconds: float


class Uncounted(Sequence):
    """As many examples as there are, though none of them is in memory."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index):
        raise UsageError(
            "Shar folders are streamed and cannot be looked through: "
            "--discriminative, --segment-seconds and --share want tables"
        )


class StreamedCorpus:
    """In training what a `Corpus` is, but not in memory. It has no forced alignments."""

    def __init__(
        self,
        shards: Sequence[Shard],
        census: Census,
        config: AcousticConfig,
        augmentation: Augmentation,
        noises: FeatureStore | None = None,
        workers: int = 2,
        parts: int = 1,
    ) -> None:
        """Stream shards.

        Args:
            shards: as `find_shards` gives them.
            census: of them.
            config: of the model.
            augmentation: of the recordings.
            noises: recordings in which nothing is said.
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
        self.config, self.augmentation, self.workers, self.parts = config, augmentation, workers, parts
        self.census = census
        self.seconds = census.seconds
        self.examples = Uncounted(census.utterances)
        self.rejected: tuple[Rejected, ...] = census.rejected
        self.stores = (census,)  # for the mean and deviation of the mels
        self.biphones = None
        self._noises = noises
        self._readers: dict[Place, _Reader] = {}  # each under the place it gives next

    def alignments(self) -> Iterator[np.ndarray]:
        """None: nobody has aligned what is streamed."""
        return iter(())

    def noises(self) -> list[np.ndarray]:
        """Log-mel frames (F, M) of the recordings in which nothing is said."""
        return [self._noises.mels(index) for index in range(len(self._noises))] if self._noises else []

    def plan(
        self, seed: int, epoch: int, batch_seconds: float, shares: Mapping[str, float] | None = None
    ) -> list[list[Place]]:
        """The places of an epoch's steps, one for each part; a batch has at most ``batch_seconds`` of audio."""
        if shares:
            return self.examples[0]
        steps = max(1, round(self.seconds / batch_seconds))
        seconds = batch_seconds / self.parts
        return [
            [Place(epoch * steps + step, part, seed, seconds) for part in range(self.parts)] for step in range(steps)
        ]

    def collate(self, members: Sequence[Place], random: np.random.Generator | None = None) -> Batch:
        """The batch at a place; ``random`` is not used. Raises `DataError` for a torn shard, a dead worker."""
        (place,) = members
        reader = self._readers.pop(place, None)
        if reader is None:
            dataset = SharStream(self.shards, self.config, self.census, self.augmentation, self.parts, place)
            reader = _Reader(dataset, self.workers)
        batch = reader.take()
        self._readers[place._replace(step=place.step + 1)] = reader
        return batch


class Fault(NamedTuple):
    """Why a worker gives no more batches; an exception would come with its whole traceback."""

    message: str


class SharStream(IterableDataset):
    """Batches of one part of the steps from a place on, without end; or from one of several workers, every so many."""

    def __init__(
        self,
        shards: Sequence[Shard],
        config: AcousticConfig,
        census: Census,
        augmentation: Augmentation,
        parts: int,
        place: Place,
    ) -> None:
        super().__init__()
        self.shards, self.config, self.augmentation, self.parts, self.place = shards, config, augmentation, parts, place
        self.duration_bins = list(census.duration_bins)
        buckets = len(self.duration_bins) + 1
        mean = census.seconds / census.utterances
        self.buffer = max(LEAST_BUFFERED, int(BUFFERED_BATCHES * buckets * place.batch_seconds / mean))

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
        unit, units = self.place.part * workers + worker, self.parts * workers
        cuts = _Cuts(self.shards, self.config, unit, units, self.place.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a small corpus that a buffer holds more than once
            sampler = DynamicBucketingSampler(
                cuts,
                max_duration=self.place.batch_seconds,
                duration_bins=self.duration_bins,
                shuffle=True,
                buffer_size=self.buffer,
                seed=self.place.seed * 1_000_003 + unit,
                world_size=1,
                rank=0,
            )
            batches = enumerate(sampler)
            hear = _Ear(self.config, self.augmentation)
            for number, batch in itertools.islice(batches, self.place.step // workers, None):
                random = np.random.default_rng((self.place.seed, unit, number))
                yield collate(self.config, hear(batch), random)


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


class _Ear:
    """Turns cuts into features and targets."""

    def __init__(self, config: AcousticConfig, augmentation: Augmentation) -> None:
        self.wanted, self.rate = augmentation.wanted, config.frontend.sample_rate
        augmenter = Augmenter(augmentation.noise, augmentation.rooms, augmentation.seed)
        self.computer = PartComputer(augmenter, config.frontend)
        self.lexicon = _lexicon()
        self.characters, self.phones = TokenTable(CHARACTERS), TokenTable(PHONES)

    def __call__(self, cuts: CutSet) -> list[Heard]:
        heard, reason = [], ""
        for cut in cuts:
            # In each pass a third of the utterances has each speed, and no utterance is changed as in another pass.
            turn = 1 + len(SPEEDS) * cut.times_heard + zlib.crc32(cut.id.encode()) % len(SPEEDS)
            try:
                samples = samples_of(cut, self.rate)
                mels, speed, reason = self.computer.features(samples, cut.id, turn if self.wanted else 0)
            except AudioError as error:
                reason = str(error)
            if reason:
                print(f"left out of shard {cut.shard}: {reason}", file=sys.stderr, flush=True)
                continue
            text = normalise(" ".join(one.text for one in cut.supervisions if one.text is not None))
            spoken = [phone for word in text.split() for phone in self.lexicon.pronounce(word)[0]]
            letters = self.characters.encode(text.replace(" ", WORD_BORDER))
            heard.append(Heard(mels, np.array(letters, int), np.array(self.phones.encode(spoken), int), None, speed))
        if not heard:
            raise DataError(f"nothing in a batch from shard {cut.shard} could be decoded; the last: {reason}")
        return heard


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
        for _ in range(dataset.place.step % max(1, workers)):
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
