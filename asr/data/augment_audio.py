"""Augmentation: the same recording as heard at another speed, in another room, with noise, over a telephone.

What happens to an utterance is drawn from (seed, utterance id, variant) alone, so any number of processes may work in
any order and the result is the same. Everything keeps the time axis: an event at t seconds of the recording is at
t / speed seconds of the variant, so alignments made on the recording stay valid.

Cost on one x86 core, in milliseconds per second of audio: speed 0.23, room 0.88, noise 0.16 (1.8 the first time a noise
recording is decoded), telephone 0.13, gain 0.06; 0.5 together at the probabilities below. Decoding Opus takes 2
beside it and the log-mel 0.6.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from lhotse import MonoCut, Recording
from lhotse.audio.backend import LibsndfileBackend, audio_backend

from asr.data.manifest import decode
from asr.errors import DataError
from asr.models.frontend import FrontendConfig

SAMPLE_RATE = FrontendConfig.sample_rate
SPEEDS = (0.9, 1.1, 1.0)  # of variants 1, 2, 3, then again from the start

NOISE_PROBABILITY = 0.5
NOISE_SNR_DB = (5.0, 20.0)
ROOM_PROBABILITY = 0.3
TELEPHONE_PROBABILITY = 0.15
TELEPHONE_RATE = 8_000
GAIN_DB = (-10.0, 10.0)
# A room weighs 1 / (its reverberation time)^2: most measured responses are of halls and churches, whose tails bury
# speech, and people talk in rooms. Rooms deader than the smallest time weigh the same.
ROOM_WEIGHT_POWER = -2
SMALLEST_RT60_SECONDS = 0.3
_SETTINGS = (
    *(SPEEDS, NOISE_PROBABILITY, NOISE_SNR_DB, TELEPHONE_PROBABILITY, TELEPHONE_RATE, GAIN_DB),
    *(ROOM_PROBABILITY, ROOM_WEIGHT_POWER, SMALLEST_RT60_SECONDS),
)


@dataclass(frozen=True)
class Perturbation:
    """What is done to one utterance. `room` and `noise` index the augmenter's recordings; None leaves that step out."""

    speed: float = 1.0
    room: int | None = None
    noise: int | None = None
    noise_start: float = 0.0  # where in the noise recording to begin, as a fraction of it
    snr_db: float = 0.0
    telephone: bool = False
    gain_db: float = 0.0


