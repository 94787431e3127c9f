"""What reads bytes from outside, for `benchmarks/fuzz.py`: each with inputs to begin from, and a call that reads one.

A call may raise a `RillError`, which is a message for the user, and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import sys
import tempfile
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
MOST_SECONDS = 600.0  # of one audio file that are decoded: more is no news


@dataclass(frozen=True)
class Target:
    """A reader."""

    name: str
    seeds: list[bytes]
    read: Callable[[bytes], object]


def targets(folder: Path) -> list[Target]:
    """All readers; ``folder`` is for what they need on disk."""
    return [*audio_targets(), *text_targets(folder), *folder_targets(folder), *protocol_targets()]


def audio_targets() -> list[Target]:
    from sounds import Track, write

    from asr.audio.files import AudioFile, RawAudio
    from asr.audio.pipes import looks_like_a_file

    seeds = []
    kinds = {
        **{"wav": "pcm_s16le", "w64": "pcm_s16le", "flac": "flac", "mp3": "libmp3lame", "adts": "aac", "ac3": "ac3"},
        **{"mp4": "aac", "mov": "pcm_s16le", "matroska": "libopus", "webm": "libopus", "ogg": "libopus"},
        **{"mpegts": "aac", "mpeg": "mp2", "flv": "aac", "avi": "pcm_s16le", "aiff": "pcm_s16be", "au": "pcm_s16be"},
        **{"caf": "pcm_s16le", "wv": "wavpack", "tta": "tta", "nut": "flac", "amr": "libopencore_amrnb", "rm": "ac3"},
    }
    for format, codec in kinds.items():
        rate = {"amr": 8_000, "flv": 44_100}.get(format, 48_000)
        for track in (Track(codec, rate, 0.5), Track(codec, rate, 0.5, starts=2.0, jump=(0.2, 3.0))):
            try:
                seeds.append(write([track], format))
            except Exception as error:  # noqa: BLE001 (what this PyAV cannot write is no seed)
                print(f"no seed of {format}: {error}", file=sys.stderr)
                break
    tracks = [Track("aac", seconds=0.3, language="fra"), Track("aac", seconds=0.3, language="eng")]
    seeds += [write(tracks, format, video_seconds=0.3) for format in ("matroska", "mp4", "mpegts")]
    seeds += [write([Track("aac", seconds=0.3)], "mp4", options={"movflags": "frag_keyframe+empty_moov"})]
    links = [
        write([Track("flac", rate, 0.3, layout=layout)], "ogg")
        for rate, layout in ((16_000, "mono"), (48_000, "stereo"))
    ]
    seeds += [b"".join(links), b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile a.wav\n"]

    def drained(audio: AudioFile | RawAudio) -> None:
        heard = 0
        with audio:
            for block in audio:
                assert block.dtype == np.float32 and block.ndim == 1
                heard += len(block)
                if heard > MOST_SECONDS * 16_000:
                    break

    def piped(data: bytes) -> None:
        if looks_like_a_file(data[:400]):
            drained(AudioFile(SimpleNamespace(read=io.BytesIO(data).read, name="pipe"), 16_000))
        drained(RawAudio(io.BytesIO(data), "raw", 8_000, 16_000))

    return [
        Target("audio file", seeds, lambda data: drained(AudioFile(io.BytesIO(data), 16_000))),
        Target("audio pipe", seeds, piped),
    ]


def text_targets(folder: Path) -> list[Target]:
    from asr.data.manifest import read_manifest
    from asr.lm.grammar import read_grammar
    from asr.lm.hotwords import read_hotwords
    from asr.words.lexicon import read_entries

    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(3_200))
    path = folder / "given.tsv"

    def reading(read: Callable[[Path], object]) -> Callable[[bytes], None]:
        def call(data: bytes) -> None:
            path.write_bytes(data)
            read(path)

        return call

    table = b"id\tpath\ttext\tsource\nu1\ta.wav\tHELLO WORLD\tx\nu2\tb.wav\tGOOD MORNING\ty\n"
    shards = b"id\tshard\tsource\tspeaker\tseconds\ttext\nu1\ta.tar\tx\ts\t1.5\tHELLO\n"
    grammar = b"# lights\n<room> = kitchen | living room\n(turn | switch) (on | off) the light [in the <room>]\nstop\n"
    lexicon = b"hello HH AH L OW\nhello HH EH L OW\nrill R IH L\n# a comment\n"
    return [
        Target("table", [table, shards, table.replace(b"\t", b",")], reading(read_manifest)),
        Target("lexicon", [lexicon, lexicon.upper()], reading(read_entries)),
        Target("bare lexicon", [b"hello\nrill R IH L\n"], reading(lambda path: read_entries(path, bare_words=True))),
        Target("grammar", [grammar], reading(read_grammar)),
        Target("hotwords", [b"anna:2\nnew york:3.5\nrill\n"], reading(read_hotwords)),
    ]


def folder_targets(folder: Path) -> list[Target]:
    from small_lm import write_small_lm

    from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage, find_model
    from asr.decoding.beam import GraphDecoder
    from asr.lm.folder import LanguageModel
    from asr.words.tokens import PHONES, TokenTable

    (folder / "small").mkdir()
    language = write_small_lm(folder / "small")
    phones = TokenTable(PHONES)
    files = {file.name: file.read_bytes() for file in language.iterdir()}

    def opened_language(name: str, signed: bool) -> Callable[[bytes], None]:
        """Read the folder with one file changed; ``signed``: and with the checksum that fits."""

        def read(data: bytes) -> None:
            with tempfile.TemporaryDirectory(dir=folder) as copy:
                for other, content in files.items():
                    (Path(copy) / other).write_bytes(data if other == name else content)
                if signed:
                    config = json.loads(files["config.json"])
                    config["files"][name] = hashlib.sha256(data).hexdigest()
                    (Path(copy) / "config.json").write_text(json.dumps(config))
                model = LanguageModel.open(Path(copy), phones)
                decoder = GraphDecoder(model)
                rows = np.log(np.full((5, len(phones)), 1 / len(phones), np.float32))
                decoder.best(decoder.advance(decoder.start(), rows))

        return read

    model = find_model(DEFAULT_MODEL)

    def opened_model(name: str) -> Callable[[bytes], None]:
        def read(data: bytes) -> None:
            with tempfile.TemporaryDirectory(dir=folder) as copy:
                for other in model.iterdir():
                    if other.name != name:
                        (Path(copy) / other.name).symlink_to(other)
                (Path(copy) / name).write_bytes(data)
                package = ModelPackage.open(copy)
                _ = package.language_model, package.phones, package.characters, package.rates

        return read

    return [
        *(
            Target(f"language model: {name}", [files[name]], opened_language(name, signed=False))
            for name in ("config.json", "graph.packed")
        ),
        *(
            Target(f"language model, signed: {name}", [files[name]], opened_language(name, signed=True))
            for name in ("graph.packed", "lexicon.txt")
        ),
        *(
            Target(f"model: {name}", [(model / name).read_bytes()], opened_model(name))
            for name in ("config.json", "phones.txt", "characters.txt")
        ),
    ]


class Deaf:
    """A recogniser that counts samples and finds no words: what is fuzzed is how they come."""

    sample_rate = 16_000
    decoder = "lm"

    def start(self) -> Any:
        return SimpleNamespace(samples=0)

    def step(self, state: Any, samples: np.ndarray) -> tuple[tuple, Any]:
        assert samples.dtype == np.float32 and np.isfinite(samples).all()
        return (), SimpleNamespace(samples=state.samples + len(samples))

    def finish(self, state: Any) -> tuple[tuple, Any]:
        return (), self.start()

    def alternatives(self, state: Any, count: int) -> tuple:
        return ()

    def with_readable(self, readable: bool) -> Deaf:
        return self

    def with_hotwords(self, hotwords: object) -> Deaf:
        return Deaf()

    def with_endpoint(self, rule: object) -> Deaf:
        return self


class Wire:
    """A transport of messages that are known; the client leaves after the last one."""

    client = "fuzz"

    def __init__(self, messages: list[str | bytes]) -> None:
        self._messages = messages

    async def receive(self) -> tuple[str | bytes, int]:
        from asr.server.failures import Gone

        if not self._messages:
            raise Gone(politely=True)
        message = self._messages.pop(0)
        return message, len(message)

    async def send(self, message: Any) -> None:
        json.dumps(message)

    async def close(self, code: int, reason: str) -> None:
        reason.encode()


class Sink:
    """Where a server's answers go on a socket."""

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return ("fuzz", 0)

    def write(self, data: bytes) -> None:
        pass

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        pass


