"""Shar folders streamed into training: the batches that tables give, each shard once a pass, faults named."""

import gzip
import itertools
import os
from pathlib import Path

import pytest
import torch
from conftest import SAMPLES

from asr.data.build_audio import build_audio
from asr.data.manifest import AudioLocation, Utterance
from asr.data.prepare import RecipeOptions, prepare
from asr.data.rows import LEAST_PAUSE, MOST_PAUSE, Place, Row, RowOptions, collate
from asr.data.shar import find_shards, take_census, write_shar
from asr.data.stream import StreamedSet, StreamStep, _Cuts, _lexicon
from asr.data.training_set import StoredSet
from asr.errors import DataError, UsageError
from asr.models.acoustic import AcousticConfig
from asr.training.loop import fit
from asr.training.options import Settings, TrainOptions
from asr.training.processes import Team, open_device
from asr.training.run import prepare_run
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


def streamed(folder: Path, speeds: tuple[float, ...] = (1.0, 0.9), parts: int = 1) -> StreamedSet:
    shards = find_shards([folder])
    census = take_census(shards, CONFIG, folder.parent / "census.json")
    return StreamedSet(shards, census, speeds, workers=0, parts=parts)


def taken(data: StreamedSet, first: int, count: int, seconds: float = 5.0) -> list:
    options = RowOptions(batch_seconds=seconds)
    steps = itertools.chain.from_iterable(data.plan(options, CONFIG, 0, epoch) for epoch in itertools.count())
    return [data.batch(step, 0, 1, CONFIG) for step in itertools.islice(steps, first, first + count)]


def same(one, other) -> bool:
    return all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


def test_a_streamed_batch_is_the_one_a_table_gives(folder, tmp_path):
    table = StoredSet([build_audio(tmp_path / "store", UTTERANCES, (1.0, 0.9))], _lexicon())
    known = {tuple(example.characters): number for number, example in enumerate(table.examples)}
    heard = set()
    for batch in taken(streamed(folder), 0, 12, seconds=2.0):  # so short that each row is of one utterance
        (spoken,) = batch.spoken.tolist()
        number = known[tuple(batch.characters.tolist())]
        speed = min((1.0, 0.9), key=lambda speed: abs(table.examples[number].samples / speed - spoken))
        length = CONFIG.frames(batch.samples.shape[1])
        apart = {}
        for start in range(LEAST_PAUSE, MOST_PAUSE + 1):  # the pause before it was drawn
            row = Row((Place(number, speed, start),), start + -(-spoken // CONFIG.frame_samples))
            expected = collate([row], length, table.spoken, CONFIG)
            apart[start] = int((batch.samples.int() - expected.samples.int()).abs().max())
        start = min(apart, key=apart.get)
        assert apart[start] <= 1 < sorted(apart.values())[1]  # two decoders round differently
        row = Row((Place(number, speed, start),), start + -(-spoken // CONFIG.frame_samples))
        expected = collate([row], length, table.spoken, CONFIG)
        # A frame more at the end may have a target: the length of what is streamed is known in seconds only.
        assert 0 <= int(batch.frames - expected.frames) <= 1
        for name in ("spoken", "characters", "character_lengths", "phones", "phone_lengths", "run_counts"):
            assert torch.equal(getattr(batch, name), getattr(expected, name)), name
        heard.add((number, speed))
    assert len(heard) > 4 and len({speed for _, speed in heard}) == 2


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
    data = streamed(folder)
    cut_short(folder / "recording.000001.tar", 0.4)
    with pytest.raises(DataError, match=r"recording.000001.tar (is torn|ends) after"):
        taken(data, 0, 1)


def test_training_learns_from_a_stream(folder, tmp_path):
    data, _ = prepare(RecipeOptions((folder,)), tmp_path / "cache", CONFIG, workers=0, parts=2)
    settings = Settings(CONFIG, TrainOptions(epochs=4, learning_rate=0.01), RowOptions(5.0))
    run = prepare_run(tmp_path / "run", data, None, settings, Team(open_device("cpu"), 2, "float32"))
    losses = []
    fit(run, lambda progress: losses.append(progress.loss))
    assert len(losses) == run.steps == run.step and losses[-1] < losses[0]
    with pytest.raises(UsageError, match="of tables alone"):
        data.plan(RowOptions(5.0, {"x": 0.5}), CONFIG, 0, 0)
    assert data.plan(RowOptions(5.0), CONFIG, 3, 1)[0] == StreamStep(run.steps_an_epoch, 3, 5.0)
