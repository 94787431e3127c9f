"""From tables of recordings to a corpus ready for training: features, alignments, and what had to be left out."""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from asr.acoustic.folder import DEFAULT_MODEL
from asr.data.alignments import AlignmentStore, PhoneAligner, align_manifest
from asr.data.augment_audio import Augmenter
from asr.data.batches import Corpus
from asr.data.compute_features import build_features
from asr.data.manifest import AudioLocation, Manifest, Rejected, Utterance, decode, merge, read_manifest
from asr.data.shar import find_shards, take_census
from asr.data.stream import Augmentation, StreamedCorpus
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
    variants: int = 4  # of every recording; the first is as recorded, the others are augmented
    align_with: str = DEFAULT_MODEL  # name or folder of a model, or NO_ALIGNMENT
    seed: int = 0


def prepare(
    options: RecipeOptions,
    cache: Path,
    config: AcousticConfig,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    parts: int = 1,
    device: str | torch.device = "cpu",
) -> tuple[Corpus | StreamedCorpus, Corpus | None]:
    """Compute, or find in ``cache``, all that training reads; return the training and the dev corpus.

    Where the tables are folders of lhotse Shar, nothing is computed before: training streams them.

    Args:
        options: the data.
        cache: folder of features and alignments; a killed preparation goes on from there.
        config: of the model that will be trained.
        workers: processes.
        progress: called with (aligned, all) utterances while alignment goes on.
        parts: of a batch; each is streamed by itself.
        device: on which alignment is computed.
    Raises:
        DataError: a table, tar or cache that cannot be used, or an utterance in both the training and the dev tables.
    """
    dev_manifest = read_manifest(options.dev) if options.dev else None
    if any(table.is_dir() for table in options.tables):
        streamed = _streamed(options, cache, config, workers, parts)
        return streamed, _dev(dev_manifest, options, cache, config, workers)
    manifests = [read_manifest(table) for table in options.tables]
    manifest = merge(manifests)
    if dev_manifest:
        _check_apart(manifest, dev_manifest)
    lexicon = Lexicon.load()
    augmenter = Augmenter(options.noise, options.rooms, options.seed)
    sources = {f"train-{number}": one.utterances for number, one in enumerate(manifests)}
    if options.noise:
        sources["noise"] = noise_utterances(options.noise, config.frontend.sample_rate)
    stores = [
        build_features(cache / name, utterances, augmenter, options.variants, workers, config.frontend)
        for name, utterances in sources.items()
    ]
    alignments: AlignmentStore | None = None
    if options.align_with != NO_ALIGNMENT:
        aligner = PhoneAligner.load(options.align_with, lexicon.pronounce, device)
        alignments = align_manifest(manifest, aligner, cache / "alignments", workers, progress)
    corpus = Corpus(stores, config, lexicon, alignments)
    corpus.rejected = manifest.rejected + corpus.rejected
    return corpus, _dev(dev_manifest, options, cache, config, workers)


def _dev(
    manifest: Manifest | None, options: RecipeOptions, cache: Path, config: AcousticConfig, workers: int
) -> Corpus | None:
    if manifest is None:
        return None
    clean = Augmenter(None, None, options.seed)
    store = build_features(cache / "dev", manifest.utterances, clean, 1, workers, config.frontend)
    return Corpus([store], config, Lexicon.load())


def _streamed(options: RecipeOptions, cache: Path, config: AcousticConfig, workers: int, parts: int) -> StreamedCorpus:
    tables = [table for table in options.tables if not table.is_dir()]
    if tables:
        raise UsageError(
            f"{tables[0]} is no folder, others are: give tables, or folders of Shar; asr shar makes one of the other"
        )
    shards = find_shards(options.tables)
    noises = None
    if options.noise:
        clean = Augmenter(None, None, options.seed)
        noise = noise_utterances(options.noise, config.frontend.sample_rate)
        noises = build_features(cache / "shar-noise", noise, clean, 1, workers, config.frontend)
    augmentation = Augmentation(options.noise, options.rooms, options.seed, wanted=options.variants > 1)
    census = take_census(shards, config, cache / "shar.json")
    return StreamedCorpus(shards, census, config, augmentation, noises, workers, parts)


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
