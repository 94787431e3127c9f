"""The recogniser: a file, an array, a stream and single steps give the same text; wrong models and audio are told."""

from __future__ import annotations

import gc
import io
import json
import shutil
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from chunking import chunk_sizes, chunks
from conftest import wav_bytes
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from asr import Recognizer
from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage, find_model
from asr.acoustic.native_engine import fast_kernel
from asr.errors import AudioError, DamagedAudioError, ModelError, RillError, UnknownModelError, UsageError
from asr.streaming.endpoint import EndpointRule
from asr.streaming.results import Result, Word, joined
from asr.streaming.sources import rechunked
from asr.transcript import Transcript


def finals(results) -> list[Result]:
    return [result for result in results if result.final]


def same(one: Result, other: Result) -> None:
    """The same text and word times; confidences differ by rounding."""
    assert one.text == other.text
    for word, twin in zip(one.words, other.words, strict=True):
        assert (word.text, word.start_seconds, word.end_seconds) == (twin.text, twin.start_seconds, twin.end_seconds)
        assert word.confidence == pytest.approx(twin.confidence, abs=1e-3)


@pytest.fixture(scope="module")
def whole(recognizer: Recognizer, speech: np.ndarray) -> Result:
    result = recognizer.transcribe(speech)
    assert len(result.words) > 3  # or the tests below would compare nothing
    return result


@given(sizes=chunk_sizes)
def test_a_stream_in_any_chunks_gives_the_text_and_times_of_the_whole(recognizer, speech, whole, sizes):
    same(joined(recognizer.stream(chunks(speech, sizes)), len(speech) / recognizer.sample_rate), whole)


@pytest.mark.parametrize("sample_rate", [8_000, 48_000])
@given(sizes=chunk_sizes)
@hypothesis_settings(max_examples=10)
def test_a_stream_at_another_rate_gives_the_text_of_the_whole(recognizer, speech, sample_rate, sizes):
    import soxr

    samples = soxr.resample(speech, recognizer.sample_rate, sample_rate)
    seconds = len(samples) / sample_rate
    at_once = joined(recognizer.stream([samples], sample_rate), seconds)
    assert at_once.words
    same(joined(recognizer.stream(chunks(samples, sizes), sample_rate), seconds), at_once)


@given(sizes=chunk_sizes)
@hypothesis_settings(max_examples=10)
def test_the_shipped_model_hears_the_same_in_any_chunks(shipped_recognizer, speech, sizes):
    seconds = len(speech) / shipped_recognizer.sample_rate
    at_once = joined(shipped_recognizer.stream([speech]), seconds)
    same(joined(shipped_recognizer.stream(chunks(speech, sizes)), seconds), at_once)


@pytest.mark.parametrize("chunk_ms", [7, 80, 500, 60_000])
def test_file_array_steps_and_chunk_lengths_agree(recognizer, speech, whole, write_wav, chunk_ms):
    quantised = np.round(speech * 32_767) / 32_768
    path = write_wav("speech.wav", quantised * 32_768 / 32_767)
    same(recognizer.transcribe(path, chunk_ms=chunk_ms), recognizer.transcribe(quantised))
    state = recognizer.start()
    results: list[Result] = []
    for piece in chunks(speech, [chunk_ms * 16] * 10):
        new, state = recognizer.step(state, piece)
        results += new
    new, _ = recognizer.finish(state)
    same(joined([*results, *new], whole.end_seconds), whole)


def test_a_short_utterance_rule_gives_more_finals_and_loses_no_letter(model_folder, speech, whole):
    rule = EndpointRule(silence_seconds=0.09, pause_seconds=0.06, long_seconds=1.0, longest_seconds=30.0, reset=False)
    several = finals(Recognizer.load(model_folder, engine="onnx", endpoint=rule).stream([speech]))
    assert len(several) > 1
    assert "".join(result.text for result in several).replace(" ", "") == whole.text.replace(" ", "")


def test_results_lie_in_order_within_the_recording(whole, speech):
    assert (whole.start_seconds, whole.end_seconds, whole.final) == (0.0, len(speech) / 16_000, True)
    moments = [moment for word in whole.words for moment in (word.start_seconds, word.end_seconds)]
    assert moments == sorted(moments) and 0 <= moments[0] and moments[-1] <= whole.end_seconds
    assert all(0 < word.confidence <= 1 for word in whole.words)
    assert whole.text == " ".join(word.text for word in whole.words)


