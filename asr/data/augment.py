"""What happens to the audio of a batch at every step: rooms, noise, band limits, gain, voices, channels, masks.

Everything is a batched tensor operation on the device that trains. Random numbers are drawn on the CPU from a generator
that is passed in, so that a resumed run repeats itself and no draw waits for the device. Nothing moves in time, so
targets stay valid.
"""

from __future__ import annotations

import math
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr.data.build_audio import FULL_SCALE, as_int16
from asr.data.manifest import decode
from asr.errors import DataError
from asr.models.frontend import FrontendConfig, LogMel, mel_centres

WARP_EDGE_HZ = 4_800.0  # below it frequencies scale, above it they bend back to meet the band's upper edge
WARPS = 57  # different vocal tracts
ROOM_SECONDS = 1.0  # of a response, at most
ROOM_WEIGHT_POWER = -1.5  # a room weighs its reverberation time to this power: most measured responses are of halls
SMALLEST_RT60_SECONDS = 0.3  # rooms deader than this weigh the same
EARLY_SECONDS = 0.003  # of a response that stay as loud when its tail is scaled
LEAST_TAIL = 0.2
LOUDEST_NOISE = 100.0  # a factor: silence has no level to measure noise by
SOFT_EDGE_HZ = 20.0, 40.0  # of a band limit, low and high


@dataclass(frozen=True)
class Changes:
    """How often and how far each row is changed; all probabilities are of a row."""

    room: float = 0.3  # probability
    noise: float = 0.45  # probability
    least_snr_db: float = 0.0
    most_snr_db: float = 25.0
    telephone: float = 0.12  # probability of a band of 50 to 350 up to 3,100 to 3,800 Hz
    low_pass: float = 0.1  # probability of another upper limit, 3,500 to 7,500 Hz: codecs, muffled microphones
    least_gain_db: float = -14.0
    most_gain_db: float = 10.0  # what goes beyond full scale is clipped
    warp: float = 0.14  # of frequency, up or down: the length of a vocal tract (Jaitly & Hinton 2013)
    channel_db: float = 1.5  # standard deviation of each of the smooth curves a frequency response is the sum of
    channel_curves: int = 5

    def scaled(self, strength: float) -> Changes:
        """Changes ``strength`` times as far, and as much more often; 0 changes nothing."""
        often = {name: min(1.0, strength * getattr(self, name)) for name in ("room", "noise", "telephone", "low_pass")}
        far = {name: strength * getattr(self, name) for name in ("least_gain_db", "most_gain_db", "warp", "channel_db")}
        return replace(self, **often, **far)


@dataclass(frozen=True)
class SpecAugment:
    """Masks of Park et al. 2019, with the number of time masks growing with length (Park et al. 2020)."""

    mel_masks: int = 2
    mel_width: int = 22  # at most this many mels a mask
    time_masks_per_second: float = 1.2
    time_width_frames: int = 22  # at most this many mel frames a mask
    time_fraction: float = 0.25  # of a row, at most, masked in all

    def scaled(self, strength: float) -> SpecAugment:
        """Masks ``strength`` times as wide; 0 masks nothing. Small networks underfit under wide masks."""
        return replace(
            self,
            mel_width=round(strength * self.mel_width),
            time_width_frames=round(strength * self.time_width_frames),
            time_fraction=min(0.5, strength * self.time_fraction),
        )

    def __call__(self, mels: Tensor, frames: Tensor, fill: Tensor, generator: torch.Generator) -> Tensor:
        """Return a masked copy of a batch.

        Args:
            mels: (B, F, M) log-mel frames.
            frames: (B,) mel frames of each row, on the CPU; what lies beyond is padding.
            fill: (M,) what stands in a mask, the mean of the data.
            generator: source of every random number.
        """
        if not (self.mel_width or self.time_width_frames):
            return mels
        hidden = self.mel_mask(len(mels), mels.shape[2], generator)[:, None] | self.time_mask(
            frames, mels.shape[1], generator
        ).unsqueeze(2)
        return torch.where(hidden.to(mels.device, non_blocking=True), fill.to(mels), mels)

    def mel_mask(self, rows: int, bins: int, generator: torch.Generator) -> Tensor:
        """(B, M) bool: which mels are hidden."""
        chance = torch.rand(2, rows, self.mel_masks, 1, generator=generator)
        width = (chance[0] * (min(self.mel_width, bins) + 1)).floor()
        start = (chance[1] * (bins - width + 1)).floor()
        places = torch.arange(bins)
        return ((places >= start) & (places < start + width)).any(dim=1)

    def time_mask(self, frames: Tensor, longest: int, generator: torch.Generator) -> Tensor:
        """(B, F) bool: which mel frames are hidden."""
        length = frames.float()[:, None]  # (B, 1)
        count = (self.time_masks_per_second * length / 100).floor()
        masks = max(1, int(count.max()))
        chance = torch.rand(2, len(frames), masks, generator=generator)
        width = (chance[0] * (self.time_width_frames + 1)).floor() * (torch.arange(masks) < count)
        allowed = (self.time_fraction * length).floor()
        left = (allowed - width.cumsum(dim=1) + width).clamp(min=0)  # when this mask's turn comes
        width = torch.minimum(width, left)
        start = (chance[1] * (length - width + 1)).floor().clamp(min=0)
        edges = torch.zeros(len(frames), longest + 1)  # +1 where a mask begins, -1 where it ends
        edges.scatter_add_(1, start.long().clamp(max=longest), (width > 0).float())
        edges.scatter_add_(1, (start + width).long().clamp(max=longest), -(width > 0).float())
        return edges.cumsum(dim=1)[:, :longest] > 0.5


