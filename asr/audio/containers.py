"""Containers of sound: which ones are opened, and how, so that none can make ffmpeg open anything else.

ffmpeg also reads playlists, manifests and lists of files, whatever a file is called, and opens what they name: files of
this machine, pipes, addresses. Here it is given bytes only, by a list of formats that hold their audio themselves, and
may use no protocol at all.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, BinaryIO

from asr.errors import AudioError

if TYPE_CHECKING:
    import av

# Names of ffmpeg's demuxers. Left out besides playlists: pictures, subtitles, devices and raw samples, which are found
# by the name of a file alone; gsm, g722 and the like are, too, but are told by names that nothing else has.
FORMATS = (
    "aa,aac,ac3,ac4,act,aea,aiff,amr,amrnb,amrwb,ape,asf,ast,au,avi,bonk,caf,dsf,dss,dts,dtshd,dv,eac3,ea,flac,flv,"
    "g722,g729,gsm,gxf,ilbc,ircam,iff,kux,live_flv,loas,latm,matroska,webm,mlp,mmf,mov,mp4,mp3,mpc,mpc8,mpeg,mpegts,"
    "mtaf,mxf,nistsphere,nsv,nut,ogg,oma,osq,paf,pvf,qcp,qoa,rm,sbc,sds,shn,siff,smjpeg,sox,swf,tak,truehd,tta,vivo,"
    "voc,vqf,w64,wav,wavarc,wsd,wtv,wv,wve,xa,xwma"
)
OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": ""}
REFUSED = "is no audio file, or a damaged one; give wav, flac, mp3, m4a, ogg, webm, mp4 or the like"


class Source:
    """Bytes as PyAV reads them: from a file that can be sought in, or one that cannot.

    What reading raises is kept in ``failure``, and ffmpeg finds the end of the file: an exception must not pass through
    its code.
    """

    failure: BaseException | None = None

    def __init__(self, file: BinaryIO, suffix: str = "") -> None:
        """Wrap a file; by its suffix, such as ``.gsm``, ffmpeg knows formats without a mark at their beginning."""
        self._file = file
        self.name = "audio" + suffix.encode("ascii", "ignore").decode()
        if is_seekable(file):
            self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if self.failure is not None:
            return b""
        try:
            return self._file.read(size) or b""
        except BaseException as error:
            self.failure = error
            return b""

    def is_over(self, allowed: int) -> bool:
        """Whether at most so many bytes are left, such as those of a tag; they are read."""
        while allowed >= 0 and (data := self.read(allowed + 1)):
            allowed -= len(data)
        return allowed >= 0 and self.failure is None

    def check(self, name: str) -> None:
        """Raise what reading raised: an AudioError in place of an OSError."""
        failure = self.failure
        if isinstance(failure, OSError | ValueError):  # ValueError: the file was closed
            raise AudioError(f"{name}: cannot be read: {getattr(failure, 'strerror', None) or failure}") from failure
        if failure is not None:
            raise failure


def is_seekable(file: Any) -> bool:
    """Whether a file can be sought in."""
    if not (hasattr(file, "seek") and hasattr(file, "tell")):
        return False
    seekable = getattr(file, "seekable", None)
    try:
        if seekable is not None:
            return bool(seekable())
        file.seek(0, io.SEEK_CUR)
    except (OSError, ValueError, AttributeError):
        return False
    return True


def suffix_of(name: str) -> str:
    """The ending of a name, ``.wav``; empty where there is none."""
    return os.path.splitext(name)[1][:10]


def open_container(source: Source, name: str) -> av.container.InputContainer:
    """Open what a source holds.

    Raises:
        AudioError: no container of sound, damaged at its beginning, or it cannot be read.
    """
    import av

    options: dict[str, Any] = {"container_options": OPTIONS}
    if int(av.__version__.split(".")[0]) < 19:  # since then, bytes of a title that are no UTF-8 are no error
        options["metadata_errors"] = "ignore"
    try:
        container = av.open(source, **options)
    except (av.FFmpegError, OSError, ValueError, OverflowError) as error:
        source.check(name)
        raise AudioError(f"{name}: {REFUSED}") from error
    try:
        source.check(name)
    except BaseException:
        container.close()
        raise
    return container