MESSAGES = {
    "stream": [b"binary " * 40, b'{"type": "flush"}', b'{"type": "finish"}'],
    "vosk": [
        b'{"config": {"sample_rate": 8000, "words": true, "max_alternatives": 2, "phrase_list": ["a"]}}',
        b"binary " * 40,
        b'{"reset": 1}',
        b'{"eof": 1}',
    ],
    "realtime": [
        b'{"type": "session.update", "event_id": "e", "session": {"type": "transcription", "audio": {"input": '
        b'{"format": {"type": "audio/pcm", "rate": 24000}, "transcription": {"language": "en"}, '
        b'"turn_detection": {"type": "server_vad", "silence_duration_ms": 500}}}}}',
        b'{"type": "input_audio_buffer.append", "audio": "AAAAAAAAAAAA"}',
        b'{"type": "input_audio_buffer.commit"}',
        b'{"type": "input_audio_buffer.clear"}',
    ],
}
WYOMING = (
    b'{"type": "describe"}\n{"type": "audio-start", "data": {"rate": 16000, "width": 2, "channels": 1}}\n'
    b'{"type": "audio-chunk", "data": {"rate": 16000}, "payload_length": 8}\nabcdefgh'
    b'{"type": "ping", "data_length": 11}\n{"text":"a"}{"type": "audio-stop"}\n'
)


