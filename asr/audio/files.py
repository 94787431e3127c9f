"""Audio in: files of any format and raw samples, decoded piece by piece to float32 mono."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from asr.audio.clock import Clock
from asr.audio.containers import Source, is_seekable, open_container, suffix_of
from asr.audio.lengths import STAMPED, first_stamp, stated_length
from asr.audio.ogg import CAPTURE, OggLinks, is_chain
from asr.audio.pipes import Pipe, readable
from asr.audio.samples import RATES_HZ, as_samples
from asr.audio.tracks import choose_track
from asr.errors import AudioError
from asr.streaming.sources import Resampler

if TYPE_CHECKING:
    import av

READ_BYTES = 64 * 1024
SILENCE_SECONDS = 1.0  # given out at once in place of a gap
LEAST_DAMAGE_SECONDS = 0.1  # of audio that cannot be decoded: less is what a cut between two packets leaves
TAG_BYTES = 4_096  # at the end of a file, which are no audio
PACKET_SECONDS = 0.026  # of a damaged packet that does not say how long it is


class AudioFile:
    """The audio of any file ffmpeg can open, as float32 mono blocks at the rate asked for.

    Iterating decodes piece by piece: memory does not grow with the length of the file. It can be done once. Several
    channels become one by their average, surround sound by ffmpeg's downmix. Packets that do not decode are skipped.
    Where the container's time stamps leave a gap, or its audio begins late, there is silence, so that a place in the
    blocks is the time at which a player plays it.
    """

    seconds: float | None  # length as the file states or ffmpeg estimates it; None when unknown
    damage: str | None  # after iterating: why a part of the audio is missing; None when it is whole
    note: str | None  # which of several audio tracks this is; None when there is one

    def __init__(
        self,
        source: str | os.PathLike[str] | BinaryIO | Pipe,
        sample_rate: int,
        track: str | int | None = None,
        channel: int | None = None,
    ) -> None:
        """Open a file and find its audio track.

        Args:
            source: a path, or a binary stream, seekable or not.
            sample_rate: in Hz, of the blocks to give out.
            track: of several audio tracks, the number, from 1, or the language as the file tags it; by default the
                one tagged with the model's language, then the default one, then the first.
            channel: the one to give out, from 0, in place of the average of all.
        Raises:
            AudioError: missing, a folder, empty, unreadable, not audio, no such track; when iterating, no such channel.
        """
        path = None if hasattr(source, "read") else Path(os.fspath(source))
        self.name = str(getattr(source, "name", "audio") if path is None else path).strip("<>")  # "<stdin>"
        self.sample_rate = sample_rate
        self.damage = None
        self._wanted = track
        self._channel = channel
        self._links: OggLinks | None = None
        self._own: BinaryIO | None = None  # opened here, and so closed here
        self._container: av.container.InputContainer | None = None
        try:
            self._open(source, path)
        except BaseException:
            self._close()
            raise

    @property
    def channels(self) -> int:
        """Channels of the track, as the file states them."""
        return int(self._track.codec_context.layout.nb_channels)

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Give blocks (N,) float32.

        Raises:
            AudioError: there is not one sample in the file.
        """
        skipped, lost_seconds = 0, 0.0
        resampler: Resampler | None = None
        rate = 0
        clock = Clock()
        while True:
            clock.begin(first_stamp(self._container))
            for samples, frame_rate, stamp in self._decoded():
                if samples is None:
                    skipped, lost_seconds = skipped + 1, lost_seconds + stamp
                    continue
                if resampler is None or frame_rate != rate:  # a radio recording may change its rate half-way
                    if resampler is not None:
                        yield resampler.flush()
                    resampler, rate = Resampler(frame_rate, self.sample_rate), frame_rate
                for silence in _silence(clock.gap(stamp, len(samples) / rate), rate):
                    yield resampler.push(silence)
                yield resampler.push(samples)
            if self._links is None or self._source.failure is not None or not self._links.next():
                break
            try:
                self._open_link(self._links)
            except AudioError:
                skipped, lost_seconds = skipped + 1, lost_seconds + LEAST_DAMAGE_SECONDS
                break
        if resampler is None:
            self._source.check(self.name)
            problem = "is damaged: none of its audio can be decoded" if skipped else "holds no audio: it is 0 s long"
            raise AudioError(f"{self.name}: {problem}")
        yield resampler.flush()
        self.damage = self._damage(clock, skipped, lost_seconds)

    def _open(self, source: str | os.PathLike[str] | BinaryIO | Pipe, path: Path | None) -> None:
        file: Any = source
        if path is not None:
            _check_file(path)
            file = self._own = _open_path(path)
        if not is_seekable(file):
            file = readable(file, self.name)
            if is_seekable(file):  # all of it, in a temporary file
                if self._own is not None:
                    self._own.close()
                self._own = file
        if _is_ogg(file) and (not is_seekable(file) or is_chain(file)):
            file = self._links = OggLinks(file.read)
        self._open_link(file)
        self.seconds, self._end = stated_length(self._container, self._track, file if is_seekable(file) else None)

    def _open_link(self, file: Any) -> None:
        """Open a container, and find its track."""
        if self._container is not None:
            self._container.close()
        self._source = Source(file, suffix_of(self.name))
        self._container = open_container(self._source, self.name)
        self._track, self.note = choose_track(self._container, self._wanted, self.name)

    def _close(self) -> None:
        if self._container is not None:
            self._container.close()
        if self._own is not None:
            self._own.close()

    def _damage(self, clock: Clock, skipped: int, lost_seconds: float) -> str | None:
        end = clock.seconds if clock.end is None else max(clock.seconds, clock.end)
        failure = self._source.failure
        if isinstance(failure, Exception):
            reason = getattr(failure, "strerror", None) or failure
            return f"{self.name}: cannot be read beyond {end:.1f} s: {reason}; only what is there was transcribed"
        if failure is not None:
            raise failure
        if self._end is not None and self._end - end > max(0.5, 0.01 * self._end):
            return (
                f"{self.name}: truncated: it should last {self._end:.1f} s and ends at {end:.1f} s; "
                "only what is there was transcribed"
            )
        if lost_seconds >= LEAST_DAMAGE_SECONDS:
            return f"{self.name}: damaged: {skipped} of its packets cannot be decoded; only the rest was transcribed"
        return None

    def _decoded(self) -> Iterator[tuple[np.ndarray | None, int, float | None]]:
        """Mono float32 samples, their rate and their time stamp in seconds, frame by frame.

        For a packet that cannot be decoded: None, 0 and its length in seconds.
        """
        import av

        converter = _MonoConverter(self._channel, self.name)
        stamped = self._container.format.name in STAMPED
        packets = self._container.demux(self._track)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, OSError):  # the container itself breaks off here
                if self._source.failure is None and not self._source.is_over(TAG_BYTES):
                    yield None, 0, LEAST_DAMAGE_SECONDS
                return
            try:
                frames = packet.decode()
            except av.FFmpegError:
                yield None, 0, _packet_seconds(packet)
                continue
            for frame in frames:
                if not RATES_HZ[0] <= frame.sample_rate <= RATES_HZ[1]:  # a second would be hours at the rate asked for
                    yield None, 0, PACKET_SECONDS
                elif frame.samples:
                    yield as_samples(converter(frame), self.name), frame.sample_rate, frame.time if stamped else None