class Augmenter:
    """Changes batches of audio and of mels on one device."""

    def __init__(
        self,
        changes: Changes,
        frontend: FrontendConfig,
        device: torch.device | str = "cpu",
        noises: Sequence[np.ndarray] = (),
        rooms: Sequence[np.ndarray] = (),
    ) -> None:
        """Put what is needed on a device.

        Args:
            changes: what to do, and how often.
            frontend: of the mels.
            device: where the batches are.
            noises: (N,) int16 recordings without speech; none: no noise is mixed in.
            rooms: (N,) int16 responses; none: no room is heard.
        """
        self.changes, self.frontend, self.device = changes, frontend, torch.device(device)
        self.noises = torch.from_numpy(np.concatenate(noises)).to(device) if len(noises) else None
        self.noise_lengths = torch.tensor([len(noise) for noise in noises])
        self.noise_starts = self.noise_lengths.cumsum(0) - self.noise_lengths
        shaped = [shape_room(room, frontend.sample_rate) for room in rooms]
        self.rooms = torch.from_numpy(np.stack([room for room, _ in shaped])).to(device) if shaped else None
        self.room_weights = torch.tensor([weight for _, weight in shaped])
        factors = np.linspace(1 - changes.warp, 1 + changes.warp, WARPS if changes.warp else 1)
        self.warps = torch.from_numpy(np.stack([warp_matrix(frontend, factor) for factor in factors])).to(device)
        angles = np.pi * (np.arange(frontend.mels) + 0.5) / frontend.mels
        curves = np.cos(np.outer(np.arange(1, changes.channel_curves + 1), angles)).astype(np.float32)
        self.curves = torch.from_numpy(curves).to(device)  # (C, M)
        self.filterbank = LogMel(frontend).filterbank.to(device)
        self.window = analysis_window(frontend).to(device)

    def waves(self, samples: Tensor, spoken: Tensor, generator: torch.Generator) -> Tensor:
        """Rooms, noise, band limits and gain.

        Args:
            samples: (B, N) float32 in [-1, 1], zeros between and after utterances; changed in place.
            spoken: (B,) samples inside utterances: the level of speech is a mean over them.
            generator: source of every random number.
        """
        changes = self.changes
        if self.rooms is not None and len(rows := self._chosen(changes.room, len(samples), generator)):
            which = torch.multinomial(self.room_weights, len(rows), replacement=True, generator=generator)
            tails = LEAST_TAIL + (1 - LEAST_TAIL) * torch.rand(len(rows), generator=generator)
            rows, which, tails = self._there(rows, which, tails)
            responses = self.rooms[which]
            responses[:, round(EARLY_SECONDS * self.frontend.sample_rate) :] *= tails[:, None]
            samples[rows] = in_room(samples[rows], responses)
        if self.noises is not None and len(rows := self._chosen(changes.noise, len(samples), generator)):
            which = torch.randint(len(self.noise_lengths), (len(rows),), generator=generator)
            lengths, starts = self.noise_lengths[which], self.noise_starts[which]
            offsets = (torch.rand(len(rows), generator=generator) * lengths).long()
            snr_db = self._uniform(changes.least_snr_db, changes.most_snr_db, len(rows), generator)
            rows, lengths, starts, offsets, snr_db = self._there(rows, lengths, starts, offsets, snr_db)
            places = torch.arange(samples.shape[1], device=self.device) + offsets[:, None]
            noise = self.noises[starts[:, None] + places % lengths[:, None]].float() / FULL_SCALE
            samples[rows] = with_noise(samples[rows], noise, snr_db, spoken[rows])
        for probability, lows, highs in (
            (changes.telephone, (50.0, 350.0), (3_100.0, 3_800.0)),
            (changes.low_pass, (-100.0, -100.0), (3_500.0, 7_500.0)),
        ):
            if len(rows := self._chosen(probability, len(samples), generator)):
                low, high = (self._uniform(*limits, len(rows), generator) for limits in (lows, highs))
                rows, low, high = self._there(rows, low, high)
                samples[rows] = band_limited(samples[rows], low, high, self.frontend.sample_rate)
        gains = 10 ** (self._uniform(changes.least_gain_db, changes.most_gain_db, len(samples), generator) / 20)
        (gains,) = self._there(gains)
        return samples.mul_(gains[:, None]).clamp_(-1, 1)

    def mels(self, mels: Tensor, generator: torch.Generator) -> Tensor:
        """Other vocal tracts and frequency responses: log-mels (B, F, M) -> the same shape."""
        changes, floor = self.changes, self.frontend.floor
        if not (changes.warp or changes.channel_db):
            return mels
        which = torch.randint(len(self.warps), (len(mels),), generator=generator)
        response = changes.channel_db * torch.randn(len(mels), changes.channel_curves, generator=generator)
        which, response = self._there(which, response)
        warped = torch.bmm(mels, self.warps[which].transpose(1, 2))
        gains = 10 ** (response @ self.curves / 10)  # (B, M), of energy
        return torch.log((warped.exp() - floor).clamp(min=0) * gains[:, None] + floor)

    def log_mels(self, samples: Tensor) -> Tensor:
        """The front end's frames (B, F, M) of samples (B, N), by Fourier transform.

        A strided convolution, as `LogMel` has it for export, is inexact in the short floats that a GPU multiplies.
        """
        config = self.frontend
        pieces = samples.unfold(-1, config.window_samples, config.hop_samples) * self.window
        spectrum = torch.view_as_real(torch.fft.rfft(pieces, config.fft_size))
        with torch.autocast(self.device.type, enabled=False):
            return torch.log(spectrum.square().sum(dim=-1) @ self.filterbank + config.floor)

    def _chosen(self, probability: float, rows: int, generator: torch.Generator) -> Tensor:
        """Numbers of the rows that something happens to, on the CPU."""
        return (torch.rand(rows, generator=generator) < probability).nonzero()[:, 0]

    def _there(self, *tensors: Tensor) -> list[Tensor]:
        """Small tensors of the CPU on the device, without waiting."""
        if self.device.type != "cuda":
            return [tensor.to(self.device) for tensor in tensors]
        return [tensor.pin_memory().to(self.device, non_blocking=True) for tensor in tensors]

    def _uniform(self, low: float, high: float, rows: int, generator: torch.Generator) -> Tensor:
        return low + (high - low) * torch.rand(rows, generator=generator)


