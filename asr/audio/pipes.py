"""Audio files from a pipe: told by their first bytes, and kept in a temporary file where they must be sought in."""

from __future__ import annotations

import tempfile
from typing import BinaryIO

from asr.errors import AudioError

HEAD_BYTES = 400  # enough for two packets of a transport stream
MOST_SPOOLED = 8 << 30  # bytes of a temporary file
PIECE = 1 << 20

# What files begin with that ffmpeg reads from front to back.
IN_ORDER = (
    *(b"RIFF", b"RF64", b"BW64", b"riff", b"fLaC", b"OggS", b"ID3", b"FORM", b".snd", b"dns.", b"FLV", b"TTA1"),
    *(b"#!AMR", b"wvpk", b"\x0bw", b"w\x0b", b"\x7f\xfe\x80\x01", b"\xfe\x7f\x01\x80", b"Creative Voice File"),
    *(b"\x1aE\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11", b"\0\0\1\xba", b"NIST_1A", b".SoX", b"XoS.", b"nut/multimedia"),
)
# And those for which it may have to go back.
ELSEWHERE = (b"caff", b"MAC ", b"MP+", b"MPCK", b"tBaK", b"DSD ", b".RMF", b"ea3", b"EA3", b"ajkg", b"TWIN", b"qoaf")
BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"pnot", b"styp")  # of mp4 and QuickTime
LONGEST_BOX = 1 << 20  # that is skipped on the way to the first one that counts


class Pipe:
    """A binary stream that cannot be sought in, whose first bytes can be looked at before they are read."""

    def __init__(self, stream: BinaryIO) -> None:
        self.name = str(getattr(stream, "name", "audio"))
        self._ahead = b""
        self._read = getattr(stream, "read1", stream.read)  # read1 gives what is there, without waiting for more

    def head(self, size: int = HEAD_BYTES) -> bytes:
        """The next bytes, ``size`` of them unless the stream ends before; they are still to be read."""
        while len(self._ahead) < size and (more := self._read(max(size - len(self._ahead), 8_192))):
            self._ahead += more
        return self._ahead[:size]

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, without waiting for all of them; none at the end."""
        if not self._ahead:
            return self._read(size)
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data


def looks_like_a_file(head: bytes) -> bool:
    """Whether the first bytes of a stream are those of an audio file; ffmpeg would find an mp3 in any noise."""
    return head.startswith((*IN_ORDER, *ELSEWHERE)) or head[4:8] in BOXES or _is_mpeg(head) or _is_transport(head)


def readable(stream: BinaryIO | Pipe, name: str) -> BinaryIO | Pipe:
    """A stream that ffmpeg can read: itself, or a temporary file with all of it where its beginning needs its end.

    Raises:
        AudioError: it is longer than a temporary file may be.
    """
    pipe = stream if isinstance(stream, Pipe) else Pipe(stream)
    head = pipe.head()
    if head[4:8] in BOXES:
        return pipe if _index_first(pipe) else _spooled(pipe, name)
    return _spooled(pipe, name) if head.startswith(ELSEWHERE) else pipe


def _is_mpeg(head: bytes) -> bool:
    """A frame of MPEG audio, layers I to III, or of AAC in ADTS or LATM."""
    if len(head) < 2:
        return False
    mpeg = head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x18 != 0x08 and head[1] & 0x06 != 0
    adts = head[0] == 0xFF and head[1] & 0xF6 == 0xF0
    latm = head[0] == 0x56 and head[1] & 0xE0 == 0xE0
    return mpeg or adts or latm


def _is_transport(head: bytes) -> bool:
    """Packets of 188 bytes, or of 192 with a time before each."""
    return any(len(head) > start + size and head[start] == head[start + size] == 0x47 for start, size in PACKETS)


PACKETS = ((0, 188), (4, 192))  # where the first one begins, and how long each is


def _index_first(pipe: Pipe) -> bool:
    """Whether the index of an mp4 comes before its audio, or goes along with it."""
    start = 0
    while start < LONGEST_BOX:
        box = pipe.head(start + 16)[start:]
        if len(box) < 8 or box[4:8] in (b"moov", b"moof"):
            return True
        size = int.from_bytes(box[:4], "big")
        if size == 1:
            size = int.from_bytes(box[8:16], "big")
        if box[4:8] == b"mdat" or size < 8:
            return False
        start += size
    return False


def _spooled(pipe: Pipe, name: str) -> BinaryIO:
    file = tempfile.TemporaryFile()  # noqa: SIM115 (whoever reads it closes it)
    try:
        while data := pipe.read(PIECE):
            if file.tell() + len(data) > MOST_SPOOLED:
                raise AudioError(
                    f"{name}: this format cannot be read from a pipe beyond {MOST_SPOOLED >> 30} GiB; give it as a file"
                )
            file.write(data)
        file.seek(0)
    except OSError as error:
        file.close()
        reason = error.strerror or error
        raise AudioError(f"{name}: this format needs a file, and no temporary one can be written: {reason}") from error
    except BaseException:
        file.close()
        raise
    return file
