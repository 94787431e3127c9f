"""Reading tables of utterances and their audio, good and bad."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from asr.data.manifest import AudioLocation, Utterance, load_audio, merge, read_manifest
from asr.errors import AudioError, DataError

SPEECH = Path(__file__).resolve().parents[2] / "shared" / "data" / "speech"
needs_speech = pytest.mark.skipif(not (SPEECH / "dev.tsv").is_file(), reason="the speech data folder is not here")
RATE = 16_000


def tone(seconds: float, rate: int = RATE, hertz: float = 440.0, channels: int = 1) -> np.ndarray:
    wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)
    return wave if channels == 1 else np.stack([wave] * channels, axis=1)


def encoded(samples: np.ndarray, rate: int = RATE, kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind)
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def write_table(folder: Path, rows: str, name: str = "train.tsv") -> Path:
    path = folder / name
    path.write_text(rows, encoding="utf-8")
    return path


def utterance(path: Path, **location) -> Utterance:
    return Utterance("spoken", "hello", 1.0, "", "", AudioLocation(path, **location))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one.wav").write_bytes(encoded(tone(1.0)))
    write_tar(tmp_path / "a.tar", {"first.wav": encoded(tone(0.5)), "second.flac": encoded(tone(0.7), kind="FLAC")})
    return tmp_path


def test_paths_and_shards_in_one_table(folder):
    table = write_table(
        folder,
        "id\tshard\tpath\ttext\tspeaker\n"
        "first\ta.tar\t\tDON'T   SHOUT\tann\n"
        "second\ta.tar\t\tsemi-prehensile\t\n"
        "third\t\tone.wav\tHello, world\tbob\n",
    )
    manifest = read_manifest(table)
    assert not manifest.rejected
    assert [u.text for u in manifest.utterances] == ["don't shout", "semi prehensile", "hello world"]
    assert [u.speaker for u in manifest.utterances] == ["ann", "", "bob"]
    assert [round(u.seconds, 2) for u in manifest.utterances] == [0.5, 0.7, 1.0]  # from the audio: no such column
    for row, seconds in zip(manifest.utterances, (0.5, 0.7, 1.0), strict=True):
        samples = load_audio(row)
        assert samples.dtype == np.float32 and samples.size == round(seconds * RATE)
        assert np.allclose(samples, tone(seconds), atol=1e-4)


def test_csv_quotes_protect_commas_and_tsv_quotes_are_text(folder):
    csv_table = write_table(folder, 'id,path,text\nx,one.wav,"well, yes"\n', "t.csv")
    assert read_manifest(csv_table).utterances[0].text == "well yes"
    tsv_table = write_table(folder, 'id\tpath\ttext\nx\tone.wav\t"well\ny\tone.wav\tyes\n')
    assert [u.text for u in read_manifest(tsv_table).utterances] == ["well", "yes"]


def test_every_bad_row_is_named_with_its_line_and_reason(folder):
    rows = [
        ("first\ta.tar\t0.5\tyes", None),
        ("first\ta.tar\t0.5\tagain", "already used on line 2"),
        ("second\ta.tar\t0.7", "no column text"),
        ("second-b\ta.tar\t0.7\tyes\tmore", "5 columns"),
        ("\ta.tar\t0.7\tyes", "id is empty"),
        ("third\ta.tar\t0.7\t ", "text is empty"),
        ("fourth\ta.tar\t0.7\troom 101", "'0' '1'"),
        ("fifth\ta.tar\t0.7\tcafé", "'é'"),
        ("sixth\ta.tar\t0.7\tyes", "no member sixth"),
        ("seventh\tb.tar\t0.7\tyes", "b.tar is missing"),
        ("second\ta.tar\tlong\tyes", "'long', which is not a number"),
        ("second\ta.tar\t-1\tyes", "must be positive"),
        ("ninth\t\t1\tyes", "neither a path nor a shard"),
    ]
    table = write_table(folder, "id\tshard\tseconds\ttext\n" + "\n".join(row for row, _ in rows) + "\n")
    manifest = read_manifest(table)
    assert [u.id for u in manifest.utterances] == ["first"]
    expected = [(line, row.split("\t")[0], why) for line, (row, why) in enumerate(rows, start=2) if why]
    assert len(manifest.rejected) == len(expected)
    for rejected, (line, identity, why) in zip(manifest.rejected, expected, strict=True):
        assert (rejected.line, rejected.id) == (line, identity)
        assert why in rejected.reason and "\n" not in rejected.reason


def test_missing_and_damaged_files_named_by_path(folder):
    (folder / "text.wav").write_text("this is not audio")
    table = write_table(
        folder, "id\tpath\ttext\nok\tone.wav\tyes\ngone\tno.wav\tyes\ntext\ttext.wav\tyes\ndir\t.\tyes\n"
    )
    manifest = read_manifest(table)
    assert [u.id for u in manifest.utterances] == ["ok"]
    assert [(r.id, r.line) for r in manifest.rejected] == [("gone", 3), ("text", 4), ("dir", 5)]
    reasons = "is missing", "text.wav: is no audio file", "is a folder"
    for rejected, why in zip(manifest.rejected, reasons, strict=True):
        assert why in rejected.reason


def test_torn_tar_keeps_what_is_whole_and_names_the_rest(folder):
    whole = (folder / "a.tar").read_bytes()
    with tarfile.open(folder / "a.tar") as tar:
        second = tar.getmember("second.flac")
    rows = "id\tshard\ttext\tseconds\nfirst\ta.tar\tyes\t1\nsecond\ta.tar\tyes\t1\n"
    for length in (second.offset_data + second.size // 2, second.offset + 100):  # within the audio, within the header
        (folder / "a.tar").write_bytes(whole[:length])
        manifest = read_manifest(write_table(folder, rows))
        assert [u.id for u in manifest.utterances] == ["first"]
        assert [r.id for r in manifest.rejected] == ["second"]
        reason = manifest.rejected[0].reason
        assert "a.tar" in reason and ("cut short" in reason or "torn" in reason)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "must name id, text"),
        (b"id\tshard\tseconds\nx\ta.tar\t1\n", "must name id, text"),
        (b"id\ttext\nx\tyes\n", "either path or shard"),
        (b"id\tshard\ttext\n", "no usable row"),
        (b"id\tshard\ttext\nx\ta.tar\t12\n", "no usable row.*line 2"),
        (b"RIFF\xff\xfe\x00\x01", "not UTF-8"),
        (b'id,path,text\nx,one.wav,"yes\n', "not a table|no usable row"),
    ],
)
def test_tables_that_cannot_be_used(folder, content, why):
    table = folder / "bad.tsv"
    table.write_bytes(content)
    with pytest.raises(DataError, match=why) as raised:
        read_manifest(table)
    assert "bad.tsv" in str(raised.value) and "\n" not in str(raised.value)


def test_no_table(folder):
    with pytest.raises(DataError, match="missing"):
        read_manifest(folder / "none.tsv")
    with pytest.raises(DataError, match="folder"):
        read_manifest(folder)


@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_for_a_table_are_an_answer_or_a_data_error(tmp_path_factory, content):
    table = tmp_path_factory.getbasetemp() / "fuzz.tsv"
    table.write_bytes(b"id\tpath\ttext\n" + content)
    with pytest.raises(DataError):
        read_manifest(table)


def test_merge_keeps_order_and_refuses_a_repeated_id(folder):
    one = read_manifest(write_table(folder, "id\tpath\ttext\nx\tone.wav\tyes\nbad\tone.wav\t7\n"))
    two = read_manifest(write_table(folder, "id\tpath\ttext\ny\tone.wav\tno\n"))
    merged = merge([one, two])
    assert [u.id for u in merged.utterances] == ["x", "y"] and [r.id for r in merged.rejected] == ["bad"]
    with pytest.raises(DataError, match="'x'"):
        merge([one, one])


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3"])
def test_any_rate_comes_out_at_the_models(tmp_path, rate, kind):
    path = tmp_path / "audio"
    path.write_bytes(encoded(tone(1.0, rate, channels=2), rate, kind))
    samples = load_audio(utterance(path))
    assert abs(samples.size - RATE) <= (0 if kind != "MP3" else 0.1 * RATE)  # MP3 pads to whole frames
    spectrum = np.abs(np.fft.rfft(samples[:RATE] * np.hanning(min(RATE, samples.size))))
    assert abs(spectrum.argmax() * RATE / min(RATE, samples.size) - 440) < 2
    assert np.sqrt(np.mean(samples[2000:14000] ** 2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.02)  # level kept


@pytest.mark.parametrize("content", [b"", b"not audio", encoded(tone(0.5))[:44]], ids=["empty", "text", "header"])
def test_unusable_audio_names_the_utterance(tmp_path, content):
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"utterance spoken: .*bad\.wav") as raised:
        load_audio(utterance(path))
    assert "\n" not in str(raised.value)


def test_audio_that_is_missing_cut_or_not_finite(tmp_path):
    with pytest.raises(AudioError, match="spoken"):
        load_audio(utterance(tmp_path / "none.wav"))
    whole = encoded(tone(2.0), kind="FLAC")
    path = tmp_path / "half.flac"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match="spoken: .*half.flac"):
        load_audio(utterance(path))
    path = tmp_path / "nan.wav"
    soundfile.write(path, np.full(1000, np.nan, np.float32), RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN or infinite"):
        load_audio(utterance(path))
    with pytest.raises(AudioError, match="cut short"):
        load_audio(utterance(path, offset=100, size=10**6))


@needs_speech
def test_real_speech_of_every_source():
    manifest = read_manifest(SPEECH / "dev.tsv")
    assert len(manifest.utterances) == 387 and not manifest.rejected
    for source in {u.source for u in manifest.utterances}:
        row = next(u for u in manifest.utterances if u.source == source)
        samples = load_audio(row)
        assert samples.size / RATE == pytest.approx(row.seconds, abs=0.05)
        assert 0.001 < np.abs(samples).max() <= 1.5
