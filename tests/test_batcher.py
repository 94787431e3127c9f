"""Batches: every stream gets the rows it would get alone, whoever comes, goes, starves, fails or is interrupted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from chunking import chunk_sizes, chunks, run
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.acoustic.folder import ModelPackage
from asr.audio.files import AudioFile
from asr.errors import UsageError
from asr.recognizer import Recognizer
from asr.streaming.batcher import BatchedEngine, Batching
from asr.streaming.engine import OnnxEngine
from asr.streaming.framed import FramedState

SAMPLES = sorted((Path(__file__).parent.parent / "samples").glob("*.wav"))
TOLERANCE = 1e-4  # of fp32 log-probabilities
PATIENCE = 60  # seconds after which a test that hangs fails


class WatchedEngine(OnnxEngine):
    """Notes the size of each batch, and does what a test wants before it runs."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.batches: list[int] = []
        self.before: Callable[[Sequence[FramedState]], None] = lambda states: None

    def advance(self, states: Sequence[FramedState], frames: int) -> tuple[list[np.ndarray], list[FramedState]]:
        self.batches.append(len(states))
        self.before(states)
        return super().advance(states, frames)


@pytest.fixture
def engine(model_folder: Path) -> WatchedEngine:
    package = ModelPackage.open(model_folder)
    return WatchedEngine(package.graph("onnx"), package.rates)


@pytest.fixture(scope="module")
def recordings() -> list[np.ndarray]:
    found = []
    for path in SAMPLES:
        with AudioFile(path, 16_000) as audio:
            found.append(np.concatenate(list(audio))[:40_000])
    return found


@settings(max_examples=15)
@given(
    sizes=st.lists(chunk_sizes, min_size=1, max_size=8),
    options=st.builds(
        Batching, wait_ms=st.sampled_from([0.0, 1.0, 10.0]), most=st.integers(1, 8), at_once=st.integers(1, 3)
    ),
)
def test_rows_do_not_depend_on_the_company(model_folder, recordings, sizes, options):
    package = ModelPackage.open(model_folder)
    alone = OnnxEngine(package.graph("onnx"), package.rates)
    together = BatchedEngine(alone, options)
    heard = [recordings[number % len(recordings)] for number in range(len(sizes))]
    with ThreadPoolExecutor(len(sizes)) as pool:
        found = list(pool.map(lambda one, cut: run(together, list(chunks(one, cut))), heard, sizes))
    together.close()
    for rows, samples in zip(found, heard, strict=True):
        np.testing.assert_allclose(rows, run(alone, [samples]), atol=TOLERANCE, rtol=0)


@pytest.fixture
def patient(engine: WatchedEngine, monkeypatch: pytest.MonkeyPatch) -> BatchedEngine:
    """Waits for every stream that has ever stepped and not ended, for as long as a test may take."""
    monkeypatch.setattr("asr.streaming.batcher.ACTIVE_SECONDS", PATIENCE)
    return BatchedEngine(engine, Batching(wait_ms=PATIENCE * 1_000, at_once=1))


def in_threads(calls: Sequence[Callable[[], object]], batched: BatchedEngine | None = None) -> list[object]:
    """Results of calls made at the same time, or the exceptions that they raised.

    With an engine given its first batch, of whoever comes first, ends when all others wait for theirs.
    """
    if batched is not None:
        engine, before = batched._engine, batched._engine.before

        def hold(states: Sequence[FramedState]) -> None:
            engine.before = before
            while len(batched._waiting) < len(calls) - 1:
                time.sleep(0.001)
            engine.before(states)

        engine.before = hold
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        return [future.exception(PATIENCE) or future.result() for future in futures]


def test_streams_run_together(engine, patient, recordings):
    sizes = [2_560, 2_700, 5_000, 7_321]
    pieces = [list(chunks(samples, [size] * 4)) for samples, size in zip(recordings, sizes, strict=False)]
    found = in_threads([lambda own=own: run(patient, own) for own in pieces], patient)
    # The first to come is alone; from then on whoever is there waits for all others.
    assert engine.batches[0] == 1 and max(engine.batches) == 4
    for rows, own in zip(found, pieces, strict=True):
        np.testing.assert_allclose(rows, run(engine, [np.concatenate(own)]), atol=TOLERANCE, rtol=0)


def test_no_batch_is_larger_than_allowed(engine, recordings):
    batched = BatchedEngine(engine, Batching(wait_ms=20, most=2, at_once=1))
    in_threads([lambda own=own: run(batched, [own]) for own in recordings[:5]])
    assert max(engine.batches) <= 2


def test_a_lone_stream_does_not_wait(patient, recordings):
    for samples in recordings[:3]:  # streams that have ended are not waited for either
        (rows,) = in_threads([lambda own=samples: run(patient, list(chunks(own, [4_000] * 8)))])
        assert len(rows) == patient.rates.frames_covering(len(samples))