def in_room(samples: Tensor, responses: Tensor) -> Tensor:
    """Samples (B, N) as heard in rooms (B, R) whose direct path is their first sample; as loud as before."""
    length = samples.shape[1]
    size = fast_size(length + responses.shape[1])
    heard = torch.fft.irfft(torch.fft.rfft(samples, size) * torch.fft.rfft(responses, size), size)[:, :length]
    energies = (one.square().mean(dim=1, keepdim=True) + 1e-10 for one in (samples, heard))
    before, after = energies
    return heard * (before / after).sqrt()


def with_noise(samples: Tensor, noise: Tensor, snr_db: Tensor, spoken: Tensor) -> Tensor:
    """Samples (B, N) and noise (B, N) mixed at ratios (B,); ``spoken`` (B,): samples over which speech is measured."""
    power = samples.square().sum(dim=1) / spoken.clamp(min=1)
    level = (power / (noise.square().mean(dim=1) + 1e-10) / 10 ** (snr_db / 10)).sqrt().clamp(max=LOUDEST_NOISE)
    return samples + noise * level[:, None]


def band_limited(samples: Tensor, low: Tensor, high: Tensor, sample_rate: int) -> Tensor:
    """Samples (B, N) without what lies below ``low`` and above ``high`` (B,) Hz; nothing moves in time."""
    size = fast_size(samples.shape[1])
    spectrum = torch.fft.rfft(samples, size)
    hertz = torch.arange(spectrum.shape[1], device=samples.device) * (sample_rate / size)
    below, above = SOFT_EDGE_HZ
    kept = torch.sigmoid((hertz - low[:, None]) / below) * torch.sigmoid((high[:, None] - hertz) / above)
    return torch.fft.irfft(spectrum * kept, size)[:, : samples.shape[1]]