def protocol_targets() -> list[Target]:
    """Whole conversations, as a server leads them; messages of the WebSocket protocols are separated by lines."""
    from asr.server.conversation import converse
    from asr.server.options import ServerOptions
    from asr.server.protocols import openai_realtime, stream, vosk, wyoming
    from asr.server.service import Service

    failures: list[str] = []

    async def led(transport: Callable[[], Any], name: str, begin: Any, complain: Any) -> None:
        def noted(code: str, message: str) -> Any:
            if code == "internal":
                failures.append(message)
            return complain(code, message)

        service = Service(Deaf(), ServerOptions(), "deaf", metrics)
        try:
            await converse(service, transport(), name, lambda send: begin(service, send), noted)
        finally:
            service.close()

    from asr.server.metrics import Metrics

    metrics = Metrics()

    def check(coroutine: Any) -> None:
        failures.clear()
        asyncio.run(coroutine)
        assert not failures, "the server failed; its log says why"

    def over_websocket(name: str, begin: Any, complain: Any) -> Callable[[bytes], None]:
        def read(data: bytes) -> None:
            messages = [_text_or_binary(message) for message in data.split(b"\n")]
            check(led(lambda: Wire(messages), name, begin, complain))

        return read

    def over_socket(data: bytes) -> None:
        def transport() -> Any:
            reader = asyncio.StreamReader(limit=wyoming.LINE_BYTES)
            reader.feed_data(data)
            reader.feed_eof()
            return wyoming.WyomingTransport(reader, Sink(), 1 << 20, 1.0)

        check(led(transport, "wyoming", wyoming.WyomingSpeaker, wyoming.complain))

    return [
        Target(
            "protocol: stream",
            [b"\n".join(MESSAGES["stream"])],
            over_websocket("stream", lambda service, send: stream.StreamSpeaker(service, send, {}), stream.complain),
        ),
        Target(
            "protocol: vosk", [b"\n".join(MESSAGES["vosk"])], over_websocket("vosk", vosk.VoskSpeaker, vosk.complain)
        ),
        Target(
            "protocol: realtime",
            [b"\n".join(MESSAGES["realtime"])],
            over_websocket("realtime", openai_realtime.RealtimeSpeaker, openai_realtime.complain),
        ),
        Target("protocol: wyoming", [WYOMING], over_socket),
    ]


def _text_or_binary(message: bytes) -> str | bytes:
    """As a WebSocket gives it: what looks like JSON is text, if it is UTF-8."""
    if message[:1] in b'{["' or message[:4] in (b"null", b"true"):
        try:
            return message.decode()
        except UnicodeDecodeError:
            pass
    return message
