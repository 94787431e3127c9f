"""Alignment by a model: the search against all paths, and what it finds in speech."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.acoustic import forced_alignment
from asr.acoustic.forced_alignment import (
    NO_WORD,
    START,
    Alignment,
    PronunciationGraph,
    align_batch,
    batches_by_length,
    ctc_scores,
    ctc_states,
)
from asr.acoustic.phone_states import SILENCE, Biphones
from asr.audio.files import AudioFile
from asr.data.alignments import FILE_NAME, AlignmentStore, PhoneAligner, align_manifest, mismatch_limits
from asr.data.manifest import Manifest, load_audio, read_manifest
from asr.errors import DataError
from asr.words.lexicon import Lexicon
from asr.words.text import normalise
from asr.words.tokens import PHONES

ROOT = Path(__file__).resolve().parents[1]
DEV = ROOT.parent / "shared" / "data" / "speech" / "dev.tsv"
needs_speech = pytest.mark.skipif(not DEV.is_file(), reason="the development recordings are not on this machine")

TEXTS = ([], [[(1, 2)]], [[(1,), (2,)], [(1,), (2, 1)]], [[(1, 1), (1, 2), (1, 2, 3)], [(3,)], [(3, 1), (2, 1)]])


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon.load()


@pytest.fixture(scope="module")
def aligner(lexicon) -> PhoneAligner:
    return PhoneAligner.load("rill-en-small", lexicon.pronounce)


@pytest.fixture(scope="module")
def utterances(lexicon):
    """The six shortest LibriSpeech utterances of at least eight words that the dictionary has."""
    candidates = [
        utterance
        for utterance in read_manifest(DEV).utterances
        if utterance.source == "librispeech"
        and len(utterance.text.split()) >= 8
        and all(word in lexicon for word in utterance.text.split())
    ]
    return sorted(candidates, key=lambda utterance: utterance.seconds)[:6]


def small_states() -> Biphones:
    """Of four phones, silence included: states of their own for every pair, and priors that differ."""
    first, rest = np.zeros((4, 4), int), np.zeros((4, 4), int)
    first[:, 1:] = 1 + np.arange(12).reshape(4, 3)
    rest[:, 1:] = 13 + np.arange(12).reshape(4, 3)
    owners = np.array([0, *([1, 2, 3] * 8)])
    return Biphones(first, rest, owners, np.log(np.arange(1, 26) / 325).astype(np.float32))


def chains(words):
    """All sequences of phones, silences among them, that a text may be."""
    if not words:
        yield from ([], [SILENCE])
        return
    for rest in chains(words[1:]):
        for sounds in words[0]:
            yield [*sounds, *rest]
            yield [SILENCE, *sounds, *rest]


def best_total(scores, words, states):
    """The best score of all paths, path by path: scores (T, K) and where the phones of a chain begin."""
    best = -np.inf
    for chain in map(np.array, chains(words)):
        if not 0 < len(chain) <= len(scores):
            continue
        before = np.concatenate([[SILENCE], chain[:-1]])
        for cuts in combinations(range(1, len(scores)), len(chain) - 1):
            run = np.searchsorted(cuts, np.arange(len(scores)), "right")
            begins = np.isin(np.arange(len(scores)), [0, *cuts])
            path = np.where(begins, states.first[before[run], chain[run]], states.rest[before[run], chain[run]])
            best = max(best, scores[np.arange(len(scores)), path].sum())
    return best


def total(alignment: Alignment, scores, states):
    """The score of an alignment."""
    lengths = alignment.ends - alignment.starts
    begins = np.isin(np.arange(len(scores)), alignment.starts)
    pair = np.repeat(alignment.before, lengths), np.repeat(alignment.phones, lengths)
    return scores[np.arange(len(scores)), np.where(begins, states.first[pair], states.rest[pair])].sum()


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_the_search_finds_the_best_of_all_paths(kind):
    random, states = np.random.default_rng(0), small_states()
    graphs = [PronunciationGraph.of(words) for words in TEXTS]
    for _ in range(5):
        log_probs = torch.randn(len(TEXTS), 8, len(states), generator=torch.Generator().manual_seed(3)).log_softmax(-1)
        frames = random.integers(5, 9, len(TEXTS)).tolist()
        found = align_batch(log_probs.numpy() if kind == "numpy" else log_probs, frames, graphs, states)
        for row, (words, count, alignment) in enumerate(zip(TEXTS, frames, found, strict=True)):
            scores = log_probs[row, :count].numpy() - states.log_priors
            assert total(alignment, scores, states) == pytest.approx(best_total(scores, words, states), abs=1e-4)
            assert alignment.frames == count and (np.diff(alignment.ends) > 0).all()
            spoken = tuple(alignment.phones[alignment.phones != SILENCE])
            assert list(spoken) in [[phone for phone in chain if phone != SILENCE] for chain in chains(words)]
            runs = alignment.word_runs()
            assert len(runs) == len(words)
            assert all(tuple(alignment.phones[a:b]) in word for (a, b), word in zip(runs, words, strict=True))
            aligned = np.repeat(alignment.phones, alignment.ends - alignment.starts)
            speech = (aligned != SILENCE) | (scores.argmax(1) != SILENCE)
            gap = scores.max(1).sum() - total(alignment, scores, states)
            assert alignment.mismatch == pytest.approx(gap / max(1, speech.sum()), abs=1e-4)


def test_an_utterance_is_aligned_as_it_is_alone():
    states = small_states()
    log_probs = torch.randn(len(TEXTS), 150, len(states), generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    frames = [150, 90, 64, 129]
    graphs = [PronunciationGraph.of(words) for words in TEXTS]
    for row, together in enumerate(align_batch(log_probs, frames, graphs, states)):
        (alone,) = align_batch(log_probs[row : row + 1], frames[row : row + 1], graphs[row : row + 1], states)
        assert np.array_equal(alone.ends, together.ends) and np.array_equal(alone.phones, together.phones)
        assert alone.mismatch == pytest.approx(together.mismatch, abs=1e-5)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_long_text_is_searched_where_its_paths_are(kind, monkeypatch):
    random, states = np.random.default_rng(0), small_states()
    words = [[tuple(random.integers(1, 4, random.integers(1, 4)))] for _ in range(150)]
    graph = PronunciationGraph.of(words)
    phones = np.concatenate([word[0] for word in words])
    chain = np.repeat(phones, random.integers(1, 6, len(phones)))  # equal neighbours are one run more or less
    before = np.concatenate([[SILENCE], chain[:-1]])
    log_probs = torch.randn(1, len(chain), len(states), generator=torch.Generator().manual_seed(1))
    log_probs[0, np.arange(len(chain)), states.first[before, chain]] += 6.0
    log_probs = log_probs.log_softmax(-1)
    given = (log_probs.numpy() if kind == "numpy" else log_probs), [len(chain)], [graph], states
    (whole,) = align_batch(*given)
    monkeypatch.setattr(forced_alignment, "WIDE", 10)
    monkeypatch.setattr(forced_alignment, "BEAM", 300.0)
    (windowed,) = align_batch(*given)
    assert np.array_equal(windowed.phones, whole.phones) and np.array_equal(windowed.ends, whole.ends)
    assert windowed.mismatch == pytest.approx(whole.mismatch, abs=1e-5)
    monkeypatch.setattr(forced_alignment, "BEAM", 1e4)
    assert np.array_equal(align_batch(*given)[0].ends, whole.ends)


def test_a_text_needs_a_frame_a_phone():
    states = small_states()
    graph = PronunciationGraph.of([[(1, 2, 3)], [(1, 2)]])
    log_probs = np.log(np.full((2, 5, len(states)), 1 / len(states), np.float32))
    too_short, just = align_batch(log_probs, [4, 5], [graph, graph], states)
    assert too_short is None and just.phones.tolist() == [1, 2, 3, 1, 2]


def test_phones_know_what_they_follow():
    graph = PronunciationGraph.of([[(1, 2), (1, 3)], [(2,), (3,)]])
    nodes = set(zip(graph.before.tolist(), graph.phones.tolist(), graph.words.tolist(), strict=True))
    first, second = {(0, 1, 0), (1, 2, 0), (1, 3, 0)}, {(q, p, 1) for q in (0, 2, 3) for p in (2, 3)}
    assert nodes == {(0, 0, NO_WORD)} | first | second and len(graph) == 3 + 9
    for node, before in enumerate(graph.before.tolist()):
        for other in graph.preceding[node].tolist():
            assert other == START and not before or other < 0 or before in (graph.phones[other], SILENCE)


def test_ctc_is_aligned_from_peak_to_peak():
    log_probs = np.log(np.full((1, 6, 3), 0.05, np.float32))
    for frame, phone in enumerate((0, 1, 0, 2, 2, 0)):
        log_probs[0, frame, phone] = np.log(0.9)
    graph = PronunciationGraph.of([[(1,)], [(2,)]])
    (alignment,) = align_batch(ctc_scores(log_probs), [6], [graph], ctc_states(3))
    spoken = alignment.phones != SILENCE
    assert alignment.phones[spoken].tolist() == [1, 2] and alignment.starts[spoken].tolist() == [1, 3]
    assert alignment.mismatch == pytest.approx(0, abs=1e-5)
    assert torch.equal(ctc_scores(torch.from_numpy(log_probs)), torch.from_numpy(ctc_scores(log_probs)))


def test_batches_hold_every_utterance_once_and_keep_their_size():
    frames = np.random.default_rng(0).integers(1, 100, 50)
    batches = list(batches_by_length(frames, 300, 8))
    assert sorted(np.concatenate(batches).tolist()) == list(range(50))
    assert all(len(batch) == 1 or len(batch) * frames[batch].max() <= 300 and len(batch) <= 8 for batch in batches)


def test_outliers_are_those_of_their_source():
    random = np.random.default_rng(0)
    clear, accented = random.normal(0.6, 0.1, 100), random.normal(1.0, 0.2, 100)
    limits = mismatch_limits([*clear, *accented, 0.5], ["clear"] * 100 + ["accented"] * 100 + ["one"])
    assert (limits[:100] > clear).all() and (limits[100:200] > accented).all()
    assert limits[0] < 1.2 < limits[100] <= 2.0 and limits[0] < limits[200]
    assert mismatch_limits([], []).shape == (0,)


def check(alignment, samples, text, lexicon):
    """What holds for every alignment, whatever was said."""
    assert alignment.frames == -(-len(samples) // 480) and alignment.starts[0] == 0
    assert (alignment.starts < alignment.ends).all()
    assert not ((alignment.phones[1:] == SILENCE) & (alignment.phones[:-1] == SILENCE)).any()
    assert ((alignment.words == NO_WORD) == (alignment.phones == SILENCE)).all()
    runs = alignment.word_runs()
    assert len(runs) == len(text.split())
    for word, (first, last) in zip(text.split(), runs, strict=True):
        assert tuple(PHONES[phone] for phone in alignment.phones[first:last]) in lexicon.pronounce(word)


def align(aligner, samples, text):
    return aligner.align([samples], [aligner.graph(text)])[0]


@needs_speech
def test_recordings_align_with_their_text(aligner, lexicon, utterances):
    for utterance in utterances:
        samples = load_audio(utterance)
        alignment = align(aligner, samples, utterance.text)
        check(alignment, samples, utterance.text, lexicon)
        assert 0.1 < alignment.mismatch < 1.0


@needs_speech
def test_another_text_fits_far_worse(aligner, utterances):
    for utterance, other in zip(utterances, utterances[1:], strict=False):
        samples = load_audio(utterance)
        right = align(aligner, samples, utterance.text).mismatch
        assert align(aligner, samples, other.text).mismatch > right + 1.0
        assert align(aligner, samples, utterance.text).mismatch == right  # whatever came before


@needs_speech
def test_silence_before_the_speech_moves_all_times(aligner, utterances):
    samples = load_audio(utterances[0])
    noise = 1e-4 * np.random.default_rng(0).standard_normal(7_680).astype(np.float32)
    plain = align(aligner, samples, utterances[0].text)
    later = align(aligner, np.concatenate([noise, samples]), utterances[0].text)
    shifts = [
        later.starts[after] - plain.starts[before]
        for (before, _), (after, _) in zip(plain.word_runs(), later.word_runs(), strict=True)
    ]
    assert np.median(shifts) == pytest.approx(16, abs=1)


@needs_speech
def test_int16_and_float_samples_align_alike(aligner, utterances):
    samples = load_audio(utterances[1])
    integers = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
    graph = aligner.graph(utterances[1].text)
    one, other = aligner.align([samples, integers], [graph, graph])
    assert np.array_equal(one.ends, other.ends) and np.array_equal(one.phones, other.phones)
    assert one.mismatch == pytest.approx(other.mismatch, abs=0.01)


def test_synthetic_speech_aligns(aligner, lexicon):
    paths = [ROOT / "samples" / f"{name}.wav" for name in ("greeting", "weather")]
    for path in paths:
        with AudioFile(path, 16_000) as file:
            samples = np.concatenate(list(file))
        text = normalise(path.with_suffix(".txt").read_text(encoding="utf-8"))
        check(align(aligner, samples, text), samples, text, lexicon)


def test_what_cannot_be_aligned_is_refused(aligner):
    noise = 0.1 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    nothing = align(aligner, noise, "")
    assert nothing.phones.tolist() == [SILENCE] and nothing.ends.tolist() == [34]
    long = "far too many words for one single second of audio to hold them all"
    assert align(aligner, noise, long) is align(aligner, noise[:10], "one") is None
    with pytest.raises(DataError, match="Hello"):
        aligner.graph("Hello")


@needs_speech
def test_a_manifest_is_aligned_once_and_what_failed_is_named(tmp_path, aligner, utterances):
    torn = replace(utterances[2], id="torn", audio=replace(utterances[2].audio, size=100))
    long = replace(utterances[2], id="long", text=" ".join(["extraordinary"] * 200))
    manifest = Manifest((utterances[0], torn, long, utterances[1]), ())
    seen = []
    store = align_manifest(manifest, aligner, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4, 4)
    assert set(store.failures) == {"torn", "long"} and "torn" in store.failures["torn"]
    assert len(store) == 2 and set(store) == {utterances[0].id, utterances[1].id}
    expected = align(aligner, load_audio(utterances[0]), utterances[0].text)
    found = store[utterances[0].id]
    assert all(np.array_equal(getattr(found, name), getattr(expected, name)) for name in ("phones", "ends", "words"))
    assert found.mismatch == pytest.approx(expected.mismatch, abs=1e-2)
    assert store.get("torn") is store.get("unknown") is None
    doubts = store.doubts({"torn": "", "long": "", utterances[0].id: "", utterances[1].id: ""})
    assert set(doubts) == {"torn", "long"} and "too short" in doubts["long"]

    # Killed while a line was written: what is whole stays, the rest is computed again.
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert len(AlignmentStore.open(tmp_path)) + len(AlignmentStore.open(tmp_path).failures) == 3
    seen.clear()
    align_manifest(manifest, aligner, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 4)] and sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())

    # A corrected transcript is aligned anew.
    words = utterances[1].text.split()
    corrected = replace(utterances[1], text=" ".join(words[:-1]))
    store = align_manifest(Manifest((utterances[0], corrected), ()), aligner, tmp_path)
    assert len(store[corrected.id].word_runs()) == len(words) - 1

    # Another model aligns everything anew.
    other = PhoneAligner(aligner.network, aligner.biphones, aligner.pronounce, identity="another")
    seen.clear()
    align_manifest(manifest, other, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4, 4) and json.loads(path.read_bytes().splitlines()[0])["model"] == "another"
    assert len(path.read_bytes().splitlines()) == 5


@needs_speech
def test_order_and_batches_change_nothing(tmp_path, monkeypatch, aligner, utterances):
    one = align_manifest(Manifest(tuple(utterances), ()), aligner, tmp_path / "one")
    monkeypatch.setitem(align_manifest.__globals__["BATCH_FRAMES"], "cpu", 300)
    two = align_manifest(Manifest(tuple(utterances[::-1]), ()), aligner, tmp_path / "two", workers=2)
    assert set(one) == set(two) == {utterance.id for utterance in utterances}
    assert all(np.array_equal(one[identity].phones, two[identity].phones) for identity in one)
    apart = np.concatenate([np.abs(one[identity].ends - two[identity].ends) for identity in one])
    # Some processors add up the products of larger batches in another order, which may move a border that is a tie.
    assert apart.max() <= 1 and np.count_nonzero(apart) <= len(apart) // 50


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=FILE_NAME):
        AlignmentStore.open(tmp_path)
    header = json.dumps({"format": 2, "model": ""})
    (tmp_path / FILE_NAME).write_text(
        f"{header}\n" + json.dumps({"id": "a", "text": "b", "failure": "c"}) + "\nnot json\n"
    )
    with pytest.raises(DataError, match="line 3"):
        AlignmentStore.open(tmp_path)
    (tmp_path / FILE_NAME).write_text(json.dumps({"id": "a", "text": "b", "failure": "c"}) + "\n")
    with pytest.raises(DataError, match="another version"):
        AlignmentStore.open(tmp_path)
