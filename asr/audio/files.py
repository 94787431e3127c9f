"""Audio in: files of any format and raw samples, decoded piece by piece to float32 mono."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from asr.audio.samples import as_samples
from asr.errors import AudioError
from asr.streaming.sources import Resampler

if TYPE_CHECKING:
    import av

READ_BYTES = 64 * 1024

# Containers that state how long the audio is (others, like mp3 without a Xing header, only let one guess).
STATES_LENGTH = {"flac", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"}
UNKNOWN_RIFF_SIZE = 0x7FFF0000  # programs that write WAV into a pipe put a size from here on, or 0

SIGNATURES = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM", b".snd", b"caff", b"\x1aE\xdf\xa3")  # the last: webm


def looks_like_a_file(head: bytes) -> bool:
    """Whether the first bytes of a stream are those of an audio file; ffmpeg would find an mp3 in any noise."""
    mpeg = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06 != 0
    return head.startswith(SIGNATURES) or head[4:8] == b"ftyp" or mpeg


class AudioFile:
    """The audio of any file ffmpeg can open, as float32 mono blocks at the rate asked for.

    Iterating decodes piece by piece: memory does not grow with the length of the file. It can be done once. Several
    channels become one by their average, surround sound by ffmpeg's downmix. Packets that do not decode are skipped.
    """

    seconds: float | None  # length as the file states or ffmpeg estimates it; None when unknown
    damage: str | None  # after iterating: why a part of the audio is missing; None when it is whole

    def __init__(self, source: str | os.PathLike[str] | BinaryIO, sample_rate: int) -> None:
        """Open a file and find its first audio track.

        Args:
            source: a path, or a binary stream, seekable or not.
            sample_rate: in Hz, of the blocks to give out.
        Raises:
            AudioError: missing, a folder, empty, unreadable, not audio.
        """
        import av

        path = None if hasattr(source, "read") else Path(os.fspath(source))
        self.name = str(getattr(source, "name", "audio") if path is None else path).strip("<>")  # "<stdin>"
        self.sample_rate = sample_rate
        if path is not None:
            _check_file(path)
        try:
            # Playlists inside a file must not make ffmpeg open other addresses.
            self._container: av.container.InputContainer = av.open(
                source if path is None else str(path.absolute()),
                metadata_errors="ignore",
                container_options={"protocol_whitelist": "file"},
            )
        except PermissionError as error:
            raise AudioError(f"{self.name}: no permission to read it") from error
        except (av.FFmpegError, OSError, ValueError) as error:
            raise AudioError(
                f"{self.name}: is no audio file, or a damaged one; give wav, flac, mp3, m4a, ogg, webm, mp4 or the like"
            ) from error
        self._track = self._container.streams.best("audio")
        if self._track is None:
            self._container.close()
            raise AudioError(f"{self.name}: there is no audio in it; give a file with an audio track")
        self.damage = None
        self.seconds, self._exact = _stated_seconds(self._container, self._track, path)

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Give blocks (N,) float32.

        Raises:
            AudioError: there is not one sample in the file.
        """
        heard_seconds = 0.0
        skipped = 0
        resampler: Resampler | None = None
        rate = 0
        for samples, frame_rate in self._decoded():
            if samples is None:
                skipped += 1
                continue
            if resampler is None or frame_rate != rate:  # a radio recording may change its rate half-way
                if resampler is not None:
                    yield resampler.flush()
                resampler, rate = Resampler(frame_rate, self.sample_rate), frame_rate
            heard_seconds += len(samples) / rate
            yield resampler.push(samples)
        if resampler is None:
            problem = "is damaged: none of its audio can be decoded" if skipped else "holds no audio: it is 0 s long"
            raise AudioError(f"{self.name}: {problem}")
        yield resampler.flush()
        self.damage = self._damage(heard_seconds, skipped)

    def _damage(self, heard_seconds: float, skipped: int) -> str | None:
        if self._exact and self.seconds is not None and self.seconds - heard_seconds > max(0.5, 0.01 * self.seconds):
            return (
                f"{self.name}: truncated: it should last {self.seconds:.1f} s and ends at {heard_seconds:.1f} s; "
                "only what is there was transcribed"
            )
        if skipped:
            return f"{self.name}: damaged: {skipped} of its packets cannot be decoded; only the rest was transcribed"
        return None

    def _decoded(self) -> Iterator[tuple[np.ndarray | None, int]]:
        """Mono float32 samples and their rate, frame by frame; None for a packet that cannot be decoded."""
        import av

        converter = _MonoConverter()
        packets = self._container.demux(self._track)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError:  # the container itself breaks off here
                yield None, 0
                return
            try:
                frames = packet.decode()
            except av.FFmpegError:
                yield None, 0
                continue
            for frame in frames:
                if frame.samples:
                    yield as_samples(converter(frame), self.name), frame.sample_rate


