"""From tables of recordings to a folder of lhotse Shar."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import soundfile
from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.audio.backend import LibsndfileBackend, audio_backend
from lhotse.shar import SharWriter

from asr.data.manifest import Rejected, Utterance, load_audio
from asr.errors import AudioError, UsageError
from asr.models.frontend import FrontendConfig


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
                cut = in_memory(load_audio(utterance, FrontendConfig.sample_rate), utterance.id)
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


def in_memory(samples: np.ndarray, name: str) -> MonoCut:
    """A lhotse cut of (N,) samples that never touches a disk."""
    wav = io.BytesIO()
    soundfile.write(wav, samples, FrontendConfig.sample_rate, format="WAV", subtype="FLOAT")
    return Recording.from_bytes(wav.getvalue(), name).to_cut()
