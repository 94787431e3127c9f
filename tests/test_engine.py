"""Engines: any chunking gives the same rows, later audio never changes earlier ones, and no frame is lost."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from chunking import chunk_sizes, chunks, run
from hypothesis import given

from asr.acoustic.export import load_acoustic_model
from asr.acoustic.folder import ModelPackage
from asr.streaming.engine import Engine, OnnxEngine, Rates, TorchEngine

TOLERANCE = 1e-4  # of fp32 log-probabilities


@pytest.fixture(scope="module")
def onnx_engine(model_folder: Path) -> OnnxEngine:
    package = ModelPackage.open(model_folder)
    return OnnxEngine(package.graph("onnx"), package.rates)


@pytest.fixture(scope="module")
def torch_engine(model_folder: Path) -> TorchEngine:
    return TorchEngine(load_acoustic_model(model_folder))


@pytest.fixture(scope="module", params=["onnx", "torch"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue(f"{request.param}_engine")


@pytest.fixture(scope="module")
def whole(engine: Engine, speech: np.ndarray) -> np.ndarray:
    return run(engine, [speech])


@given(sizes=chunk_sizes)
def test_any_chunking_gives_the_rows_of_the_whole(engine, speech, whole, sizes):
    chunked = run(engine, chunks(speech, sizes))
    assert chunked.shape == whole.shape
    np.testing.assert_allclose(chunked, whole, atol=TOLERANCE, rtol=0)


def test_single_samples_give_the_rows_of_the_whole(engine, speech):
    second = speech[: engine.rates.sample_rate]
    np.testing.assert_allclose(run(engine, chunks(second, [1] * len(second))), run(engine, [second]), atol=TOLERANCE)


def test_both_engines_agree(onnx_engine, torch_engine, speech):
    np.testing.assert_allclose(run(onnx_engine, [speech]), run(torch_engine, [speech]), atol=TOLERANCE)


def test_rows_are_log_probabilities(engine, whole):
    assert whole.dtype == np.float32
    np.testing.assert_allclose(np.exp(whole).sum(axis=1), 1.0, atol=1e-4)


def test_more_audio_never_changes_rows_that_are_out(engine, speech):
    heard = speech[: len(speech) // 2]
    early, _ = engine.step(engine.start(), heard)
    for continuation in (speech[len(heard) :], np.zeros(8_000, np.float32), np.full(8_000, 0.9, np.float32)):
        late, _ = engine.step(engine.start(), np.concatenate([heard, continuation]))
        assert len(late) > len(early) > 0
        np.testing.assert_allclose(late[: len(early)], early, atol=TOLERANCE)


@pytest.mark.parametrize("samples", [0, 1, 719, 720, 721, 1_199, 1_200, 1_201, 1_359, 1_360, 1_361, 15_999])
def test_finish_gives_every_frame_that_covers_the_audio(engine, speech, samples):
    rates = engine.rates
    frames = len(run(engine, [speech[:samples]]))
    assert frames == rates.frames_covering(samples)
    if samples:
        last_window_end = (frames - 1) * rates.frame_samples + rates.window_samples
        assert last_window_end - rates.frame_samples < max(samples, rates.window_samples) <= last_window_end
    else:
        assert frames == 0


def test_rates_count_frames():
    rates = Rates(sample_rate=16_000, frame_samples=480, window_samples=720, delay_frames=8)
    assert [rates.frames_within(n) for n in (0, 719, 720, 1_199, 1_200)] == [0, 0, 1, 1, 2]
    assert [rates.frames_covering(n) for n in (0, 1, 720, 721, 1_200, 1_201)] == [0, 1, 1, 2, 2, 3]
    for samples in range(1, 3_000, 7):
        padded = samples + rates.tail_samples(samples)
        assert rates.frames_within(padded) - rates.delay_frames == rates.frames_covering(samples)
    assert rates.seconds(100) == 3.0
    assert rates.frames(1.0) == 33


def test_no_samples_give_no_rows(engine):
    state = engine.start()
    log_probs, after = engine.step(state, np.zeros(0, np.float32))
    assert log_probs.shape == (0, 29)
    log_probs, _ = engine.finish(after)
    assert log_probs.shape == (0, 29)


def test_a_state_can_be_kept_and_forked(engine, speech):
    _, state = engine.step(engine.start(), speech[:20_000])
    first, _ = engine.step(state, speech[20_000:40_000])
    engine.finish(state)
    engine.step(state, np.ones(5_000, np.float32))
    again, _ = engine.step(state, speech[20_000:40_000])
    np.testing.assert_array_equal(first, again)


def test_the_caller_may_overwrite_its_buffer(engine, speech):
    buffer = speech[:20_100].copy()
    _, state = engine.step(engine.start(), buffer)
    expected, _ = engine.finish(state)
    buffer[:] = 1.0
    actual, _ = engine.finish(state)
    np.testing.assert_array_equal(actual, expected)


def test_one_engine_serves_many_threads(engine, speech, whole):
    def stream(offset: int) -> np.ndarray:
        return run(engine, chunks(speech, [1_000 + offset] * (len(speech) // (1_000 + offset))))

    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(stream, range(0, 800, 100)):
            np.testing.assert_allclose(rows, whole, atol=TOLERANCE)


def test_big_chunks_are_cut_into_blocks(engine, speech, whole, monkeypatch):
    monkeypatch.setattr("asr.streaming.rates.PIECE_SECONDS", 0.3)
    np.testing.assert_allclose(run(engine, [speech]), whole, atol=TOLERANCE)


def test_the_onnx_state_does_not_grow(onnx_engine, speech):
    state = onnx_engine.start()
    shapes = [part.shape for part in state.memory]
    for _ in range(5):
        _, state = onnx_engine.step(state, speech)
        assert [part.shape for part in state.memory] == shapes
        assert len(state.samples) < onnx_engine.rates.window_samples
        assert state.samples.base is None  # no view that would keep a whole chunk of audio in memory


def test_the_phone_head_can_be_chosen(model_folder, torch_engine, speech):
    package = ModelPackage.open(model_folder)
    phones = OnnxEngine(package.graph("onnx"), package.rates, head="phones")
    assert run(phones, [speech]).shape[1] == len(package.phones) == 40


def test_a_graph_that_is_none_is_refused(tmp_path, model_folder):
    package = ModelPackage.open(model_folder)
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match="onnxruntime cannot load it"):
        OnnxEngine(tmp_path / "model.onnx", package.rates)
    with pytest.raises(ValueError, match="no output named 'words'"):
        OnnxEngine(package.graph("onnx"), package.rates, head="words")
