"""Files that name others: playlists, lists, manifests. None of them may make Rill open what it names."""

from __future__ import annotations

import io
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import wav_bytes
from sounds import RATE, Track, heard, saved, tone, write

from asr.audio.files import AudioFile
from asr.errors import AudioError

KINDS: dict[str, Callable[[str], str]] = {
    "m3u8": lambda url: f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
    "master.m3u8": lambda url: f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9\n{url}\n",
    "map.m3u8": lambda url: f'#EXTM3U\n#EXT-X-MAP:URI="{url}"\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n',
    "key.m3u8": lambda url: f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF:1,\na.ts\n',
    "ffconcat": lambda url: f"ffconcat version 1.0\nfile '{url}'\n",
    "mpd": lambda url: (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" '
        f'bandwidth="9"><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    ),
    "sdp": lambda url: "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "json": lambda url: '{"captions":[{"duration":1,"content":"hello","startOfParagraph":true,"startTime":0}]}',
    "m3u": lambda url: f"#EXTM3U\n{url}\n",
    "pls": lambda url: f"[playlist]\nFile1={url}\nNumberOfEntries=1\n",
    "sbg": lambda url: "-SE\n00:00 on\non: pink/40 100+1/20\n",
    "txt": lambda url: f"file {url}\n",
}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return saved(tmp_path, "private.wav", wav_bytes(tone()))


def opened(source: object) -> str:
    with pytest.raises(AudioError) as caught:
        heard(source)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["", ".wav"])
def test_no_list_is_opened_whatever_its_name(tmp_path, target, kind, ending):
    for url in (str(target), target.as_uri(), target.name, f"concat:{target}", f"subfile,,start,0,end,0,,:{target}"):
        text = KINDS[kind](url).encode()
        path = saved(tmp_path, f"list.{kind}{ending}", text)
        upload = io.BytesIO(text)
        upload.name = path.name
        assert opened(path).startswith(f"{path}: is no audio file")
        assert "is no audio file" in opened(upload)


@pytest.mark.parametrize("kind", KINDS)
def test_no_pipe_that_a_list_names_is_opened(tmp_path, kind):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # Opening it to write fails while nothing reads it; to read, it would wait for ever, and so this test.
    writer = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    os.write(writer, wav_bytes(tone()))
    try:
        opened(saved(tmp_path, f"list.{kind}", KINDS[kind](str(pipe)).encode()))
        assert len(os.read(writer, 1 << 20)) == len(wav_bytes(tone()))
    finally:
        os.close(writer)


@pytest.mark.parametrize("kind", KINDS)
def test_no_address_that_a_list_names_is_called(tmp_path, kind):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        for scheme in ("http", "tcp", "rtmp", "ftp"):
            url = f"{scheme}://127.0.0.1:{port}/a.wav"
            opened(saved(tmp_path, f"list.{kind}", KINDS[kind](url).encode()))
            opened(io.BytesIO(KINDS[kind](url).encode()))
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("name", ["a%03d.wav", "http:", "concat:private.wav|private.wav", "file:private.wav", "-"])
def test_a_name_is_a_name(tmp_path, target, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert opened(name) == f"{name}: no such file"
    (tmp_path / name).write_bytes(target.read_bytes())
    assert len(heard(name)[0]) == RATE


def test_sound_kept_in_another_file_is_not_fetched(tmp_path, target):
    """QuickTime may name the file that holds its samples."""
    data = write([Track("pcm_s16le", RATE)], "mov")
    assert len(heard(io.BytesIO(data))[0]) == 2 * RATE
    elsewhere = _with_external_data(data, str(target))
    assert b"private.wav" in elsewhere and elsewhere != data
    path = saved(tmp_path, "a.mov", elsewhere)
    try:
        samples, _ = heard(path)
    except AudioError:
        return
    assert np.array_equal(samples, heard(io.BytesIO(data))[0]), "what is in the file itself, and nothing else"


def _with_external_data(data: bytes, path: str) -> bytes:
    """The same movie whose data reference is an alias of another file."""
    name, folder = path.rsplit("/", 1)[1].encode(), path.rsplit("/", 1)[0].encode()
    alias = bytearray(150)
    alias[4:6], alias[10:11] = struct.pack(">H", 2), bytes([27])
    alias[50:51], alias[51 : 51 + len(name)] = bytes([len(name)]), name
    for kind, value in ((2, folder.replace(b"/", b":") + b":" + name), (18, path.encode()), (0xFFFF, b"")):
        alias += struct.pack(">HH", kind, len(value)) + value + b"\0" * (len(value) % 2)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + bytes(alias)
    dref = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry

    def rebuilt(boxes: bytes) -> bytes:
        at, parts = 0, []
        while at < len(boxes):
            size, kind = struct.unpack(">I4s", boxes[at : at + 8])
            body = boxes[at + 8 : at + size]
            if kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
                body = rebuilt(body)
                parts.append(struct.pack(">I4s", 8 + len(body), kind) + body)
            else:
                parts.append(dref if kind == b"dref" else boxes[at : at + size])
            at += size
        return b"".join(parts)

    return rebuilt(data)


def test_a_folder_gives_its_recordings_and_nothing_that_a_list_in_it_names(asr, tmp_path, target, model_folder):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.wav").write_bytes(KINDS["m3u8"](str(target)).encode())
    answer = asr("transcribe", folder, "--model", model_folder, "--decoder", "greedy")
    assert answer.returncode == 1 and answer.stdout == ""
    assert "a.wav: is no audio file" in answer.stderr


def test_the_name_of_an_upload_opens_nothing(tmp_path, target):
    text = io.BytesIO(b"no sound")
    text.name = str(target)
    assert "is no audio file" in opened(text)


def test_what_is_opened_is_closed(tmp_path, target):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    heard(target)
    opened(saved(tmp_path, "a.wav", b"no sound" * 99))
    with AudioFile(target, RATE):
        pass
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before
