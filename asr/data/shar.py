"""Folders of lhotse Shar, written and read: a corpus too large for memory, as shards that are streamed from disk.

A shard is a pair of files: `cuts.000000.jsonl.gz` says what is in it, `recording.000000.tar` holds the audio. Before
training every shard is looked at once: `take_census` counts and times the utterances without decoding them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.audio.backend import LibsndfileBackend, audio_backend
from lhotse.cut import Cut
from lhotse.shar import SharWriter

from asr.data.audio_store import read_json, write_json
from asr.data.build_audio import SPEEDS
from asr.data.manifest import Rejected, Utterance, load_audio
from asr.data.tars import is_ended
from asr.errors import AudioError, DataError, UsageError
from asr.models.acoustic import AcousticConfig
from asr.models.frontend import FrontendConfig, LogMel
from asr.words.text import normalise, unusable_characters

FORMAT = 1
TORN = (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, KeyError, TypeError, AssertionError, RuntimeError)
NAMED = 1_000  # at most so many of the utterances left out are named: there may be millions
MEASURED_SECONDS = 1_200.0  # of audio, from shards all over the corpus, for the mean and deviation of each mel
MEASURED_SHARDS = 40
BUCKETS = 10  # utterances of like length, with the same amount of audio in each
TICKS = 10  # a second, to which lengths are counted


class Shard(NamedTuple):
    """A shard and how many cuts are in it; 0 before the census."""

    cuts: Path
    recording: Path
    size: int = 0


@dataclass(frozen=True)
class Census:
    """What is in the shards."""

    sizes: tuple[int, ...]  # cuts of each shard
    utterances: int  # that can be learnt from
    seconds: float
    left_out: int
    rejected: tuple[Rejected, ...]  # the first of those left out
    duration_bins: tuple[float, ...]  # seconds, between buckets
    mean: np.ndarray  # (mels,) float32
    std: np.ndarray  # (mels,) float32


def write_shar(
    utterances: Iterable[Utterance],
    folder: Path,
    shard_size: int = 1_000,
    format: str = "flac",
    progress: Callable[[], None] = lambda: None,
) -> list[Rejected]:
    """Write utterances in their order as shards of at most `shard_size`, and give those that cannot be decoded.

    Shuffle a large corpus before: a batch is drawn from what lies near each other, in several shards at a time.

    Raises:
        UsageError: `folder` holds something already, or `format` is none of flac and wav.
    """
    if format not in ("flac", "wav"):
        raise UsageError(f"shards are written in flac or wav, not in {format}; lhotse shar export knows others")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    rejected = []
    with audio_backend(LibsndfileBackend()), SharWriter(folder, {"recording": format}, shard_size) as writer:
        for utterance in utterances:
            try:
                cut = _in_memory(load_audio(utterance, FrontendConfig.sample_rate), utterance.id)
            except AudioError as error:
                rejected.append(Rejected(utterance.id, 0, str(error)))
                continue
            cut.supervisions = [
                SupervisionSegment(
                    utterance.id,
                    utterance.id,
                    0,
                    cut.duration,
                    text=utterance.text,
                    speaker=utterance.speaker or None,
                    custom={"source": utterance.source} if utterance.source else None,
                )
            ]
            cut.id = utterance.id
            writer.write(cut)
            progress()
    return rejected


def find_shards(folders: Sequence[Path]) -> tuple[Shard, ...]:
    """The shards of Shar folders, in order. Raises `DataError` when there are none, or a file is missing or torn."""
    shards: list[Shard] = []
    for folder in folders:
        cuts = {path.name.split(".jsonl")[0].removeprefix("cuts"): path for path in folder.glob("cuts*.jsonl*")}
        audio = {path.stem.removeprefix("recording"): path for path in folder.glob("recording*.tar")}
        if not cuts and not audio:
            raise DataError(f"{folder} is no folder of Shar: it holds no cuts.*.jsonl.gz and recording.*.tar")
        numbers = {int(name[1:]) for name in {*cuts, *audio} if name[1:].isdecimal()}
        expected = {f".{number:06d}" for number in range(min(numbers), max(numbers) + 1)} if numbers else set()
        for name in sorted({*cuts, *audio} | expected):
            for kind, there, suffix in (("cuts", cuts, ".jsonl.gz"), ("recording", audio, ".tar")):
                if name not in there:
                    raise DataError(f"the shard {folder / (kind + name + suffix)} is missing, others are there")
            if not is_ended(audio[name]):
                raise DataError(f"the shard {audio[name]} is cut short: the end of archive mark is missing")
            shards.append(Shard(cuts[name], audio[name]))
    return tuple(shards)


def take_census(shards: Sequence[Shard], config: AcousticConfig, path: Path) -> Census:
    """Count, time and measure what is in shards, or find it in the file `path` where an earlier census wrote it.

    Raises:
        DataError: a shard that is torn, or nothing to learn from.
    """
    files = [(str(file), file.stat().st_size) for shard in shards for file in shard[:2]]
    facts = {"format": FORMAT, "files": files, "config": config.to_dict()}
    identity = hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()
    if not path.is_file() or read_json(path).get("identity") != identity:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"identity": identity, **_count(shards, config)})
    content = read_json(path)
    return Census(
        sizes=tuple(content["sizes"]),
        utterances=content["utterances"],
        seconds=content["seconds"],
        left_out=content["left_out"],
        rejected=tuple(Rejected(**row) for row in content["rejected"]),
        duration_bins=tuple(content["duration_bins"]),
        mean=np.float32(content["mean"]),
        std=np.float32(content["std"]),
    )


def doubt(texts: Sequence[str], seconds: float, config: AcousticConfig) -> str | None:
    """Why a cut with these supervisions cannot be learnt from, if so; a text of "" is that nothing is said."""
    if not texts:
        return "it has no supervision with a text"
    unusable = unusable_characters(" ".join(texts))
    if unusable:
        shown = " ".join(repr(character) for character in sorted(unusable))
        return f"the text has characters the model cannot write: {shown}; spell them out in a-z"
    frames = config.frames(round(seconds / max(SPEEDS) * config.frontend.sample_rate))
    text = normalise(" ".join(texts))
    needed = len(text) + sum(one == next for one, next in zip(text, text[1:], strict=False))
    if needed >= frames:
        return f"{len(text)} characters need {needed} frames, its audio has {frames}"
    return None


def texts_of(supervisions: Sequence[dict]) -> list[str]:
    """The texts of a cut's supervisions, as its manifest has them."""
    return [supervision["text"] for supervision in supervisions or () if supervision.get("text") is not None]


