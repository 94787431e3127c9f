import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.data.alignments import FILE_NAME, AlignmentStore, align_manifest
from asr.data.manifest import Manifest, load_audio, read_manifest
from asr.data.phone_alignment import SILENCE, Aligner, AlignmentError, align
from asr.errors import DataError
from asr.words.lexicon import Lexicon
from asr.words.text import normalise
from asr.words.tokens import PHONES

pytest.importorskip("pocketsphinx")
ROOT = Path(__file__).resolve().parents[1]
DEV = ROOT.parent / "shared" / "data" / "speech" / "dev.tsv"
needs_speech = pytest.mark.skipif(not DEV.is_file(), reason="the development recordings are not on this machine")


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon.load()


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


def check(alignment, samples, text, lexicon):
    """What holds for every alignment, whatever was said."""
    assert alignment.frames == (len(samples) - 400) // 160 + 1
    assert alignment.phones[0].start_frame == 0 and alignment.phones[-1].end_frame == alignment.frames
    for before, after in zip(alignment.phones, alignment.phones[1:], strict=False):
        assert before.end_frame == after.start_frame
        assert not before.phone == after.phone == SILENCE
    assert [word.text for word in alignment.words] == text.split()
    for before, after in zip(alignment.words, alignment.words[1:], strict=False):
        assert before.start_seconds < before.end_seconds <= after.start_seconds
    ids = alignment.phone_ids()
    assert ids.dtype == np.int8 and ids.shape == (alignment.frames,)
    for word in alignment.words:
        inside = [
            phone
            for phone, start, end in alignment.phones
            if round(word.start_seconds * 100) <= start and end <= round(word.end_seconds * 100)
        ]
        assert tuple(inside) in lexicon.pronounce(word.text)


@needs_speech
def test_recordings_align_with_their_text(lexicon, utterances):
    aligner = Aligner(lexicon.pronounce)
    for utterance in utterances:
        samples = load_audio(utterance)
        alignment = aligner.align(samples, utterance.text)
        check(alignment, samples, utterance.text, lexicon)
        assert -35 < alignment.score < -5


@needs_speech
def test_another_text_scores_far_worse_or_fails(lexicon, utterances):
    aligner = Aligner(lexicon.pronounce)
    for utterance, other in zip(utterances, utterances[1:], strict=False):
        samples = load_audio(utterance)
        right = aligner.align(samples, utterance.text).score
        try:
            assert aligner.align(samples, other.text).score < right - 15
        except AlignmentError:
            pass
        assert aligner.align(samples, utterance.text).score == right  # whatever came before


@needs_speech
def test_silence_before_the_speech_moves_all_times(lexicon, utterances):
    samples = load_audio(utterances[0])
    noise = 1e-4 * np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    plain = align(samples, utterances[0].text, lexicon)
    later = align(np.concatenate([noise, samples]), utterances[0].text, lexicon)
    shifts = [b.start_seconds - a.start_seconds for a, b in zip(plain.words, later.words, strict=True)]
    assert np.median(shifts) == pytest.approx(0.5, abs=0.03)


@needs_speech
def test_int16_and_float_samples_align_alike(lexicon, utterances):
    samples = load_audio(utterances[1])
    integers = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
    assert align(samples, utterances[1].text, lexicon) == align(integers, utterances[1].text, lexicon)


def test_synthetic_speech_aligns(lexicon):
    soundfile = pytest.importorskip("soundfile")
    recordings = [path for path in sorted((ROOT / "samples").glob("*.wav")) if path.with_suffix(".txt").is_file()]
    if not recordings:
        pytest.skip("there are no sample recordings with a text")
    aligned = 0
    for path in recordings[:4]:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        if rate != 16000:
            continue
        text = normalise(path.with_suffix(".txt").read_text(encoding="utf-8"))
        check(align(samples[:, 0], text, lexicon), samples, text, lexicon)
        aligned += 1
    assert aligned


def test_what_cannot_be_aligned_is_refused(lexicon):
    noise = 0.1 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    with pytest.raises(AlignmentError, match="empty"):
        align(noise, "", lexicon)
    with pytest.raises(AlignmentError, match="too few"):
        align(noise, "far too many words for one single second of audio to hold them all", lexicon)
    with pytest.raises(AlignmentError, match="too few"):
        align(noise[:10], "one", lexicon)
    with pytest.raises(DataError, match="Hello"):
        align(noise, "Hello", lexicon)


@needs_speech
def test_a_manifest_is_aligned_once_and_what_failed_is_told(tmp_path, lexicon, utterances):
    torn = replace(utterances[2], id="torn", audio=replace(utterances[2].audio, size=100))
    long = replace(utterances[2], id="long", text=" ".join(["extraordinary"] * 200))
    manifest = Manifest((utterances[0], torn, long, utterances[1]), ())
    seen = []
    store = align_manifest(manifest, lexicon, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert set(store.failures) == {"torn", "long"} and "torn" in store.failures["torn"]
    assert len(store) == 2 and set(store) == {utterances[0].id, utterances[1].id}
    expected = align(load_audio(utterances[0]), utterances[0].text, lexicon)
    assert np.array_equal(store.phones(utterances[0].id), expected.phone_ids())
    assert store.words(utterances[0].id) == expected.words
    assert store.score(utterances[0].id) == expected.score
    assert store.phones("torn") is store.words("torn") is store.score("torn") is store.phones("unknown") is None
    assert store.phones(utterances[0].id).max() < len(PHONES)

    # Killed while a line was written: what is whole stays, the rest is computed again.
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert len(AlignmentStore.open(tmp_path)) == 1
    seen.clear()
    align_manifest(manifest, lexicon, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 4)] and path.read_bytes() == whole

    # A corrected transcript is aligned anew.
    words = utterances[1].text.split()
    corrected = replace(utterances[1], text=" ".join(words[:-1]))
    store = align_manifest(Manifest((utterances[0], corrected), ()), lexicon, tmp_path)
    assert [word.text for word in store.words(corrected.id)] == words[:-1]


@needs_speech
def test_processes_and_order_change_nothing(tmp_path, lexicon, utterances):
    manifest = Manifest(tuple(utterances), ())
    one = align_manifest(manifest, lexicon, tmp_path / "one")
    two = align_manifest(Manifest(tuple(utterances[::-1]), ()), lexicon, tmp_path / "two", workers=2)
    assert set(one) == set(two) == {utterance.id for utterance in utterances}
    assert all(np.array_equal(one.phones(identity), two.phones(identity)) for identity in one)


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=FILE_NAME):
        AlignmentStore.open(tmp_path)
    (tmp_path / FILE_NAME).write_text(json.dumps({"id": "a", "text": "b", "failure": "c"}) + "\nnot json\n")
    with pytest.raises(DataError, match="line 2"):
        AlignmentStore.open(tmp_path)