class Augmenter:
    """Draws and applies perturbations. `noise` and `rooms` are tars or folders of recordings; None goes without.

    Variant 0 is always the untouched recording. Raises `DataError` when `noise` or `rooms` cannot be read or are empty.
    """

    def __init__(self, noise: Path | str | None = None, rooms: Path | str | None = None, seed: int = 0) -> None:
        self.seed = seed
        self._noise = _encoded_recordings(Path(noise)) if noise else []
        self._decoded_noise: dict[int, np.ndarray] = {}
        self._rooms = [_room(name, encoded) for name, encoded in _encoded_recordings(Path(rooms))] if rooms else []
        times = np.array([_rt60_seconds(room) for room in self._rooms])
        weights = np.maximum(times, SMALLEST_RT60_SECONDS) ** ROOM_WEIGHT_POWER
        self._room_weights = weights / weights.sum()  # empty without rooms

    @property
    def identity(self) -> str:
        """A short digest of everything that decides what comes out, to tell whether stored features are still good."""
        digest = hashlib.blake2b(repr((self.seed, _SETTINGS)).encode(), digest_size=8)
        for name, encoded in self._noise:
            digest.update(name.encode() + encoded)
        for room in self._rooms:
            digest.update(room.tobytes())
        return digest.hexdigest()

    def variant(self, samples: np.ndarray, utterance_id: str, variant: int) -> tuple[np.ndarray, float]:
        """Perturb (N,) samples as drawn for this utterance and variant: ((N / speed,) float32 samples, speed)."""
        perturbation = self.draw(utterance_id, variant)
        return self.apply(samples, perturbation), perturbation.speed

    def draw(self, utterance_id: str, variant: int) -> Perturbation:
        """What variant `variant` does to an utterance; nothing for variant 0."""
        if variant == 0:
            return Perturbation()
        key = hashlib.blake2b(f"{self.seed}/{utterance_id}/{variant}".encode(), digest_size=8).digest()
        rng = np.random.default_rng(int.from_bytes(key, "little"))
        in_room, in_noise, on_telephone = rng.random(3) < (ROOM_PROBABILITY, NOISE_PROBABILITY, TELEPHONE_PROBABILITY)
        return Perturbation(
            speed=SPEEDS[(variant - 1) % len(SPEEDS)],
            room=int(rng.choice(len(self._rooms), p=self._room_weights)) if in_room and self._rooms else None,
            noise=int(rng.integers(len(self._noise))) if in_noise and self._noise else None,
            noise_start=rng.random(),
            snr_db=rng.uniform(*NOISE_SNR_DB),
            telephone=bool(on_telephone),
            gain_db=rng.uniform(*GAIN_DB),
        )

    def apply(self, samples: np.ndarray, perturbation: Perturbation) -> np.ndarray:
        """Carry out a perturbation on (N,) float32 samples. A gain is lowered where it would overdrive full scale."""
        if perturbation == Perturbation() or not samples.size:
            return samples
        # lhotse's default backend imports torchaudio, which a CPU-only torch may not be able to load.
        with audio_backend(LibsndfileBackend()):
            cut = in_memory(samples, "speech")
            if perturbation.speed != 1.0:
                cut = cut.perturb_speed(perturbation.speed)
            length = cut.num_samples
            if perturbation.room is not None:
                # lhotse moves the response's peak, the direct path, to time 0 and restores the speech's energy.
                cut = cut.reverb_rir(in_memory(self._rooms[perturbation.room], "room").recording)
            if perturbation.noise is not None:
                noise = self._noise_samples(perturbation.noise, perturbation.noise_start, length)
                cut = cut.mix(in_memory(noise, "noise"), snr=perturbation.snr_db)
            perturbed = cut.load_audio()[0]
        if perturbation.telephone:
            # soxr, because lhotse's resampler leaves -12 dB at 4.1 kHz and takes 4 dB off at 3.5 kHz.
            narrow = soxr.resample(perturbed, SAMPLE_RATE, TELEPHONE_RATE)
            perturbed = _fit(soxr.resample(narrow, TELEPHONE_RATE, SAMPLE_RATE), length)
        peak = float(np.abs(perturbed).max())
        gain = min(10 ** (perturbation.gain_db / 20), 1 / peak) if peak else 1.0
        return (perturbed * gain).astype(np.float32)

    def _noise_samples(self, index: int, start: float, length: int) -> np.ndarray:
        """`length` samples of a noise recording from a fraction `start` of it on, repeated as often as needed."""
        if index not in self._decoded_noise:
            name, encoded = self._noise[index]
            # Every recording stays once decoded, so at half the memory.
            self._decoded_noise[index] = decode(encoded, name, SAMPLE_RATE).astype(np.float16)
        noise = np.roll(self._decoded_noise[index], -int(start * self._decoded_noise[index].size))
        return np.resize(noise, length).astype(np.float32)


def in_memory(samples: np.ndarray, name: str) -> MonoCut:
    """A lhotse cut of (N,) samples that never touches a disk."""
    wav = io.BytesIO()
    soundfile.write(wav, samples, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return Recording.from_bytes(wav.getvalue(), name).to_cut()


def _fit(samples: np.ndarray, length: int) -> np.ndarray:
    return samples[:length] if samples.size >= length else np.pad(samples, (0, length - samples.size))


def _room(name: str, encoded: bytes) -> np.ndarray:
    """A room response with its strongest sample positive, which is where lhotse looks for the direct path."""
    response = decode(encoded, name, SAMPLE_RATE)
    return response * np.sign(response[np.abs(response).argmax()] or 1)


def _rt60_seconds(response: np.ndarray) -> float:
    """Reverberation time by Schroeder's backward integration: three times the decay from -5 to -25 dB."""
    energy = np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1]
    decay_db = 10 * np.log10(energy / energy[0] + 1e-12)
    return 3 * int((decay_db > -25).sum() - (decay_db > -5).sum()) / SAMPLE_RATE


def _encoded_recordings(source: Path) -> list[tuple[str, bytes]]:
    """(name, bytes) of every file of a tar or folder, in order of name."""
    try:
        recordings = sorted(_files(source))
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{source} cannot be read as a tar or folder of recordings: {error}") from error
    if not recordings:
        raise DataError(f"{source} holds no recordings")
    return recordings


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        yield from ((str(path.relative_to(source)), path.read_bytes()) for path in source.rglob("*") if path.is_file())
        return
    with tarfile.open(source) as tar:
        yield from ((member.name, tar.extractfile(member).read()) for member in tar if member.isfile())