class _MonoConverter:
    """Decoded frames of any sample format and channel layout -> (N,) float32."""

    def __init__(self, channel: int | None = None, name: str = "audio") -> None:
        self._channel = channel
        self._name = name
        self._resampler: Any = None
        self._channels = 0
        self._setup: tuple[str, str, int] | None = None

    def __call__(self, frame: av.AudioFrame) -> np.ndarray:
        import av

        setup = (frame.format.name, frame.layout.name, frame.sample_rate)
        if setup != self._setup:
            # ffmpeg knows which speaker is which in surround sound; channels without such names count alike.
            surround = frame.layout.nb_channels > 2 and not frame.layout.name.endswith("channels")
            surround = surround and self._channel is None
            layout = "mono" if surround else frame.layout
            self._channels = 1 if surround else frame.layout.nb_channels
            self._resampler, self._setup = av.AudioResampler(format="flt", layout=layout), setup
        # Packed samples (1, N * channels): PyAV crashes on the planes of a planar frame from the eighth channel on.
        pieces = [piece.to_ndarray().reshape(-1, self._channels) for piece in self._resampler.resample(frame)]
        samples = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        if self._channel is not None:
            if self._channel >= self._channels:
                raise AudioError(
                    f"{self._name}: has {self._channels} channels here, so there is no {self._channel + 1}"
                )
            return samples[:, self._channel]
        return samples[:, 0] if self._channels == 1 else samples.mean(axis=1)


class RawAudio:
    """Headerless signed 16-bit little-endian mono samples from a stream, as float32 blocks at the rate asked for."""

    seconds = None
    damage = None
    note = None

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


def _open_path(path: Path) -> BinaryIO:
    try:
        return open(path, "rb", buffering=0)
    except PermissionError as error:
        raise AudioError(f"{path}: no permission to read it") from error
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror or error}") from error


def _is_ogg(file: Any) -> bool:
    """Whether a file at its beginning, or a pipe, holds Ogg pages."""
    if not is_seekable(file):
        return file.head(len(CAPTURE)) == CAPTURE
    try:
        file.seek(0)
        return file.read(len(CAPTURE)) == CAPTURE
    finally:
        file.seek(0)


def _silence(seconds: float, rate: int) -> Iterator[np.ndarray]:
    """Zeros (N,) float32 in pieces."""
    left = round(seconds * rate)
    while left > 0:
        size = min(left, round(SILENCE_SECONDS * rate))
        yield np.zeros(size, np.float32)
        left -= size


def _packet_seconds(packet: av.Packet) -> float:
    if not packet.duration or packet.time_base is None:
        return PACKET_SECONDS
    return float(packet.duration * packet.time_base)