def test_nobody_waits_longer_than_allowed_for_a_stream_that_starves(engine, recordings, monkeypatch):
    monkeypatch.setattr("asr.streaming.batcher.ACTIVE_SECONDS", PATIENCE)
    batched = BatchedEngine(engine, Batching(wait_ms=20, at_once=1))
    _, starved = batched.step(batched.start(), recordings[0][:8_000])
    (rows,) = in_threads([lambda: run(batched, list(chunks(recordings[1], [4_000] * 5)))])
    np.testing.assert_allclose(rows, run(engine, [recordings[1]]), atol=TOLERANCE, rtol=0)
    rest, _ = batched.finish(starved)
    assert len(rest) > 0


def test_an_error_reaches_the_caller_whose_it_is(engine, patient, recordings):
    def refuse(states: Sequence[FramedState]) -> None:
        if any(np.isnan(state.samples).any() for state in states):
            raise ValueError("no number")

    engine.before = refuse
    spoilt = [recordings[0][:4_000], np.full(4_000, np.nan, np.float32)]
    good = [list(chunks(samples, [4_000] * 3)) for samples in recordings[1:4]]
    error, *found = in_threads([lambda own=own: run(patient, own) for own in (spoilt, *good)], patient)
    assert isinstance(error, ValueError) and str(error) == "no number"
    assert max(engine.batches) == 4
    for rows, own in zip(found, good, strict=True):
        np.testing.assert_allclose(rows, run(engine, [np.concatenate(own)]), atol=TOLERANCE, rtol=0)


def test_an_interrupt_harms_nobody_else(engine, patient, recordings):
    def interrupt(states: Sequence[FramedState]) -> None:
        if len(states) == 4:
            engine.before = lambda states: None
            raise KeyboardInterrupt

    engine.before = interrupt
    pieces = [list(chunks(samples, [4_000] * 3)) for samples in recordings[:4]]
    outcomes = in_threads([lambda own=own: run(patient, own) for own in pieces], patient)
    assert [type(outcome) for outcome in outcomes].count(KeyboardInterrupt) == 1
    for rows, own in zip(outcomes, pieces, strict=True):
        if not isinstance(rows, KeyboardInterrupt):
            np.testing.assert_allclose(rows, run(engine, [np.concatenate(own)]), atol=TOLERANCE, rtol=0)


def test_closing_waits_for_what_runs_and_refuses_the_rest(engine, patient, recordings):
    running, go_on, order = threading.Event(), threading.Event(), []

    def stall(states: Sequence[FramedState]) -> None:
        running.set()
        assert go_on.wait(PATIENCE)

    def step() -> None:
        order.append(len(patient.step(patient.start(), recordings[0])[0]))

    def close() -> None:
        patient.close()
        order.append("closed")

    engine.before = stall
    threads = [threading.Thread(target=step, daemon=True), threading.Thread(target=close, daemon=True)]
    threads[0].start()
    assert running.wait(PATIENCE)
    threads[1].start()
    threads[1].join(0.05)
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(order) == 2 and order[0] > 0 and order[1] == "closed"
    with pytest.raises(RuntimeError, match="closed"):
        patient.step(patient.start(), recordings[0])


def test_a_state_keeps_nothing_of_its_batch(engine, patient, recordings):
    def state(own: np.ndarray) -> FramedState:
        states = [patient.start()]
        for piece in chunks(own, [8_000] * 3):
            states.append(patient.step(states[-1], piece)[1])
        patient.finish(states[-1])
        return states[-2].inner

    found = in_threads([lambda own=own: state(own) for own in recordings[:3]], patient)
    assert max(engine.batches) == 3
    for part in (part for one in found for part in (one.samples, *one.memory)):
        assert not isinstance(part.base, np.ndarray)  # not a view of a larger array


def test_int8_rows_depend_little_on_the_company(recordings):
    """Most of the probability stays where it is: as much as between chunk lengths, whose bound is the same."""
    package = ModelPackage.open("rill-en-small")
    alone = OnnxEngine(package.graph("int8"), package.rates, "phones")
    together = BatchedEngine(alone, Batching(wait_ms=50, at_once=1))
    pieces = [list(chunks(samples, [2_560] * 15)) for samples in recordings]
    found = in_threads([lambda own=own: run(together, own) for own in pieces])
    for rows, own in zip(found, pieces, strict=True):
        ours, theirs = np.exp(rows), np.exp(run(alone, own))
        assert 0.5 * np.abs(ours - theirs).sum(axis=1).mean() < 0.05  # total variation


def test_a_recogniser_with_batching_says_the_same_in_many_threads(model_folder, recognizer, recordings):
    with Recognizer.load(model_folder, engine="onnx", batching=Batching(wait_ms=2)) as batched:
        texts = in_threads([lambda own=own: batched.transcribe(own, chunk_ms=300).text for own in recordings])
    assert texts == [recognizer.transcribe(own).text for own in recordings]
    with pytest.raises(RuntimeError, match="closed"):
        batched.transcribe(recordings[0])


def test_torch_is_not_batched(model_folder):
    with pytest.raises(UsageError, match="one stream at a time"):
        Recognizer.load(model_folder, engine="torch", batching=Batching())


@pytest.mark.parametrize("wrong", [{"wait_ms": -1}, {"most": 0}, {"at_once": 0}])
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValueError, match="need wait_ms"):
        Batching(**wrong)
