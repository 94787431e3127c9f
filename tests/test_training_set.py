"""What training reads: rows of utterances, their plan, targets that follow a change of speed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from asr.acoustic.forced_alignment import Alignment
from asr.acoustic.phone_states import SILENCE, Biphones
from asr.data.augment import Augmenter, Changes
from asr.data.build_audio import FULL_SCALE, SPEEDS, build_audio
from asr.data.manifest import read_manifest
from asr.data.rows import (
    LEAST_PAUSE,
    LENGTHS,
    MOST_PAUSE,
    Batch,
    Place,
    Row,
    RowOptions,
    collate,
    frame_targets,
    plan_rows,
    rows_a_batch,
)
from asr.data.training_set import StoredSet
from asr.errors import UsageError
from asr.models.acoustic import AcousticConfig, AcousticModel
from asr.training.losses import CTC, IGNORED, LOSSES, MMI, STATES, LossWeights, Objective
from asr.training.mmi import LatticeFreeMmi
from asr.training.optimiser import MovingAverage, learning_rate
from asr.training.start import frame_phones
from asr.words.lexicon import Lexicon
from asr.words.tokens import CHARACTERS, PHONES

CONFIG = AcousticConfig(len(CHARACTERS), len(PHONES), size=16, look_ahead_frames=(2, 1, 0), phone_layer=2, dropout=0.0)
TEXTS = ("hello there", "we all see", "good night", "one two three")
LEXICON = Lexicon({word: (("AA", "B"),) for text in TEXTS for word in text.split()})
AA = PHONES.index("AA")
FRAME = CONFIG.frame_samples


@pytest.fixture(scope="module")
def store(tmp_path_factory, speech):
    import soundfile

    folder = tmp_path_factory.mktemp("corpus")
    rows = ["id\tpath\ttext\n"]
    for number, text in enumerate(TEXTS):
        soundfile.write(folder / f"{number}.wav", speech[: 16_000 * (1 + number // 2)], 16_000)
        rows.append(f"u{number}\t{number}.wav\t{text}\n")
    (folder / "table.tsv").write_text("".join(rows), encoding="utf-8")
    utterances = read_manifest(folder / "table.tsv").utterances
    return build_audio(folder / "store", utterances, SPEEDS)


@pytest.fixture(scope="module")
def alignments(store):
    """Each utterance is silent for its first half and says AA in the other."""
    found = {}
    for utterance, samples in zip(store.utterances, store.lengths().tolist(), strict=True):
        frames = -(-samples // FRAME)
        found[utterance.id] = Alignment(
            np.array([SILENCE, AA]), np.array([frames // 2, frames]), np.array([-1, 0]), 0.0
        )
    return found


@pytest.fixture(scope="module")
def data(store, alignments):
    return StoredSet([store], LEXICON, alignments)


@pytest.fixture(scope="module")
def biphones(data):
    return Biphones.estimate(map(frame_phones, data.alignments()), len(PHONES), 1, 1, 1)


@pytest.fixture(scope="module")
def config(biphones):
    return replace(CONFIG, states=len(biphones))


def laid_out(data: StoredSet, places: list[Place], config: AcousticConfig, length: int) -> Batch:
    """One utterance a row."""
    rows = [Row((place,), place.start + frames_of(data, place)) for place in places]
    return collate(rows, length, data.spoken, config)


def frames_of(data: StoredSet, place: Place) -> int:
    return -(-len(data.spoken(place).samples) // FRAME)


def mels_of(batch: Batch) -> torch.Tensor:
    return Augmenter(Changes(), CONFIG.frontend).log_mels(batch.samples.float() / FULL_SCALE)


def test_every_utterance_is_in_an_epoch_once_and_batches_keep_their_size(data):
    plan = data.plan(RowOptions(batch_seconds=4.0), CONFIG, seed=1, epoch=0)
    places = [place for step in plan for row in step.rows for place in row.places]
    assert sorted(place.utterance for place in places) == list(range(len(TEXTS)))
    for step in plan:
        assert len(step.rows) == 1 or step.length * len(step.rows) * 0.03 <= 4.0
    assert len({place.speed for epoch in range(6) for place in places_of(data, epoch)}) == 3


def places_of(data: StoredSet, epoch: int) -> list[Place]:
    plan = data.plan(RowOptions(batch_seconds=4.0), CONFIG, 1, epoch)
    return [place for step in plan for row in step.rows for place in row.places]


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_full_and_end_in_a_pause(seed):
    random = np.random.default_rng(seed)
    utterances = [(k, 1.0, int(n)) for k, n in enumerate(random.integers(20, 700, 2_000))]
    steps = plan_rows(utterances, random, RowOptions(batch_seconds=240.0), CONFIG)
    rows = [(step, row) for step in steps for row in step.rows]
    assert sorted(place.utterance for _, row in rows for place in row.places) == list(range(2_000))
    for step, row in rows:
        used = 0
        for place in row.places:
            assert LEAST_PAUSE <= place.start - used <= MOST_PAUSE
            used = place.start + utterances[place.utterance][2]
        assert row.frames == used <= step.length - LEAST_PAUSE - CONFIG.delay_frames
    assert {step.length for step in steps} <= set(LENGTHS)
    for step in steps:
        assert len(step.rows) <= max(1, 8_000 // step.length)
    whole = [step for step in steps if len(step.rows) == rows_a_batch(step.length, 8_000)]
    assert len(whole) >= len(steps) - 1  # what is left over fills one batch
    heard = sum(frames for _, _, frames in utterances)
    assert heard > 0.75 * sum(step.length * len(step.rows) for step in whole)


def test_the_plan_depends_on_seed_and_epoch_alone(data):
    plans = [data.plan(RowOptions(2.0), CONFIG, seed, epoch) for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2] and plans[0] != plans[3]


def test_a_share_of_a_source_is_drawn_anew_each_epoch(data):
    source = data.examples[0].source

    def heard(epoch: int, shares: dict[str, float]) -> list[int]:
        plan = data.plan(RowOptions(4.0, shares), CONFIG, 1, epoch)
        return [place.utterance for step in plan for row in step.rows for place in row.places]

    half = []
    for epoch in range(20):
        try:
            half.append(set(heard(epoch, {source: 0.5})))
        except UsageError:  # the chance that none is drawn
            half.append(set())
    assert 0.3 < sum(map(len, half)) / (20 * len(TEXTS)) < 0.7
    assert set().union(*half) == set(range(len(TEXTS)))
    assert sorted(heard(0, {source: 2.0})) == sorted([*range(len(TEXTS))] * 2)
    assert sorted(heard(0, {"another": 0.1})) == list(range(len(TEXTS)))


def test_a_batch_holds_the_samples_of_its_rows(data):
    places = [Place(2, 0.9, 5), Place(3, 1.0, 5)]
    batch = laid_out(data, places, CONFIG, 120)
    assert batch.samples.shape == (2, (CONFIG.mel_frames(120) - 1) * 160 + 400)
    for row, place in enumerate(places):
        samples = data.spoken(place).samples
        assert np.array_equal(samples, data.stores[0].samples(place.utterance, place.speed))
        start = place.start * FRAME
        assert np.array_equal(batch.samples[row, start : start + len(samples)], samples)
        assert not batch.samples[row, :start].any() and not batch.samples[row, start + len(samples) :].any()
        assert batch.spoken[row] == len(samples)
        assert batch.frames[row] == min(120 - CONFIG.delay_frames, place.start + frames_of(data, place) + MOST_PAUSE)
    together = collate([Row((Place(0, 1.0, 3), Place(1, 1.0, 45)), 79)], 120, data.spoken, CONFIG)
    text = "".join(CHARACTERS[k] for k in together.characters)
    assert text == "hello|there|we|all|see"
    assert together.phones.tolist() == [AA, AA]  # as they are aligned


def test_frame_targets_follow_the_speed(data, config, biphones):
    begins, goes_on = (table[SILENCE, AA] for table in (biphones.first, biphones.rest))
    tables = torch.from_numpy(biphones.first), torch.from_numpy(biphones.rest)
    for speed in SPEEDS:
        place = Place(2, speed, 4)
        batch = laid_out(data, [place], config, 120)
        frames = frames_of(data, place)
        known = frame_targets(batch, *tables, 117, IGNORED)[0]
        assert (known[: int(batch.frames[0])] != IGNORED).all() and (known[int(batch.frames[0]) :] == IGNORED).all()
        inside = known[4 : 4 + frames]
        assert inside[:-1].unique_consecutive().tolist() == [SILENCE, begins, goes_on]
        middle = (inside == begins).nonzero()[0].item() / len(inside)
        assert middle == pytest.approx(0.5, abs=0.03)  # half-way, however fast
        assert not known[:4].any() and not known[4 + frames : int(batch.frames[0])].any()
        assert batch.run_phones[0].tolist() == [SILENCE, AA, SILENCE]


def test_targets_of_a_row_are_those_of_its_utterances(data, config, biphones):
    """Frame by frame, in plain code: the phone of each frame, what came before it, whether it begins."""
    places = (Place(2, 1.1, 3), Place(0, 0.9, 70))
    batch = collate([Row(places, 110)], 120, data.spoken, config)
    phones = np.zeros(120, int)
    for place in places:
        one = data.spoken(place)
        ends = place.start + np.rint(one.alignment.ends / place.speed).astype(int)
        phones[ends[0] : min(ends[1], place.start + frames_of(data, place))] = AA
    expected, before = [], SILENCE
    for frame, phone in enumerate(phones):
        if frame and phone != phones[frame - 1]:
            before = phones[frame - 1]
        begins = frame == 0 or phone != phones[frame - 1]
        expected.append((biphones.first if begins else biphones.rest)[before, phone] if phone else SILENCE)
    tables = torch.from_numpy(biphones.first), torch.from_numpy(biphones.rest)
    known = frame_targets(batch, *tables, 117, IGNORED)[0]
    assert known[: batch.frames[0]].tolist() == expected[: batch.frames[0]]


def test_a_row_with_an_utterance_that_is_not_aligned_has_no_frame_targets(store, alignments, config, biphones):
    some = StoredSet([store], LEXICON, {name: one for name, one in alignments.items() if name != "u0"})
    rows = [Row((Place(0, 1.0, 3), Place(1, 1.0, 40)), 75), Row((Place(2, 1.0, 3),), 70)]
    batch = collate(rows, 90, some.spoken, config)
    tables = torch.from_numpy(biphones.first), torch.from_numpy(biphones.rest)
    known = frame_targets(batch, *tables, 87, IGNORED)
    assert (known[0] == IGNORED).all() and (known[1] != IGNORED).any()
    assert batch.run_counts.tolist() == [0, 3]


def test_padding_does_not_change_an_utterance(data, config, biphones):
    torch.manual_seed(0)
    objective = Objective(AcousticModel(config), biphones).eval()
    together = laid_out(data, [Place(0, 1.0, 0), Place(3, 1.0, 0)], config, 90)
    alone = laid_out(data, [Place(0, 1.0, 0)], config, 60)
    names = ("characters", "phones", "states")
    with torch.inference_mode():
        both = objective(mels_of(together), together).log_probs
        one, losses, _ = objective(mels_of(alone), alone, names)
    frames = int(alone.frames[0])
    torch.testing.assert_close(both.characters[0, :frames], one.characters[0, :frames], atol=1e-5, rtol=0)
    assert set(losses) == set(names) and all(loss > 0 for loss in losses.values())


def test_rows_in_training_are_rows_in_streaming(data, config, speech):
    """The delay is taken off in training as it is in the stream: row k is about frame k in both."""
    torch.manual_seed(0)
    model = AcousticModel(config).eval()
    batch = laid_out(data, [Place(3, 1.0, 0)], config, 90)
    with torch.inference_mode():
        trained = Objective(model).eval()(mels_of(batch), batch).log_probs
        streamed, _ = model(torch.from_numpy(speech[:32_000])[None])
    rows = streamed.phones.shape[1]
    # The samples went through 16 bits.
    torch.testing.assert_close(trained.phones[0, :rows], streamed.phones[0], atol=0.02, rtol=0)


def test_mmi_sets_a_transcript_apart_from_everything_else(data, config, biphones):
    torch.manual_seed(0)
    mmi = LatticeFreeMmi(biphones, (one.phones for one in data.alignments()))
    objective = Objective(AcousticModel(config), biphones, mmi).train()
    batch = laid_out(data, [Place(0, 1.0, 3), Place(3, 1.0, 3)], config, 90)
    optimiser = torch.optim.Adam(objective.parameters(), 3e-3)
    found = []
    for _ in range(12):
        losses = objective(mels_of(batch), batch, ("mmi", "frames")).losses
        found.append([losses[name].item() for name in ("mmi", "frames")])
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
    assert np.isfinite(found).all() and (np.array(found[-1]) < 0.95 * np.array(found[0])).all()


def test_doubtful_transcripts_are_left_out_and_named(store, alignments):
    doubts = {"u0": "its transcript does not align with its audio: too short", "u1": "its transcript aligns badly"}
    data = StoredSet([store], LEXICON, alignments, doubts)
    assert {row.id: row.reason for row in data.rejected} == doubts
    assert len(data.examples) == 2
    later = data.realigned({"u3": alignments["u2"]}, {"u2": "it aligns badly now"})
    assert [one.id for one in later.examples] == ["u3"] and later.rejected[-1].id == "u2"
    assert later.examples[0].alignment is alignments["u2"]


def test_too_many_words_for_the_audio_are_left_out(store):
    words = Lexicon({word: (("AA", "B") * 30,) for text in TEXTS for word in text.split()})
    data = StoredSet([store], words)
    assert len(data.examples) == 0
    assert all("phones need" in row.reason and "frames" in row.reason for row in data.rejected)


def test_states_lead_where_there_are_any():
    weights = LossWeights()
    assert weights.of_stage(CTC) == {"characters": 1.0, "phones": 1.0}
    early, late = weights.of_stage(STATES), weights.of_stage(MMI)
    assert early["states"] > early["phones"] > 0 and "mmi" not in early
    assert late["mmi"] > late["frames"] > 0 and "states" not in late
    assert set(early) | set(late) == set(LOSSES)
    assert "characters" not in replace(weights, characters=0.0).of_stage(MMI)


def test_the_learning_rate_warms_up_and_falls():
    rates = [learning_rate(step, 1000, highest=1e-3, warm_up=0.1) for step in range(1001)]
    assert np.argmax(rates) in (99, 100) and max(rates) == pytest.approx(1e-3)
    assert np.all(np.diff(rates[100:]) <= 0) and rates[-1] == pytest.approx(1e-5)


def test_the_moving_average_follows_at_first_and_remembers_later():
    module = torch.nn.Linear(1, 3, bias=False)
    torch.nn.init.zeros_(module.weight)
    average = MovingAverage(module, 0.99)
    torch.nn.init.ones_(module.weight)
    average.update(0)
    assert average.module.weight[0].item() == pytest.approx(0.9)
    before = average.module.weight[0].item()
    average.update(10_000)
    assert average.module.weight[0].item() == pytest.approx(0.99 * before + 0.01)
    assert module.weight.eq(1).all()
