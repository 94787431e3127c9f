"""What training reads: batches, their plan, targets that follow a change of speed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from asr.acoustic.phone_states import SILENCE, Biphones
from asr.data.alignments import AlignmentStore
from asr.data.augment_audio import Augmenter
from asr.data.batches import TAIL_FRAMES, Corpus
from asr.data.compute_features import build_features
from asr.data.manifest import read_manifest
from asr.models.acoustic import AcousticConfig, AcousticModel
from asr.training.losses import Objective, loss_weights
from asr.training.optimiser import learning_rate, moving_average
from asr.training.start import rivals_of
from asr.words.lexicon import Lexicon
from asr.words.tokens import CHARACTERS, PHONES

CONFIG = AcousticConfig(len(CHARACTERS), len(PHONES), size=16, look_ahead_frames=(2, 1, 0), phone_layer=2, dropout=0.0)
TEXTS = ("hello there", "we all see", "good night", "one two three")
LEXICON = Lexicon({word: (("AA", "B"),) for text in TEXTS for word in text.split()})


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
    return build_features(folder / "store", utterances, Augmenter(None, None, 0), variants=3)


@pytest.fixture(scope="module")
def corpus(store):
    frames = store.frames(0)
    lines = {
        utterance.id: {
            "id": utterance.id,
            "text": utterance.text,
            "mismatch": 0.5,
            "words": [-1, 0],
            "phones": "<blank> AA",
            "ends": [int(length) // 6, int(length) // 3],
        }
        for utterance, length in zip(store.utterances, frames, strict=True)
    }
    corpus = Corpus([store], CONFIG, LEXICON, AlignmentStore(lines))
    biphones = Biphones.estimate(corpus.alignments(), len(PHONES), CONFIG.stack, 1, 1)
    return corpus.for_model(replace(CONFIG, states=len(biphones)), biphones)


def test_every_utterance_is_in_an_epoch_once_and_batches_keep_their_size(corpus):
    plan = corpus.plan(seed=1, epoch=0, batch_seconds=4.0)
    assert sorted(number for batch in plan for number, _ in batch) == list(range(len(TEXTS)))
    for batch in plan:
        longest = max(corpus.examples[number].seconds for number, _ in batch)
        assert len(batch) == 1 or longest * len(batch) <= 4.0


def test_the_plan_depends_on_seed_and_epoch_alone(corpus):
    plans = [corpus.plan(seed, epoch, 2.0) for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2] and plans[0] != plans[3]


def test_a_share_of_a_source_is_drawn_anew_each_epoch(corpus):
    source = corpus.examples[0].source
    heard = [
        {number for batch in corpus.plan(1, epoch, 4.0, {source: 0.5}) for number, _ in batch} for epoch in range(20)
    ]
    assert all(numbers < set(range(len(TEXTS))) or len(numbers) == len(TEXTS) for numbers in heard)
    assert 0.3 < sum(map(len, heard)) / (20 * len(TEXTS)) < 0.7
    assert set().union(*heard) == set(range(len(TEXTS)))
    assert corpus.plan(1, 0, 4.0, {"another": 0.1}) != [] and len(heard[0] ^ heard[1] | heard[2] ^ heard[3]) > 0


def test_two_views_that_agree_cost_nothing(corpus):
    torch.manual_seed(0)
    objective = Objective(AcousticModel(corpus.config), views=2).train()
    batch = corpus.collate([(0, 0), (3, 0)]).repeated(2)
    losses = objective(batch.mels, batch).losses
    assert losses["consistency"].item() == pytest.approx(0, abs=1e-5)
    moved = torch.cat([batch.mels[:2], batch.mels[2:] + torch.randn_like(batch.mels[2:])])
    losses = objective(moved, batch).losses
    assert losses["consistency"].item() > 1e-3
    losses["consistency"].backward()
    assert "consistency" not in Objective(AcousticModel(corpus.config), views=2).eval()(batch.mels, batch).losses


def test_a_discriminative_step_sets_a_transcript_apart_from_its_rivals(corpus):
    torch.manual_seed(0)
    objective = Objective(AcousticModel(corpus.config), rivals=rivals_of(corpus)).train()
    batch = corpus.collate([(0, 0), (3, 0)])
    optimiser = torch.optim.Adam(objective.parameters(), 3e-3)
    margins = []
    for _ in range(12):
        losses = objective(batch.mels, batch).losses
        both = losses["rivals"], losses["phones"] + losses["phone_rivals"]  # of all sequences over the transcript
        margins.append([margin.item() for margin in both])
        optimiser.zero_grad()
        sum(both).backward()
        optimiser.step()
    assert np.isfinite(margins).all() and (np.array(margins[-1]) < np.array(margins[0]) - 0.05).all()
    assert not {"rivals", "phone_rivals"} & set(objective.eval()(batch.mels, batch).losses)


def test_frame_targets_follow_the_speed(corpus, store):
    for variant in range(3):
        batch = corpus.collate([(2, variant)])
        assert int(batch.frames[0]) == store.frames(variant)[2] // CONFIG.stack + TAIL_FRAMES
        known = batch.aligned[0, :-TAIL_FRAMES]
        begins, goes_on = (table[0, PHONES.index("AA")] for table in (corpus.biphones.first, corpus.biphones.rest))
        assert known.unique_consecutive().tolist() == [SILENCE, begins, goes_on]
        middle = (known == begins).nonzero()[0].item() / len(known)
        assert middle == pytest.approx(0.5, abs=0.03)  # half-way, however fast


def test_padding_is_silence_and_does_not_change_an_utterance(corpus):
    torch.manual_seed(0)
    model = AcousticModel(corpus.config).eval()
    objective = Objective(model).eval()
    together, alone = corpus.collate([(0, 0), (3, 0)]), corpus.collate([(0, 0)])
    with torch.inference_mode():
        both = objective(together.mels, together).log_probs
        one, losses, _ = objective(alone.mels, alone)
    frames = int(alone.frames[0])
    torch.testing.assert_close(both.characters[0, :frames], one.characters[0, :frames], atol=1e-5, rtol=0)
    assert set(losses) == {"characters", "phones", "aligned"} and all(loss > 0 for loss in losses.values())
    assert together.mels[0, -1, 0].item() == pytest.approx(np.log(CONFIG.frontend.floor))


def test_rows_in_training_are_rows_in_streaming(corpus, store, speech):
    """The delay is taken off in training as it is in the stream: row k is about frame k in both."""
    torch.manual_seed(0)
    model = AcousticModel(corpus.config).eval()
    batch = corpus.collate([(3, 0)])
    with torch.inference_mode():
        trained = Objective(model).eval()(batch.mels, batch).log_probs
        streamed, _ = model(torch.from_numpy(speech[:32_000])[None])
    rows = streamed.phones.shape[1]
    # The features went through float16 on disk and through 16-bit WAV.
    torch.testing.assert_close(trained.phones[0, :rows], streamed.phones[0], atol=0.02, rtol=0)


def test_added_silence_moves_targets_with_the_speech(corpus):
    plain = corpus.collate([(2, 0)])
    speech = plain.mels[0, : 3 * (int(plain.frames[0]) - TAIL_FRAMES)]
    moved = 0
    for seed in range(30):
        batch = corpus.collate([(2, 0)], np.random.default_rng(seed))
        frames = int(batch.frames[0])
        start = next(k for k in range(frames) if torch.equal(batch.mels[0, 3 * k : 3 * k + 3], speech[:3]))
        torch.testing.assert_close(batch.mels[0, 3 * start : 3 * start + len(speech)], speech)
        expected = plain.aligned[0, : len(speech) // 3]
        assert torch.equal(batch.aligned[0, start : start + len(expected)], expected)
        assert not batch.aligned[0, :start].any() and not batch.aligned[0, start + len(expected) : frames].any()
        moved += start > 0
    assert 0 < moved < 15


def test_doubtful_transcripts_are_left_out_and_named(store):
    lines = {
        "u0": {"id": "u0", "text": "", "failure": "the text does not fit the audio"},
        "u1": {"id": "u1", "text": "", "mismatch": 3.0, "phones": "<blank>", "ends": [3], "words": [-1]},
    }
    corpus = Corpus([store], CONFIG, LEXICON, AlignmentStore(lines))
    assert {row.id: row.reason.split(":")[0] for row in corpus.rejected} == {
        "u0": "its transcript does not align with its audio",
        "u1": "its transcript aligns badly with its audio",
    }
    assert len(corpus.examples) == 2 and corpus.examples[0].aligned is None


def test_states_lead_where_there_are_any():
    assert loss_weights(states=False).aligned == 0 < loss_weights(states=False).characters
    early, late = loss_weights(states=True), loss_weights(states=True, discriminative=True)
    assert early.aligned > early.phones > 0 == early.rivals
    assert late.rivals > late.aligned > 0


def test_the_learning_rate_warms_up_and_falls():
    rates = [learning_rate(step, 1000, highest=1e-3, warm_up=0.1) for step in range(1001)]
    assert np.argmax(rates) in (99, 100) and max(rates) == pytest.approx(1e-3)
    assert np.all(np.diff(rates[100:]) <= 0) and rates[-1] == pytest.approx(1e-5)


def test_the_moving_average_follows_at_first_and_remembers_later():
    update, averaged = moving_average(0.99), [torch.zeros(3)]
    update(averaged, [torch.ones(3)], torch.tensor(0))
    assert averaged[0][0].item() == pytest.approx(0.9)
    before = averaged[0][0].item()
    update(averaged, [torch.ones(3)], torch.tensor(10_000))
    assert averaged[0][0].item() == pytest.approx(0.99 * before + 0.01)