def test_an_hour_keeps_memory_constant_and_times_true(recognizer, speech):
    rate = recognizer.sample_rate
    turn = np.concatenate([speech, np.zeros(15 * rate - len(speech), np.float32)])  # 15 s: a whole number of frames
    turns = 240
    state = recognizer.start()
    early_seconds, late_seconds = 30.0, 3_540.0  # where two turns start
    early: list[Word] = []
    late: list[Word] = []
    memory = {}
    tracemalloc.start()
    for number in range(turns):
        for piece in np.array_split(turn, 4):
            results, state = recognizer.step(state, piece)
            for word in joined(results, 0.0).words:
                for kept, start in ((early, early_seconds), (late, late_seconds)):
                    if start <= word.start_seconds < start + 15:
                        kept.append(word)
        if number in (turns // 2, turns - 1):
            gc.collect()
            memory[number] = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert state.samples == 3_600 * rate
    assert memory[turns - 1] - memory[turns // 2] < 100_000  # bytes, over 115 MB of audio: free lists, no more
    assert len(early) > 5
    for word, twin in zip(early, late, strict=True):
        assert twin.text == word.text
        assert twin.start_seconds - word.start_seconds == pytest.approx(late_seconds - early_seconds)
        assert twin.end_seconds - word.end_seconds == pytest.approx(late_seconds - early_seconds)


def test_partials_come_before_the_final(recognizer, speech):
    results = list(recognizer.stream(chunks(speech, [1_600] * (len(speech) // 1_600))))
    assert results[-1].final and len(finals(results)) < len(results)


def test_one_recogniser_serves_many_threads(recognizer, speech, whole):
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: recognizer.transcribe(speech, chunk_ms=100), range(8)):
            same(result, whole)


def test_the_torch_engine_says_the_same(model_folder, speech, whole):
    same(Recognizer.load(model_folder, engine="torch").transcribe(speech), whole)


def test_integers_stereo_and_floats_say_the_same(recognizer, speech):
    integers = np.round(speech * 32_767).astype(np.int16)
    expected = recognizer.transcribe(integers)
    same(recognizer.transcribe(integers / 32_768), expected)
    same(recognizer.transcribe(np.stack([integers, integers], axis=1)), expected)
    same(recognizer.transcribe(integers.astype(np.int32) << 16), expected)


@pytest.mark.parametrize(
    ("audio", "error", "message"),
    [
        (np.zeros(0, np.float32), AudioError, "0 s long"),
        (np.full(10, np.nan), AudioError, "NaN"),
        (np.zeros(10, np.int64), AudioError, "int64"),
        (np.zeros((2, 3, 4)), AudioError, "shape"),
        (b"RIFF", AudioError, "is no audio file"),
        (None, AudioError, "shape"),
        ("no such file.wav", AudioError, "no such file"),
    ],
)
def test_what_is_no_audio_is_told(recognizer, audio, error, message):
    with pytest.raises(error, match=message) as caught:
        recognizer.transcribe(audio)
    assert isinstance(caught.value, RillError) and "\n" not in str(caught.value)


def test_bytes_and_file_objects_are_recognised_like_files(recognizer, speech, tmp_path):
    data = wav_bytes(speech)
    path = tmp_path / "speech.wav"
    path.write_bytes(data)
    expected = recognizer.transcribe(path)
    for audio in (data, bytearray(data), io.BytesIO(data)):
        same(recognizer.transcribe(audio), expected)
    with path.open("rb") as file:
        same(recognizer.transcribe(file), expected)
    with pytest.raises(UsageError, match="goes with an array"):
        recognizer.transcribe(data, sample_rate=16_000)


def test_wrong_chunks_are_told_by_number(recognizer, speech):
    with pytest.raises(AudioError, match="chunk 1 holds NaN"):
        list(recognizer.stream([speech, np.full(10, np.nan)]))
    with pytest.raises(UsageError, match="iterable of arrays"):
        recognizer.stream(speech)
    with pytest.raises(AudioError, match="NaN"):
        recognizer.step(recognizer.start(), np.full(10, np.nan))


def test_wrong_options_are_told(recognizer, model_folder, speech, write_wav):
    path = write_wav("a.wav", speech)
    for call in (
        lambda: Recognizer.load(model_folder, engine="tensorflow"),
        lambda: Recognizer.load(model_folder, decoder="beam"),
        lambda: Recognizer.load(model_folder, threads=0),
        lambda: recognizer.transcribe(speech, chunk_ms=0),
        lambda: recognizer.transcribe(speech, sample_rate=-1),
        lambda: recognizer.transcribe(path, sample_rate=16_000),
        lambda: recognizer.stream([speech], sample_rate=0),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        assert caught.value.exit_code == 2


def test_a_truncated_file_raises_with_what_was_heard(recognizer, speech, tmp_path):
    path = tmp_path / "cut.wav"
    path.write_bytes(wav_bytes(speech)[: 44 + len(speech) // 2 * 2])  # half of it
    with pytest.raises(DamagedAudioError, match="truncated") as caught:
        recognizer.transcribe(path)
    same(caught.value.result, recognizer.transcribe(np.frombuffer(path.read_bytes()[44:], "<i2").astype(np.int16)))


@pytest.mark.parametrize(
    ("file", "engine"),
    [
        ("model.safetensors" if fast_kernel() else "model.int8.onnx", "int8"),
        ("model.onnx", "onnx"),
        ("model.safetensors", "onnx"),
        ("model.safetensors", "torch"),
        ("characters.txt", "int8"),
        ("phones.txt", "int8"),
    ],
)
def test_a_missing_or_altered_file_of_a_model_is_named(model_folder, tmp_path, file, engine):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    with (folder / file).open("r+b") as stream:
        stream.seek(10)
        stream.write(b"!")
    for load in (partial(Recognizer.load, engine=engine), ModelPackage.open):
        with pytest.raises(ModelError, match=f"{file} was altered or damaged"):
            load(folder)
    (folder / file).unlink()
    for load in (partial(Recognizer.load, engine=engine), ModelPackage.open):
        with pytest.raises(ModelError, match=f"{file} is missing"):
            load(folder)


def test_an_engine_needs_its_own_files_alone(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    for name in ("model.onnx", "model.int8.onnx" if fast_kernel() else "model.safetensors"):
        (folder / name).unlink()
    assert Recognizer.load(folder, engine="int8").sample_rate == 16_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"files": {}}, "names no checksums"),
        ({"sample_rate": "16k"}, "sample_rate must be a whole number"),
        ({"frame_samples": None}, "frame_samples must be a whole number"),
    ],
)
def test_a_configuration_that_cannot_be_is_told(model_folder, tmp_path, change, message):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError, match=message):
        ModelPackage.open(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        ModelPackage.open(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match="no config.json"):
        ModelPackage.open(folder)


def test_unknown_models_are_told(tmp_path):
    for name in ("whisper-large", tmp_path / "nothing", ""):
        with pytest.raises(UnknownModelError, match="unknown model"):
            find_model(name)
    assert UnknownModelError.exit_code == 2


@pytest.mark.parametrize("level", [0.0, 1e-5, 5e-5, 1e-4, 1e-3, 1e-2, 0.1])
def test_the_shipped_model_hears_no_words_in_silence_and_noise(shipped_recognizer, level):
    noise = np.random.default_rng(0).normal(size=20 * shipped_recognizer.sample_rate) * level
    assert shipped_recognizer.transcribe(noise).text == ""


def test_the_default_model_is_found_by_name(shipped_recognizer):
    package = ModelPackage.open(DEFAULT_MODEL)
    assert package.name == DEFAULT_MODEL and package.rates.sample_rate == shipped_recognizer.sample_rate


def test_a_network_that_forgets_gives_the_same_text_for_any_chunks(model_folder, speech):
    rule = EndpointRule(silence_seconds=0.12, pause_seconds=0.06, long_seconds=0.8, longest_seconds=1.5, reset=True)
    forgetful = Recognizer.load(model_folder, engine="onnx", endpoint=rule)
    samples = np.tile(speech, 2)
    once, pieces = (finals(forgetful.stream(np.array_split(samples, parts))) for parts in (1, 150))
    assert len(once) > 5
    assert [result.text for result in once] == [result.text for result in pieces]


@pytest.mark.parametrize("chunk_ms", [70, 2_000])
def test_a_recording_on_two_cores_has_the_results_of_one(shipped_recognizer, speech, monkeypatch, chunk_ms):
    samples = np.tile(speech, 3)
    found = []
    for cores in (False, True):
        monkeypatch.setattr("asr.recognizer.two_cores", lambda cores=cores: cores)
        transcript = Transcript(shipped_recognizer.with_readable())
        assert (transcript._ahead is not None) == cores
        halves = []
        for chunk in rechunked([samples], 16 * chunk_ms):
            transcript.accept(chunk)
            if len(halves) == 0 and transcript.seconds > len(samples) / 32_000:
                halves.append((transcript.seconds, transcript.result()))  # it can be asked for at any time
        found.append((halves, transcript.result()))
    assert found[0] == found[1]