def fast_size(length: int) -> int:
    """The smallest size of a Fourier transform, at least ``length``, that is a small odd number times a power of 2."""
    return min(odd << max(0, math.ceil(math.log2(length / odd))) for odd in (1, 3, 5, 9, 15))


def analysis_window(config: FrontendConfig) -> Tensor:
    """The front end's Hann window (W,), of energy 1."""
    time = torch.arange(config.window_samples, dtype=torch.float64) + 0.5
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * time / config.window_samples)
    return (window / window.square().sum().sqrt()).float()


def warp_matrix(config: FrontendConfig, factor: float) -> np.ndarray:
    """Interpolation (M, M) that reads each mel at ``factor`` times its frequency: times log-mels, a warped spectrum."""
    centres = mel_centres(config)
    edge = WARP_EDGE_HZ * min(1.0, 1 / factor)
    top = config.high_hz
    above = factor * edge + (centres - edge) * (top - factor * edge) / (top - edge)
    position = np.interp(np.where(centres <= edge, factor * centres, above), centres, np.arange(config.mels))
    low = np.minimum(position.astype(int), config.mels - 2)
    rows = np.arange(config.mels)
    matrix = np.zeros((config.mels, config.mels), dtype=np.float32)
    matrix[rows, low] = 1 - (position - low)
    matrix[rows, low + 1] = position - low
    return matrix


def shape_room(response: np.ndarray, sample_rate: int) -> tuple[np.ndarray, float]:
    """A response from its direct path on, that being 1, cut or padded to `ROOM_SECONDS`; and how much it weighs."""
    room = response.astype(np.float32)
    room = room[int(np.abs(room).argmax()) :][: round(ROOM_SECONDS * sample_rate)]
    room = room / (room[0] or 1)
    weight = max(rt60_seconds(room, sample_rate), SMALLEST_RT60_SECONDS) ** ROOM_WEIGHT_POWER
    return np.pad(room, (0, round(ROOM_SECONDS * sample_rate) - len(room))), weight


def rt60_seconds(response: np.ndarray, sample_rate: int) -> float:
    """Reverberation time by Schroeder's backward integration: three times the decay to -20 dB."""
    energy = np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1]
    decay_db = 10 * np.log10(energy / energy[0] + 1e-12)
    return 3 * int((decay_db > -20).sum()) / sample_rate


def read_recordings(source: Path | None) -> list[np.ndarray]:
    """(N,) int16 of every recording of a tar or folder, in order of name; of None, no recording.

    Raises:
        DataError: it cannot be read, or is empty.
        AudioError: a file of it is no audio.
    """
    if source is None:
        return []
    try:
        encoded = sorted(_files(source))
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{source} cannot be read as a tar or folder of recordings: {error}") from error
    if not encoded:
        raise DataError(f"{source} holds no recordings")
    return [as_int16(decode(content, name, FrontendConfig.sample_rate)) for name, content in encoded]


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        yield from ((str(path.relative_to(source)), path.read_bytes()) for path in source.rglob("*") if path.is_file())
        return
    with tarfile.open(source) as tar:
        yield from ((member.name, tar.extractfile(member).read()) for member in tar if member.isfile())
