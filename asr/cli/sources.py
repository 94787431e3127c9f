"""What to transcribe: files as they are named, and in folders whatever can be decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asr.audio.files import AudioFile
from asr.audio.pipes import looks_like_a_file
from asr.errors import AudioError
from asr.output.files import Source

STDIN = "-"
HEAD_BYTES = 400
SHOWN = 5  # names of files that were left out
PROBE_HZ = 16_000

# Of a folder's files those with these endings are recordings. Others are opened to see, unless their ending says that
# they are texts, pictures, programs or archives.
RECORDINGS = frozenset(
    ".3g2 .3gp .aa3 .aac .ac3 .aif .aifc .aiff .amr .ape .asf .au .avi .awb .bwf .caf .divx .dsf .dts .eac3 .f4a .f4v "
    ".flac .flv .g722 .gsm .m2a .m2t .m2ts .m4a .m4b .m4r .m4v .mka .mkv .mlp .mov .mp1 .mp2 .mp3 .mp4 .mpa .mpc .mpe "
    ".mpeg .mpg .mpga .mts .mxf .nut .oga .ogg .ogm .ogv .ogx .oma .opus .qcp .ra .rf64 .rm .rmvb .shn .snd .sph .spx "
    ".tak .ts .tta .vob .voc .w64 .wav .wave .weba .webm .wma .wmv .wtv .wv".split()
)
OTHERS = frozenset(
    ".7z .ass .bmp .bz2 .c .cfg .conf .cpp .css .csv .ctm .doc .docx .exe .gif .gz .h .heic .htm .html .ini .ipynb "
    ".jpeg .jpg .js .json .jsonl .lab .log .lrc .md .npy .npz .odt .pdf .png .ppt .pptx .py .pyc .rar .rst .rtf .sh "
    ".srt .ssa .stm .sub .svg .tar .tex .textgrid .tif .tiff .toml .trn .tsv .txt .vtt .webp .xls .xlsx .xml .xz .yaml "
    ".yml .zip".split()
)


@dataclass
class Found:
    """What there is to transcribe."""

    sources: list[Source] = field(default_factory=list)
    problems: list[AudioError] = field(default_factory=list)  # folders without recordings, or that cannot be read
    left_out: list[str] = field(default_factory=list)  # other files of the folders

    @property
    def remark(self) -> str | None:
        """Which files of the folders were left out, if any."""
        if not self.left_out:
            return None
        count = len(self.left_out)
        names = ", ".join(self.left_out[:SHOWN]) + (" ..." if count > SHOWN else "")
        return f"left out {count} file{'s' if count > 1 else ''} that cannot be decoded as audio: {names}"


def find_sources(given: Sequence[str]) -> Found:
    """Files as they are, folders as the recordings in them and in the folders below, in order of their names."""
    found = Found()
    for name in given:
        if name == STDIN or not os.path.isdir(name):
            found.sources.append(Source(name, Path("stdin" if name == STDIN else Path(name).stem)))
            continue
        below = [path for path in _files_below(Path(name), found) if _is_recording(path, found)]
        if not below:
            found.problems.append(AudioError(f"{name}: has no audio or video files in it, or in the folders below"))
        found.sources += [Source(str(path), path.relative_to(name).with_suffix("")) for path in below]
    return found


def _files_below(folder: Path, found: Found) -> Iterator[Path]:
    def note(error: OSError) -> None:
        found.problems.append(AudioError(f"{error.filename}: cannot be read: {error.strerror}"))

    for parent, folders, files in os.walk(folder, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def _is_recording(path: Path, found: Found) -> bool:
    """Whether a file of a folder is to be transcribed; if not, it is noted."""
    suffix = path.suffix.lower()
    if path.is_file() and (suffix in RECORDINGS or (suffix not in OTHERS and _is_audio(path))):
        return True
    found.left_out.append(str(path))
    return False


def _is_audio(path: Path) -> bool:
    """Whether the beginning of a file can be decoded; ffmpeg alone would find an mp3 in any noise."""
    try:
        with open(path, "rb") as file:
            if not looks_like_a_file(file.read(HEAD_BYTES)):
                return False
        with AudioFile(path, PROBE_HZ) as audio:
            return next(iter(audio), None) is not None
    except (OSError, AudioError):
        return False