class _MonoConverter:
    """Decoded frames of any sample format and channel layout -> (N,) float32."""

    def __init__(self) -> None:
        self._resampler: Any = None
        self._channels = 0
        self._setup: tuple[str, str, int] | None = None

    def __call__(self, frame: av.AudioFrame) -> np.ndarray:
        import av

        setup = (frame.format.name, frame.layout.name, frame.sample_rate)
        if setup != self._setup:
            # ffmpeg knows which speaker is which in surround sound; channels without such names count alike.
            surround = frame.layout.nb_channels > 2 and not frame.layout.name.endswith("channels")
            layout = "mono" if surround else frame.layout
            self._channels = 1 if surround else frame.layout.nb_channels
            self._resampler, self._setup = av.AudioResampler(format="flt", layout=layout), setup
        # Packed samples (1, N * channels): PyAV crashes on the planes of a planar frame from the eighth channel on.
        pieces = [piece.to_ndarray().reshape(-1, self._channels) for piece in self._resampler.resample(frame)]
        samples = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return samples[:, 0] if self._channels == 1 else samples.mean(axis=1)


class RawAudio:
    """Headerless signed 16-bit little-endian mono samples from a stream, as float32 blocks at the rate asked for."""

    seconds = None
    damage = None

    def __init__(self, stream: BinaryIO, name: str, source_rate: int, sample_rate: int) -> None:
        self.name = name
        self.sample_rate = sample_rate
        self._stream = stream
        self._source_rate = source_rate

    def __enter__(self) -> RawAudio:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[np.ndarray]:
        """Give blocks (N,) float32; raises AudioError when there is not one sample."""
        resampler = Resampler(self._source_rate, self.sample_rate)
        odd = b""
        empty = True
        read = getattr(self._stream, "read1", self._stream.read)  # read1 gives what is there, without waiting for more
        while data := read(READ_BYTES):
            data = odd + data
            whole = len(data) - len(data) % 2
            odd = data[whole:]
            empty = empty and not whole
            yield resampler.push(as_samples(np.frombuffer(data[:whole], "<i2").astype(np.int16)))
        if empty:
            raise AudioError(f"{self.name}: holds no audio: it is 0 s long")
        yield resampler.flush()


def _check_file(path: Path) -> None:
    """Tell what ffmpeg would call invalid data for what it is."""
    if path.is_dir():
        raise AudioError(f"{path}: is a folder; give the audio files in it")
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise AudioError(f"{path}: is empty; give a file with audio in it")
        path.stat()
    except FileNotFoundError as error:
        raise AudioError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise AudioError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _stated_seconds(container: Any, track: Any, path: Path | None) -> tuple[float | None, bool]:
    """How long the audio should be, and whether the file says so itself."""
    seconds = None
    if track.duration is not None:
        seconds = float(track.duration * track.time_base)
    elif container.duration is not None and len(container.streams) == 1:
        seconds = container.duration / 1_000_000  # microseconds
    name = container.format.name
    if name == "wav" and path is not None and path.is_file() and seconds:
        return _wav_seconds(path, seconds)
    if name == "mp3" and path is not None and path.is_file():
        with path.open("rb") as file:
            head = file.read(READ_BYTES)
        return seconds, b"Xing" in head or b"Info" in head
    return seconds, name in STATES_LENGTH


def _wav_seconds(path: Path, seconds: float) -> tuple[float, bool]:
    """The length the RIFF header promises; ffmpeg reports what the size of the file allows."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
    promised = int.from_bytes(head[4:8], "little") + len(head)
    if head[:4] == b"RIFF" and size < promised < UNKNOWN_RIFF_SIZE:
        return seconds * promised / size, True
    return seconds, True