def read_cuts(shard: Shard) -> Iterator[Cut]:
    """The cuts of a shard with their encoded audio. Raises `DataError` when the shard turns out to be torn."""
    count = 0
    try:
        for cut in CutSet.from_shar(fields={"cuts": [shard.cuts], "recording": [shard.recording]}):
            count += 1
            yield cut
    except TORN as error:
        raise DataError(f"the shard {shard.recording} is torn after {count} cuts: {_line(error)}") from error
    if count < shard.size:
        raise DataError(f"the shard {shard.recording} ends after {count} of {shard.size} cuts")


def samples_of(cut: Cut, sample_rate: int) -> np.ndarray:
    """Decode a cut: (N,) float32 samples at `sample_rate`, channels averaged. Raises `AudioError` for damage."""
    try:
        # lhotse's default backend imports torchaudio, which a CPU-only torch may not be able to load.
        with audio_backend(LibsndfileBackend()):
            samples = cut.load_audio().mean(axis=0)
    except Exception as error:  # each decoder has its own
        raise AudioError(f"{cut.id} cannot be decoded: {_line(error)}") from error
    if cut.sampling_rate != sample_rate:
        samples = soxr.resample(samples, cut.sampling_rate, sample_rate)
    if not np.isfinite(samples).all():
        raise AudioError(f"{cut.id} holds values that are not audio")
    return samples.astype(np.float32)


def _count(shards: Sequence[Shard], config: AcousticConfig) -> dict:
    sizes: list[int] = []
    rejected: list[dict] = []
    ticks = np.zeros(1, np.int64)  # utterances of each length
    seconds, left_out = 0.0, 0
    for shard in shards:
        size = 0
        try:
            with gzip.open(shard.cuts, "rb") if shard.cuts.suffix == ".gz" else open(shard.cuts, "rb") as lines:
                for line in lines:
                    cut = json.loads(line)
                    size += 1
                    reason = doubt(texts_of(cut["supervisions"]), cut["duration"], config)
                    if reason:
                        left_out += 1
                        if len(rejected) < NAMED:
                            rejected.append(asdict(Rejected(cut["id"], 0, reason)))
                        continue
                    tick = int(cut["duration"] * TICKS)
                    if tick >= len(ticks):
                        ticks = np.pad(ticks, (0, tick + 1 - len(ticks)))
                    ticks[tick] += 1
                    seconds += cut["duration"]
        except TORN as error:
            raise DataError(f"the shard {shard.cuts} is torn after {size} lines: {_line(error)}") from error
        sizes.append(size)
    if not seconds:
        raise DataError(
            f"nothing can be learnt from {left_out} cuts; the first: {rejected[0]['reason']}"
            if rejected
            else f"{shards[0].cuts.parent} holds no cuts"
        )
    audio = np.cumsum(ticks * np.arange(len(ticks)))
    bins = sorted({float(np.searchsorted(audio, audio[-1] * k / BUCKETS) + 1) / TICKS for k in range(1, BUCKETS)})
    mean, std = _measure([shard._replace(size=size) for shard, size in zip(shards, sizes, strict=True)], config)
    return {
        "sizes": sizes,
        "utterances": int(ticks.sum()),
        "seconds": seconds,
        "left_out": left_out,
        "rejected": rejected,
        "duration_bins": bins,
        "mean": mean.tolist(),
        "std": std.tolist(),
    }


def _measure(shards: Sequence[Shard], config: AcousticConfig) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each mel, (mels,), over the beginnings of some shards."""
    log_mel = LogMel(config.frontend)
    chosen = [shards[number] for number in np.unique(np.linspace(0, len(shards) - 1, MEASURED_SHARDS).astype(int))]
    frames = 0
    total, squares = np.zeros(config.frontend.mels), np.zeros(config.frontend.mels)
    for shard in chosen:
        heard = 0.0
        for cut in read_cuts(shard):
            try:
                samples = samples_of(cut, config.frontend.sample_rate)
            except AudioError:
                continue
            with torch.inference_mode():
                mels = log_mel(torch.from_numpy(samples)[None])[0].double().numpy()
            frames += len(mels)
            total += mels.sum(axis=0)
            squares += np.square(mels).sum(axis=0)
            heard += cut.duration
            if heard >= MEASURED_SECONDS / len(chosen):
                break
    if not frames:
        raise DataError(f"none of the recordings of {chosen[0].recording.parent} can be decoded")
    mean = total / frames
    return mean, np.sqrt(np.maximum(squares / frames - mean**2, 1e-8))


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _in_memory(samples: np.ndarray, name: str) -> MonoCut:
    """A lhotse cut of (N,) samples that never touches a disk."""
    wav = io.BytesIO()
    soundfile.write(wav, samples, FrontendConfig.sample_rate, format="WAV", subtype="FLOAT")
    return Recording.from_bytes(wav.getvalue(), name).to_cut()
