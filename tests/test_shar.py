"""Shar folders streamed into training: the batches that tables give, each shard once a pass, faults named."""

import gzip
import itertools
import os
from pathlib import Path

import pytest
import torch
from conftest import SAMPLES

from asr.data.augment_audio import Augmenter
from asr.data.batches import Corpus
from asr.data.compute_features import build_features
from asr.data.manifest import AudioLocation, Utterance
from asr.data.prepare import RecipeOptions, prepare
from asr.data.shar import find_shards, take_census
from asr.data.stream import Augmentation, StreamedCorpus, _Cuts, _lexicon
from asr.data.write_shar import write_shar
from asr.errors import DataError, UsageError
from asr.models.acoustic import AcousticConfig
from asr.training.device import open_device
from asr.training.loop import Trainer
from asr.training.options import TrainOptions
from asr.training.processes import Team
from asr.words.tokens import CHARACTERS, PHONES

CONFIG = AcousticConfig(len(CHARACTERS), len(PHONES), size=8, look_ahead_frames=(1,), phone_layer=1, dropout=0.0)
NAMES = ("greeting", "request", "directions", "weather")
UTTERANCES = [
    Utterance(name, (SAMPLES / f"{name}.txt").read_text().strip(), 3.0, "", "", AudioLocation(SAMPLES / f"{name}.wav"))
    for name in NAMES
]


@pytest.fixture
def folder(tmp_path) -> Path:
    assert write_shar(UTTERANCES, tmp_path / "shar", shard_size=2) == []
    return tmp_path / "shar"


def streamed(folder: Path, wanted: bool = True, parts: int = 1) -> StreamedCorpus:
    shards = find_shards([folder])
    census = take_census(shards, CONFIG, folder.parent / "census.json")
    return StreamedCorpus(shards, census, CONFIG, Augmentation(wanted=wanted), workers=0, parts=parts)


def taken(corpus: StreamedCorpus, first: int, count: int, seconds: float = 5.0) -> list:
    steps = itertools.chain.from_iterable(corpus.plan(0, epoch, seconds) for epoch in itertools.count())
    return [corpus.collate(members) for members in itertools.islice(steps, first, first + count)]


def same(one, other) -> bool:
    return all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


def test_a_streamed_batch_is_the_one_a_table_gives(folder, tmp_path):
    store = build_features(tmp_path / "store", UTTERANCES, Augmenter())
    table = Corpus([store], CONFIG, _lexicon())
    known = {tuple(example.characters): number for number, example in enumerate(table.examples)}
    heard = set()
    for batch in taken(streamed(folder, wanted=False), 0, 8, seconds=2.0):
        number = known[tuple(batch.characters.tolist())]
        expected = table.collate([(number, 0)])
        if batch.frames.equal(expected.frames):  # else silence was added
            torch.testing.assert_close(batch._replace(aligned=0), expected._replace(aligned=0))
            heard.add(number)
    assert len(heard) > 1


def test_a_run_is_taken_up_at_any_step(folder):
    whole = taken(streamed(folder), 0, 4)
    assert same(taken(streamed(folder), 3, 1)[0], whole[3]) and not same(whole[3], whole[2])


def test_readers_share_out_the_shards(folder):
    shards = streamed(folder).shards
    for passed in range(3):
        heard = []
        for unit in range(2):
            cuts = itertools.islice(_Cuts(shards, CONFIG, unit, 2, seed=0), 2 * passed, 2 * passed + 2)
            heard += [(cut.id, cut.times_heard) for cut in cuts]
        assert sorted(heard) == sorted((name, passed) for name in NAMES)
    with pytest.raises(UsageError, match="2 shards cannot be shared out to 3 workers"):
        streamed(folder, parts=3)


def cut_short(file: Path, share: float) -> None:
    os.truncate(file, int(file.stat().st_size * share))


@pytest.mark.parametrize(
    "harm, named",
    [
        (lambda at: (at / "recording.000001.tar").unlink(), "recording.000001.tar is missing"),
        (
            lambda at: [
                (at / name).rename(at / name.replace("1.", "2."))
                for name in ("cuts.000001.jsonl.gz", "recording.000001.tar")
            ],
            "cuts.000001.jsonl.gz is missing",
        ),
        (lambda at: cut_short(at / "recording.000001.tar", 0.5), "recording.000001.tar is cut short"),
        (lambda at: cut_short(at / "cuts.000000.jsonl.gz", 0.5), "cuts.000000.jsonl.gz is torn after"),
        (lambda at: (at / "cuts.000000.jsonl.gz").write_bytes(gzip.compress(b"[]")), "cuts.000000.jsonl.gz is torn"),
        (lambda at: [file.unlink() for file in at.iterdir()], "shar is no folder of Shar"),
    ],
)
def test_missing_and_torn_shards_are_named(folder, harm, named):
    harm(folder)
    with pytest.raises(DataError, match=named) as fault:
        streamed(folder)
    assert "\n" not in str(fault.value)


def test_a_shard_that_is_torn_later_is_named(folder):
    corpus = streamed(folder)
    cut_short(folder / "recording.000001.tar", 0.4)
    with pytest.raises(DataError, match=r"recording.000001.tar (is torn|ends) after"):
        taken(corpus, 0, 1)


def test_training_learns_from_a_stream(folder, tmp_path):
    recipe = RecipeOptions((folder,))
    corpus, _ = prepare(recipe, tmp_path / "cache", CONFIG, workers=0, parts=2)
    options = TrainOptions(epochs=4, batch_seconds=5.0, learning_rate=0.01, views=1, parts=2)
    trainer = Trainer(tmp_path / "run", corpus, None, CONFIG, options, Team(open_device("cpu", "32-true"), 2))
    losses = []
    trainer.fit(lambda progress: losses.append(progress.loss))
    assert len(losses) == trainer.steps == trainer.step and losses[-1] < losses[0]
    with pytest.raises(UsageError, match="streamed and cannot be looked through"):
        corpus.plan(0, 0, 5.0, {"x": 0.5})
