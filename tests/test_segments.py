"""Training over long recordings: what segments hold, the state between them, and where gradients end."""

from __future__ import annotations

import csv
import sys
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SAMPLES

from asr.cli.main import main
from asr.data.augment_audio import Augmenter
from asr.data.augment_mels import MelAugment
from asr.data.batches import IGNORED, Corpus
from asr.data.compute_features import build_features
from asr.data.manifest import read_manifest
from asr.data.specaugment import SpecAugment
from asr.errors import UsageError
from asr.models.acoustic import AcousticConfig, AcousticModel
from asr.models.encoder import EncoderState
from asr.training.device import open_device
from asr.training.loop import Trainer
from asr.training.losses import Objective
from asr.training.options import TrainOptions
from asr.training.processes import Team
from asr.training.tbptt_batches import BORDER, LongBatch, LongRecordings
from asr.training.tbptt_plan import SegmentOptions, plan_segments
from asr.training.tbptt_walk import SegmentWalk, passed
from asr.words.lexicon import Lexicon
from asr.words.tokens import CHARACTERS, PHONES

CONFIG = AcousticConfig(len(CHARACTERS), len(PHONES), size=16, look_ahead_frames=(2, 1, 0), phone_layer=2, dropout=0.0)
OPTIONS = SegmentOptions(seconds=8.0, recording_seconds=24.0)
BLSTM = {"encoder": "blstm", "look_ahead_frames": (0, 0), "block_frames": 7, "right_context_frames": 2}
DELAY, STACK = CONFIG.delay_frames, CONFIG.stack


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The sample recordings three times over, said by two speakers."""
    folder = tmp_path_factory.mktemp("segments")
    rows = [
        f"{wav.stem}-{k}\t{wav}\t{wav.with_suffix('.txt').read_text().strip()}\t{'ab'[k == 2]}\n"
        for k in range(3)
        for wav in sorted(SAMPLES.glob("*.wav"))
    ]
    (folder / "table.tsv").write_text("id\tpath\ttext\tspeaker\n" + "".join(rows), encoding="utf-8")
    utterances = read_manifest(folder / "table.tsv").utterances
    words = {word: (("AA", "B"),) for utterance in utterances for word in utterance.text.split()}
    store = build_features(folder / "store", utterances, Augmenter(None, None, 0))
    return Corpus([store], CONFIG, Lexicon(words))


@pytest.fixture(
    scope="module",
    params=[{}, {"encoder": "rnn"}, BLSTM, {"front": "stack"}, {**BLSTM, "front": "stack"}],
    ids=["lstm", "rnn", "blstm", "lstm stack", "blstm stack"],
)
def model(corpus: Corpus, request: pytest.FixtureRequest) -> AcousticModel:
    torch.manual_seed(0)
    model = AcousticModel(replace(CONFIG, **request.param)).eval()
    model.mel_mean.copy_(torch.from_numpy(corpus.stores[0].mean))
    model.mel_std.copy_(torch.from_numpy(corpus.stores[0].std))
    return model


@pytest.fixture(scope="module")
def batch(corpus: Corpus, model: AcousticModel, steps) -> LongBatch:
    """Two recordings as the model needs them cut."""
    corpus = copy(corpus)
    corpus.config = model.config
    return LongRecordings(corpus).collate(steps[0].recordings, np.random.default_rng(0))


@pytest.fixture(scope="module")
def steps(corpus: Corpus):
    return plan_segments(corpus, OPTIONS, seed=0, epoch=0, batch_seconds=16.0)


def test_every_utterance_is_in_one_segment(corpus, steps) -> None:
    segments = [recording[step.number] for step in steps for recording in step.recordings]
    assert sorted(k for segment in segments for k, _ in segment.members) == list(range(len(corpus.examples)))
    assert max(len(segment.members) for segment in segments) > 1
    for segment in segments:
        assert sum(corpus.examples[k].seconds for k, _ in segment.members) <= OPTIONS.seconds
        speakers = {corpus.stores[0].utterances[corpus.examples[k].index].speaker for k, _ in segment.members}
        assert len(speakers) == 1
    assert sum(segment.first for segment in segments) == 2
    assert all(later.number in (0, step.number + 1) for step, later in zip(steps, steps[1:], strict=False))
    assert steps == plan_segments(corpus, OPTIONS, 0, 0, 16.0) != plan_segments(corpus, OPTIONS, 0, 1, 16.0)


def test_a_segment_holds_its_utterances_and_ends_in_a_pause(corpus, steps) -> None:
    recordings = steps[0].recordings
    batch = LongRecordings(corpus).collate(recordings, np.random.default_rng(0))
    assert sum(batch.lengths) + CONFIG.overlap_mel_frames == batch.mels.shape[1]
    for number, segment in enumerate(batch.segments):
        rows = CONFIG.frames_of_mels(segment.mels.shape[1])
        assert segment.mels.shape[1] == CONFIG.mel_frames(rows) == batch.lengths[number] + CONFIG.overlap_mel_frames
        assert segment.frames.tolist() == [rows - DELAY] * len(recordings) and segment.aligned.shape[1] == rows - DELAY
        letters = segment.characters.split(segment.character_lengths.tolist())
        phones = segment.phones.split(segment.phone_lengths.tolist())
        for row, recording in enumerate(recordings):
            examples = [corpus.examples[k] for k, _ in recording[number].members]
            goes_on = number > 0 and not recording[number].first
            text = "".join(CHARACTERS[k] for k in letters[row])
            assert text == CHARACTERS[BORDER] * goes_on + CHARACTERS[BORDER].join(
                "".join(CHARACTERS[k] for k in example.characters) for example in examples
            )
            assert len(phones[row]) == sum(len(example.phones) for example in examples)
            start = 0
            for example in examples:  # each where the one before it and a pause have ended
                mels = torch.from_numpy(corpus.stores[0].mels(example.index)[:-3].astype(np.float32))
                places = segment.mels[row].unfold(0, len(mels), 1)[start:].isclose(mels.T).flatten(1).all(dim=1)
                assert places.sum() == 1
                start += int(places.nonzero()[0]) + len(mels)
            pause = segment.mels[row, start:]
            assert len(pause) > DELAY * STACK and pause.mean() < mels.mean() - 0.5
            assert (segment.aligned[row] == IGNORED).all()  # nobody has aligned these utterances


def test_segments_with_the_state_passed_are_the_whole_recording(model, batch) -> None:
    objective, state, start = Objective(model).eval(), None, 0
    delay = model.config.delay_frames
    with torch.inference_mode():
        whole, _ = model.step(batch.mels, model.encoder.initial_state(len(batch.mels)))
        for segment in batch.segments:
            heard, _, state = objective(segment.mels, segment, state and passed(state, torch.tensor([True, True])))
            rows = heard.phones.shape[1]
            for one, all_of_it in zip(heard, whole, strict=True):
                torch.testing.assert_close(one, all_of_it[:, start + delay : start + delay + rows])
            start += model.config.frames_of_mels(segment.mels.shape[1])
    assert start == whole.phones.shape[1]


def test_gradients_inside_a_segment_are_the_full_ones_and_end_at_its_border(model, batch) -> None:
    """The loss of a segment, once over the whole recording and once from the detached state before the segment."""
    objective = Objective(model).eval()
    segment, overlap = batch.segments[1], model.config.overlap_mel_frames
    before, end = batch.lengths[0], sum(batch.lengths[:2])
    rows = slice(before // STACK + model.config.delay_frames, end // STACK)

    def gradients(log_probs, heard: torch.Tensor) -> torch.Tensor:
        losses = [
            torch.nn.functional.ctc_loss(head.transpose(0, 1), targets, segment.frames, lengths, reduction="sum")
            for head, targets, lengths in (
                (log_probs.characters, segment.characters, segment.character_lengths),
                (log_probs.phones, segment.phones, segment.phone_lengths),
            )
        ]
        return torch.autograd.grad(sum(losses), heard)[0]

    whole = batch.mels.clone().requires_grad_()
    log_probs, _ = model.step(whole, model.encoder.initial_state(len(whole)))
    full = gradients(type(log_probs)(*(head[:, rows] for head in log_probs)), whole)

    earlier, inside = batch.segments[0].mels.clone().requires_grad_(), segment.mels.clone().requires_grad_()
    state = objective(earlier, batch.segments[0]).state
    log_probs = objective(inside, segment, passed(state, torch.tensor([True, True]))).log_probs
    truncated = gradients(log_probs, inside)
    # The first mel frames are also seen by the last acoustic frames of the segment before.
    torch.testing.assert_close(truncated[:, overlap:], full[:, before + overlap : end + overlap], rtol=1e-3, atol=1e-5)
    assert truncated.abs().max() > 0.01

    assert full[:, :before].abs().max() > 0, "the whole recording's gradient goes back over the border"
    assert not any(part.requires_grad for part in passed(state, torch.tensor([True, True])))
    attached = objective(inside, segment, state).log_probs.phones.sum()
    assert torch.autograd.grad(attached, earlier)[0].abs().max() > 0, "and so would the truncated, were it not cut"
    assert not full[:, end + overlap :].any(), "and nothing of the loss comes from what follows"


def test_a_row_remembers_with_the_probability_asked_for(corpus, steps) -> None:
    views = 2

    def starts(pass_state: float) -> list[bool]:
        walk = SegmentWalk(corpus, SegmentOptions(8.0, 24.0, pass_state), views, 0, lambda mels, frames, random: mels)
        found = []
        for seed in range(10):
            for at, step in enumerate(steps[:3]):
                batch, state = walk.begin(step, at, np.random.default_rng((seed, at)), lambda tensor: tensor)
                assert len(batch.mels) == len(batch.frames) == views * len(step.recordings)
                if step.number == 0:
                    assert state is None
                else:
                    remembered = state.hidden.any(dim=2).all(dim=0).numpy()  # (B,)
                    assert (remembered == state.context.any(dim=2).all(dim=0).numpy()).all()
                    assert (remembered[: len(step.recordings)] == remembered[len(step.recordings) :]).all()
                    first = [recording[step.number].first for recording in step.recordings]
                    found += remembered[: len(step.recordings)][~np.array(first)].tolist()
                walk.end(EncoderState(*(torch.ones_like(part) for part in fresh)))
        return found

    fresh = AcousticModel(CONFIG).encoder.initial_state(views * len(steps[0].recordings))
    assert all(starts(1.0)) and not any(starts(0.0))
    assert 0.25 < np.mean(starts(0.5)) < 0.75


def test_a_run_taken_up_inside_a_recording_has_the_same_curve(corpus, tmp_path: Path) -> None:
    options = TrainOptions(
        epochs=1,
        batch_seconds=32.0,
        views=2,
        segments=SegmentOptions(8.0, 24.0, 0.7),
        masks=SpecAugment(),
        changes=MelAugment(),
    )

    def trainer(name: str) -> Trainer:
        return Trainer(tmp_path / name, corpus, None, CONFIG, options, Team(open_device("cpu", "32-true")))

    def losses(name: str, stop_at: int | None = None) -> list[float]:
        found = []

        def report(progress) -> None:
            found.append(progress.loss)
            if progress.step == stop_at:
                raise RuntimeError("killed")

        run = trainer(name)
        try:
            run.fit(report, checkpoint_seconds=0.0)
        except RuntimeError:
            assert run.parts.walk.state is not None
        return found

    whole = losses("whole")
    first, rest = losses("killed", stop_at=3), losses("killed")
    assert len(first) == 3 and len(rest) == len(whole) - 2  # the third step was not saved
    assert first[:2] + rest == whole
    rows = [list(csv.DictReader(open(tmp_path / name / "curve.csv"))) for name in ("whole", "killed")]
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]]


@pytest.mark.parametrize("values", [(0, 10), (20, 10), (10, 20, 1.5), (float("nan"), 10)])
def test_impossible_segments_are_usage_errors(values) -> None:
    with pytest.raises(UsageError):
        SegmentOptions(*values)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--pass-state 0.5", "give --segment-seconds too"),
        ("--segment-seconds 20 --recording-seconds 5", "got 20 s of 5 s"),
    ],
)
def test_options_that_make_no_sense_are_told(options, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["asr", "train", "none.tsv", "--run", str(tmp_path), *options.split()])
    assert main() == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
