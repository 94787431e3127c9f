"""From tables of recordings to a corpus ready for training: features, alignments, and what had to be left out."""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from asr.acoustic.folder import DEFAULT_MODEL
from asr.data.alignments import PhoneAligner, align_manifest
from asr.data.build_audio import SPEEDS, build_audio
from asr.data.manifest import AudioLocation, Manifest, Rejected, Utterance, decode, merge, read_manifest
from asr.data.shar import find_shards, take_census
from asr.data.stream import StreamedSet
from asr.data.training_set import StoredSet
from asr.errors import DataError, UsageError
from asr.models.acoustic import AcousticConfig
from asr.words.lexicon import Lexicon

NO_ALIGNMENT = "none"  # in place of a model: CTC from scratch


@dataclass(frozen=True)
class RecipeOptions:
    """What the training data is made of."""

    tables: tuple[Path, ...]  # or folders of lhotse Shar
    dev: Path | None = None
    noise: Path | None = None  # tar of noise recordings: mixed under speech, and learnt as what is not speech
    rooms: Path | None = None  # tar of room responses
    speeds: tuple[float, ...] = SPEEDS  # of every recording, the first being 1
    align_with: str = DEFAULT_MODEL  # name or folder of a model, or NO_ALIGNMENT


def prepare(
    options: RecipeOptions,
    cache: Path,
    config: AcousticConfig,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    parts: int = 1,
    device: str | torch.device = "cpu",
) -> tuple[StoredSet | StreamedSet, StoredSet | None]:
    """Decode, or find in ``cache``, all that training reads; return the training and the dev set.

    Where the tables are folders of lhotse Shar, nothing is decoded before: training streams them.

    Args:
        options: the data.
        cache: folder of audio and alignments; a killed preparation goes on from there.
        config: of the model that will be trained.
        workers: processes.
        progress: called with (aligned, all) utterances while alignment goes on.
        parts: of a batch; each is streamed by itself.
        device: on which alignment is computed.
    Raises:
        DataError: a table, tar or cache that cannot be used, or an utterance in both the training and the dev tables.
    """
    dev_manifest = read_manifest(options.dev) if options.dev else None
    streamed = any(table.is_dir() for table in options.tables)
    manifests = [] if streamed else [read_manifest(table) for table in options.tables]
    manifest = merge(manifests)
    dev = None
    if dev_manifest:
        _check_apart(manifest, dev_manifest)  # before anything is built
        dev = StoredSet([build_audio(cache / "dev", dev_manifest.utterances, workers=workers)], Lexicon.load())
    if streamed:
        return _streamed(options, cache, config, workers, parts), dev
    lexicon = Lexicon.load()
    sources = {f"train-{number}": one.utterances for number, one in enumerate(manifests)}
    if options.noise:
        sources["noise"] = noise_utterances(options.noise, config.frontend.sample_rate)
    stores = [build_audio(cache / name, utterances, options.speeds, workers) for name, utterances in sources.items()]
    alignments, doubts = None, {}
    if options.align_with != NO_ALIGNMENT:
        aligner = PhoneAligner.load(options.align_with, lexicon.pronounce, device)
        alignments = align_manifest(manifest, aligner, cache / "alignments", workers, progress)
        doubts = alignments.doubts({one.id: one.source for one in manifest.utterances})
    training = StoredSet(stores, lexicon, alignments, doubts)
    training.rejected = manifest.rejected + training.rejected
    return training, dev


def _streamed(options: RecipeOptions, cache: Path, config: AcousticConfig, workers: int, parts: int) -> StreamedSet:
    tables = [table for table in options.tables if not table.is_dir()]
    if tables:
        raise UsageError(
            f"{tables[0]} is no folder, others are: give tables, or folders of Shar; asr shar makes one of the other"
        )
    shards = find_shards(options.tables)
    return StreamedSet(shards, take_census(shards, config, cache / "shar.json"), options.speeds, workers, parts)


def noise_utterances(tar: Path, sample_rate: int) -> tuple[Utterance, ...]:
    """The recordings of a tar as utterances in which nothing is said."""
    utterances = []
    with tarfile.open(tar, "r:") as members:
        for member in members:
            if member.isfile():
                samples = decode(members.extractfile(member).read(), member.name, sample_rate)
                location = AudioLocation(tar, member.offset_data, member.size)
                seconds = len(samples) / sample_rate
                utterances.append(Utterance(f"noise-{Path(member.name).stem}", "", seconds, "noise", "", location))
    return tuple(utterances)


def write_rejected(rejected: Sequence[Rejected], path: Path) -> None:
    """Write the utterances left out, with the reason, as a TSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("id", "line", "reason"))
        writer.writerows((row.id, row.line or "", row.reason) for row in rejected)


def _check_apart(manifest: Manifest, dev: Manifest) -> None:
    shared = {utterance.id for utterance in manifest.utterances} & {utterance.id for utterance in dev.utterances}
    if shared:
        raise DataError(
            f"{len(shared)} utterances are in the training and the dev tables, {min(shared)} among them: "
            "what is trained on cannot measure; take them out of one"
        )
