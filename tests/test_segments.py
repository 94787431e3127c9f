"""Training over long recordings: what rows hold, the state between them, and where gradients end."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SAMPLES

from asr.cli.main import main
from asr.data.augment import Augmenter, Changes
from asr.data.build_audio import FULL_SCALE, build_audio
from asr.data.manifest import read_manifest
from asr.data.rows import BORDER, LEAST_PAUSE, Batch, RowOptions, Step
from asr.data.training_set import StoredSet
from asr.errors import UsageError
from asr.models.acoustic import AcousticConfig, AcousticModel
from asr.models.encoder import EncoderState
from asr.training.loop import fit
from asr.training.losses import Objective
from asr.training.options import Settings, TrainOptions
from asr.training.processes import Team, open_device
from asr.training.run import Run, prepare_run
from asr.training.tbptt import Memory, passed
from asr.words.lexicon import Lexicon
from asr.words.tokens import CHARACTERS, PHONES

CONFIG = AcousticConfig(len(CHARACTERS), len(PHONES), size=16, look_ahead_frames=(2, 1, 0), phone_layer=2, dropout=0.0)
OPTIONS = RowOptions(batch_seconds=16.0, recording_seconds=24.0, segment_seconds=8.0)
BLSTM = {"encoder": "blstm", "look_ahead_frames": (0, 0), "block_frames": 7, "right_context_frames": 2}
STACK = CONFIG.stack


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> StoredSet:
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
    return StoredSet([build_audio(folder / "store", utterances)], Lexicon(words))


@pytest.fixture(
    scope="module",
    params=[{}, {"encoder": "rnn"}, BLSTM, {"front": "stack"}, {**BLSTM, "front": "stack"}],
    ids=["lstm", "rnn", "blstm", "lstm stack", "blstm stack"],
)
def model(data: StoredSet, request: pytest.FixtureRequest) -> AcousticModel:
    torch.manual_seed(0)
    model = AcousticModel(replace(CONFIG, **request.param)).eval()
    mean, deviation = data.normalisation(model.config)
    model.mel_mean.copy_(torch.from_numpy(mean))
    model.mel_std.copy_(torch.from_numpy(np.maximum(deviation, 0.5)))
    return model


@pytest.fixture(scope="module")
def segments(data: StoredSet, model: AcousticModel) -> list[Batch]:
    """Two recordings as the model needs them cut: a batch for each of their segments."""
    steps = data.plan(OPTIONS, model.config, seed=0, epoch=0)
    return [data.batch(step, 0, 1, model.config) for step in steps[:3]]


@pytest.fixture(scope="module")
def steps(data: StoredSet) -> list[Step]:
    return data.plan(OPTIONS, CONFIG, seed=0, epoch=0)


def mels_of(samples: torch.Tensor) -> torch.Tensor:
    return Augmenter(Changes(), CONFIG.frontend).log_mels(samples.float() / FULL_SCALE)


def joined(segments: list[Batch], config: AcousticConfig) -> torch.Tensor:
    """The samples of whole recordings: what a row looks at beyond its own frames is the beginning of the next one."""
    beyond = config.window_samples - config.frame_samples
    parts = [segment.samples[:, : segment.samples.shape[1] - beyond] for segment in segments[:-1]]
    return torch.cat([*parts, segments[-1].samples], dim=1)


def frames_in(segment: Batch, config: AcousticConfig) -> int:
    return config.frames(segment.samples.shape[1])


def test_every_utterance_is_in_one_segment(data, steps) -> None:
    rows = [row for step in steps for row in step.rows]
    assert sorted(place.utterance for row in rows for place in row.places) == list(range(len(data.examples)))
    assert max(len(row.places) for row in rows) > 1
    for row in rows:
        assert sum(data.examples[place.utterance].samples for place in row.places) <= OPTIONS.segment_seconds * 16_000
        speakers = {data.examples[place.utterance].speaker for place in row.places}
        assert len(speakers) == 1
    assert 2 <= sum(not row.follows for row in rows) < len(rows)
    for step, later in zip(steps, steps[1:], strict=False):
        assert not any(row.follows for row in later.rows) or len(step.rows) == len(later.rows)
    plans = [data.plan(OPTIONS, CONFIG, 0, epoch) for epoch in (0, 1)]
    assert steps == plans[0] != plans[1]


def test_a_segment_holds_its_utterances_and_ends_in_a_pause(data, steps) -> None:
    for step in steps[:3]:
        segment = data.batch(step, 0, 1, CONFIG)
        length = frames_in(segment, CONFIG)
        assert length == step.length
        assert (segment.frames <= length - CONFIG.delay_frames).all()
        letters = segment.characters.split(segment.character_lengths.tolist())
        phones = segment.phones.split(segment.phone_lengths.tolist())
        for number, row in enumerate(step.rows):
            examples = [data.examples[place.utterance] for place in row.places]
            text = "".join(CHARACTERS[k] for k in letters[number])
            assert text == CHARACTERS[BORDER] * row.follows + CHARACTERS[BORDER].join(
                "".join(CHARACTERS[k] for k in example.characters) for example in examples
            )
            assert len(phones[number]) == sum(len(example.phones) for example in examples)
            for place in row.places:  # each where the one before it and a pause have ended
                samples = data.spoken(place).samples
                start = place.start * CONFIG.frame_samples
                assert np.array_equal(segment.samples[number, start : start + len(samples)], samples)
                assert not segment.samples[number, start - LEAST_PAUSE * CONFIG.frame_samples : start].any()
            pause = segment.samples[number, start + len(samples) :]
            assert len(pause) > (CONFIG.delay_frames + 1) * CONFIG.frame_samples and not pause.any()
            assert segment.run_counts[number] == 0  # these utterances are not aligned


def test_segments_with_the_state_passed_are_the_whole_recording(model, segments) -> None:
    objective, state, start = Objective(model).eval(), None, 0
    delay = model.config.delay_frames
    with torch.inference_mode():
        mels = mels_of(joined(segments, model.config))
        whole, _ = model.step(mels, model.encoder.initial_state(len(mels)))
        for segment in segments:
            everyone = torch.ones(len(mels), dtype=torch.bool)
            heard, _, state = objective(mels_of(segment.samples), segment, (), state and passed(state, everyone))
            rows = heard.phones.shape[1]
            for one, all_of_it in zip(heard, whole, strict=True):
                torch.testing.assert_close(
                    one, all_of_it[:, start + delay : start + delay + rows], atol=1e-4, rtol=1e-4
                )
            start += frames_in(segment, model.config)
    assert start == whole.phones.shape[1]


def test_gradients_inside_a_segment_are_the_full_ones_and_end_at_its_border(model, segments) -> None:
    """The loss of a segment, once over the whole recording and once from the detached state before the segment."""
    objective = Objective(model).eval()
    config, segment = model.config, segments[1]
    overlap = config.overlap_mel_frames
    before = frames_in(segments[0], config) * STACK
    end = before + frames_in(segment, config) * STACK
    rows = slice(before // STACK + config.delay_frames, end // STACK)

    def gradients(log_probs, heard: torch.Tensor) -> torch.Tensor:
        losses = [
            torch.nn.functional.ctc_loss(head.transpose(0, 1), targets, segment.frames, lengths, reduction="sum")
            for head, targets, lengths in (
                (log_probs.characters, segment.characters, segment.character_lengths),
                (log_probs.phones, segment.phones, segment.phone_lengths),
            )
        ]
        return torch.autograd.grad(sum(losses), heard)[0]

    whole = mels_of(joined(segments, config)).requires_grad_()
    log_probs, _ = model.step(whole, model.encoder.initial_state(len(whole)))
    full = gradients(type(log_probs)(*(head[:, rows] for head in log_probs)), whole)

    earlier = mels_of(segments[0].samples).requires_grad_()
    inside = mels_of(segment.samples).requires_grad_()
    state = objective(earlier, segments[0]).state
    everyone = torch.ones(len(whole), dtype=torch.bool)
    log_probs = objective(inside, segment, (), passed(state, everyone)).log_probs
    truncated = gradients(log_probs, inside)
    # The first mel frames are also seen by the last acoustic frames of the segment before.
    torch.testing.assert_close(truncated[:, overlap:], full[:, before + overlap : end + overlap], rtol=1e-3, atol=1e-5)
    assert truncated.abs().max() > 0.01

    assert full[:, :before].abs().max() > 0, "the whole recording's gradient goes back over the border"
    assert not any(part.requires_grad for part in passed(state, everyone))
    attached = objective(inside, segment, (), state).log_probs.phones.sum()
    assert torch.autograd.grad(attached, earlier)[0].abs().max() > 0, "and so would the truncated, were it not cut"
    assert not full[:, end + overlap :].any(), "and nothing of the loss comes from what follows"


def test_a_row_remembers_with_the_probability_asked_for(data, steps) -> None:
    def starts(pass_state: float) -> list[bool]:
        memory, found, generator = Memory(pass_state, recordings=True), [], torch.Generator().manual_seed(0)
        for _ in range(20):
            for step in steps[:3]:
                batch = data.batch(step, 0, 1, CONFIG)
                state = memory.before(batch.follows, generator)
                remembered = torch.zeros(len(step.rows), dtype=torch.bool)
                if state is not None:
                    remembered = state.hidden.any(dim=2).all(dim=0)  # (B,)
                    assert torch.equal(remembered, state.context.any(dim=2).all(dim=0))
                assert not (remembered & ~batch.follows).any()
                found += remembered[batch.follows].tolist()
                fresh = AcousticModel(CONFIG).encoder.initial_state(len(step.rows))
                memory.after(EncoderState(*(torch.ones_like(part) for part in fresh)))
        return found

    assert all(starts(1.0)) and not any(starts(0.0))
    assert 0.25 < np.mean(starts(0.5)) < 0.75


def test_rows_in_random_order_remember_any_earlier_row() -> None:
    memory = Memory(0.5)
    fresh = AcousticModel(CONFIG).encoder.initial_state(8)
    follows = torch.zeros(8, dtype=torch.bool)
    assert memory.before(follows, torch.Generator()) is None
    numbered = torch.arange(1.0, 9.0)[:, None]
    memory.after(EncoderState(*(torch.zeros_like(part) + numbered for part in fresh)))
    state = memory.before(follows, torch.Generator().manual_seed(1))
    numbers = state.hidden[0, :, 0]
    assert torch.equal(numbers, state.context[0, :, 0]) and 0 < (numbers == 0).sum() < 8
    remembered = numbers[numbers > 0].tolist()
    assert len(set(remembered)) == len(remembered) and remembered != sorted(remembered)
    assert memory.before(follows[:4], torch.Generator()) is None  # no batch of so many rows has been
    other = Memory(0.5)
    other.restore(memory.content())
    assert torch.equal(other.before(follows, torch.Generator().manual_seed(1)).hidden, state.hidden)


@pytest.mark.parametrize("recording_seconds", [24.0, 0.0], ids=["inside a recording", "rows in random order"])
def test_a_run_taken_up_has_the_same_curve(data, tmp_path: Path, recording_seconds: float) -> None:
    rows = RowOptions(batch_seconds=16.0, recording_seconds=recording_seconds, segment_seconds=8.0)
    settings = Settings(CONFIG, TrainOptions(epochs=1, pass_state=0.7), rows)

    def run(name: str) -> Run:
        return prepare_run(tmp_path / name, data, None, settings, Team(open_device("cpu"), precision="float32"))

    def losses(name: str, stop_at: int | None = None) -> list[float]:
        found = []

        def report(progress) -> None:
            found.append(progress.loss)
            if progress.step == stop_at:
                raise RuntimeError("killed")

        under_way = run(name)
        try:
            fit(under_way, report, checkpoint_seconds=0.0)
        except RuntimeError:
            assert under_way.memory.content()["after"]
        return found

    whole = losses("whole")
    first, rest = losses("killed", stop_at=3), losses("killed")
    assert len(first) == 3 and len(rest) == len(whole) - 2  # the third step was not saved
    assert first[:2] + rest == whole
    curves = [list(csv.DictReader(open(tmp_path / name / "curve.csv"))) for name in ("whole", "killed")]
    assert [row["loss"] for row in curves[0]] == [row["loss"] for row in curves[1]]


@pytest.mark.parametrize("values", [(10.0, 0.0), (10.0, 20.0), (float("nan"), 10.0)])
def test_impossible_segments_are_usage_errors(values) -> None:
    with pytest.raises(UsageError):
        RowOptions(recording_seconds=values[0], segment_seconds=values[1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("rows.recording_seconds=60 training.pass_state=0", "give training.pass_state"),
        ("rows.segment_seconds=20 rows.recording_seconds=5", "got 20 s of 5 s"),
        ("training.pass_state=1.5", "from 0 to 1"),
    ],
)
def test_options_that_make_no_sense_are_told(options, said, tmp_path, monkeypatch, capsys) -> None:
    changes = [word for option in options.split() for word in ("--set", option)]
    monkeypatch.setattr(sys, "argv", ["asr", "train", "none.tsv", "--run", str(tmp_path), *changes])
    assert main() == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
