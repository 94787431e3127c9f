"""From tables of recordings to a corpus ready for training: features, alignments, and what had to be left out."""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.alignment_store import AlignmentStore, align_manifest
from asr.augment import Augmenter
from asr.corpus import Corpus
from asr.data import AudioLocation, Manifest, Rejected, Utterance, decode, merge, read_manifest
from asr.errors import DataError
from asr.feature_build import build_features
from asr.lexicon import Lexicon
from models.acoustic import AcousticConfig


@dataclass(frozen=True)
class RecipeOptions:
    """What the training data is made of."""

    tables: tuple[Path, ...]
    dev: Path | None = None
    noise: Path | None = None  # tar of noise recordings: mixed under speech, and learnt as what is not speech
    rooms: Path | None = None  # tar of room responses
    variants: int = 4  # of every recording; the first is as recorded, the others are augmented
    align: bool = True
    seed: int = 0


def prepare(
    options: RecipeOptions,
    cache: Path,
    config: AcousticConfig,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Corpus, Corpus | None]:
    """Compute, or find in ``cache``, all that training reads; return the training and the dev corpus.

    Args:
        options: the data.
        cache: folder of features and alignments; a killed preparation goes on from there.
        config: of the model that will be trained.
        workers: processes.
        progress: called with (aligned, all) utterances while alignment goes on.
    Raises:
        DataError: a table, tar or cache that cannot be used, or an utterance in both the training and the dev tables.
    """
    manifests = [read_manifest(table) for table in options.tables]
    manifest = merge(manifests)
    dev_manifest = read_manifest(options.dev) if options.dev else None
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
    if options.align:
        alignments = align_manifest(manifest, lexicon, cache / "alignments", workers, progress)
    corpus = Corpus(stores, config, lexicon, alignments)
    corpus.rejected = manifest.rejected + corpus.rejected
    if dev_manifest is None:
        return corpus, None
    clean = Augmenter(None, None, options.seed)
    dev_store = build_features(cache / "dev", dev_manifest.utterances, clean, 1, workers, config.frontend)
    return corpus, Corpus([dev_store], config, lexicon)


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
