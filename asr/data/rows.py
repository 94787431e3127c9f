"""Rows of a batch: utterances one after the other with pauses between, all rows of a batch equally long.

A row has one of a few lengths and is filled with utterances, so that hardly anything of a batch is padding and the
number of different shapes is small. A row ends in a pause at least as long as the network's look-ahead: what is said in
a row is heard to its end in it. The first frames that the network puts out, late by its look-ahead, speak of the end of
the row before, which is a pause too, and no loss is taken of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.acoustic.forced_alignment import Alignment
from asr.acoustic.phone_states import SILENCE
from asr.errors import UsageError
from asr.models.acoustic import AcousticConfig
from asr.words.tokens import CHARACTERS, WORD_BORDER

LENGTHS = (60, 90, 120, 180, 240, 360, 480, 640, 840, 1_160, 1_600, 2_200, 3_000)  # frames of a row, pause included
USUAL = (360, 480, 480, 640)  # among which the length of a row of several utterances is drawn
FEWEST_ROWS = 4  # of a batch, for the sake of which rows become shorter where batches are small
MOST_ROWS = 128  # the persistent LSTM kernels of cuDNN take no more
LEAST_PAUSE, MOST_PAUSE = 2, 11  # frames before every utterance, and after the last one of a row
MOST_UTTERANCES = 12  # in a row
NEARBY = 12  # utterances among which the next one is looked for that fits into a row
BORDER = CHARACTERS.index(WORD_BORDER)
ENDLESS = 10**6  # end of the pause that ends a row


@dataclass(frozen=True)
class RowOptions:
    """How an epoch's audio is laid out."""

    batch_seconds: float = 120.0  # audio in a batch, pauses included
    shares: dict[str, float] = field(default_factory=dict)  # how often a source is heard in an epoch; others once
    recording_seconds: float = 0.0  # of recordings that training walks over row by row; 0: rows in random order
    segment_seconds: float = 15.0  # of a row of such a recording; more where one utterance is longer

    def __post_init__(self) -> None:
        if not 0 < self.batch_seconds < float("inf"):
            raise UsageError(f"batch_seconds must be positive, got {self.batch_seconds}")
        if not all(0 <= share < 100 for share in self.shares.values()):
            raise UsageError(f"the share of a source is how often it is heard in an epoch, got {self.shares}")
        if self.recording_seconds and not 0 < self.segment_seconds <= self.recording_seconds < float("inf"):
            raise UsageError(
                f"a segment must be longer than 0 s and no longer than its recording, "
                f"got {self.segment_seconds:g} s of {self.recording_seconds:g} s"
            )


@dataclass(frozen=True)
class Spoken:
    """An utterance as it goes into a row."""

    samples: np.ndarray  # (N,) int16, at its speed
    characters: np.ndarray  # ids
    phones: np.ndarray  # ids
    alignment: Alignment | None
    speed: float


class Place(NamedTuple):
    """An utterance in a row."""

    utterance: int
    speed: float
    start: int  # acoustic frame


class Row(NamedTuple):
    """One row of a batch."""

    places: tuple[Place, ...]
    frames: int  # to the end of the last utterance
    follows: bool = False  # goes on where the same row of the step before ended


class Step(NamedTuple):
    """What one step learns from."""

    length: int  # frames of every row
    rows: tuple[Row, ...]


class Batch(NamedTuple):
    """Rows with their targets; T frames each, of which the last ``delay_frames`` are never spoken of."""

    samples: Tensor  # (B, N) int16, what T frames look at
    spoken: Tensor  # (B,) samples inside utterances
    frames: Tensor  # (B,) frames that have targets, from the first
    characters: Tensor  # (all characters,) ids, row after row
    character_lengths: Tensor  # (B,)
    phones: Tensor  # (all phones,)
    phone_lengths: Tensor  # (B,)
    run_phones: Tensor  # (B, R) phones and silences that follow each other
    run_before: Tensor  # (B, R) the phone before each
    run_ends: Tensor  # (B, R) frame after its last one; ENDLESS beyond the last run
    run_counts: Tensor  # (B,) 0 of a row that is not aligned
    follows: Tensor  # (B,) bool: goes on where the same row of the batch before ended

    def to(self, move: Callable[[Tensor], Tensor]) -> Batch:
        """Apply ``move`` (to a device, say) to every tensor."""
        return Batch(*(move(tensor) for tensor in self))


def plan_rows(
    utterances: Sequence[tuple[int, float, int]],
    random: np.random.Generator,
    options: RowOptions,
    config: AcousticConfig,
) -> list[Step]:
    """Lay utterances out in rows and rows in steps, in random order; every utterance is in one of them.

    Args:
        utterances: (number, speed, acoustic frames) of each, in random order.
        random: source of pauses and of the order.
        options: how much audio goes into a step.
        config: of the network.
    """
    budget = _frames(options.batch_seconds, config)
    fitting = [length for length in USUAL if length * FEWEST_ROWS <= budget]
    if not fitting:
        shorter = [length for length in LENGTHS if length * FEWEST_ROWS <= budget]
        fitting = [max(shorter, default=LENGTHS[0])]
    rows: list[list[Row]] = [[] for _ in LENGTHS]
    longer: dict[int, list[Row]] = {}

    def add(row: Row) -> None:
        needed = row.frames + LEAST_PAUSE + config.delay_frames
        kind = int(np.searchsorted(LENGTHS, needed))
        rows[kind].append(row) if kind < len(LENGTHS) else longer.setdefault(needed, []).append(row)

    places: list[Place] = []
    used, length = 0, int(random.choice(fitting))
    for number, speed, frames in utterances:
        pause = int(random.integers(LEAST_PAUSE, MOST_PAUSE + 1))
        room = length - used - LEAST_PAUSE - config.delay_frames
        if places and (pause + frames > room or len(places) == MOST_UTTERANCES):
            add(Row(tuple(places), used))
            places, used, length = [], 0, int(random.choice(fitting))
        places.append(Place(number, speed, used + pause))
        used += pause + frames
    if places:
        add(Row(tuple(places), used))
    steps: list[Step] = []
    left: list[Row] = []  # too few for a batch of their length: they join the next one
    for length, kind in [*zip(LENGTHS, rows, strict=True), *sorted(longer.items())]:
        waiting = left + [kind[k] for k in random.permutation(len(kind))]
        size = rows_a_batch(length, budget)
        while len(waiting) >= size:
            steps.append(Step(config.whole_blocks(length), tuple(waiting[:size])))
            waiting = waiting[size:]
        left = waiting
    if left:
        longest = max(row.frames for row in left) + LEAST_PAUSE + config.delay_frames
        length = min((one for one in LENGTHS if one >= longest), default=longest)
        steps.append(Step(config.whole_blocks(length), tuple(left)))
    return [steps[k] for k in random.permutation(len(steps))]


def rows_a_batch(length: int, budget: int) -> int:
    """How many rows of so many frames a batch of ``budget`` frames has; of many, as many as cuDNN's kernels want."""
    rows = max(1, min(MOST_ROWS, budget // length))
    return rows // 8 * 8 if rows >= 32 else rows


def plan_recordings(
    speakers: Sequence[Sequence[tuple[int, float, int]]],
    random: np.random.Generator,
    options: RowOptions,
    config: AcousticConfig,
) -> list[Step]:
    """Lay the utterances of speakers out in long recordings, which training walks over row by row.

    Truncated back-propagation through time (Williams & Peng 1990): the state at the end of a row is where the next one
    begins, but no gradient goes back over the border. A network that has only ever heard the seconds after a start from
    silence may degrade on long audio; one that starts from states it will meet does not (Narayanan et al. 2019).

    Args:
        speakers: (number, speed, acoustic frames) of the utterances of each, in about their order.
        random: source of pauses and of the order.
        options: of segments and recordings.
        config: of the network.
    """
    room = _frames(options.segment_seconds, config) - LEAST_PAUSE - config.delay_frames
    rows: list[Row] = []
    for utterances in speakers:
        for number, members in enumerate(_packed(utterances, room)):
            places, used = [], 0
            for utterance, speed, frames in members:
                pause = int(random.integers(LEAST_PAUSE, MOST_PAUSE + 1))
                places.append(Place(utterance, speed, used + pause))
                used += pause + frames
            rows.append(Row(tuple(places), used, follows=number > 0))
    segments = max(1, round(options.recording_seconds / options.segment_seconds))
    whole = len(rows) // segments * segments
    recordings = [rows[start : start + segments] for start in range(0, whole, segments)]
    recordings = [recordings[k] for k in random.permutation(len(recordings))]
    side_by_side = max(1, int(options.batch_seconds / options.segment_seconds))
    groups = [recordings[start : start + side_by_side] for start in range(0, len(recordings), side_by_side)]
    if rows[whole:]:
        groups.append([rows[whole:]])
    steps = []
    for k in random.permutation(len(groups)):
        for number, together in enumerate(zip(*groups[k], strict=True)):
            longest = max(row.frames for row in together) + LEAST_PAUSE + config.delay_frames
            side = tuple(row._replace(follows=row.follows and number > 0) for row in together)
            steps.append(Step(config.whole_blocks(longest), side))
    return steps


def _packed(utterances: Sequence[tuple[int, float, int]], room: int) -> list[list[tuple[int, float, int]]]:
    """Fill segments with utterances and their pauses, in about their order."""
    waiting = deque(utterances)
    segments = []
    while waiting:
        segment = [waiting.popleft()]
        left = room - MOST_PAUSE - segment[0][2]
        while fitting := [k for k in range(min(NEARBY, len(waiting))) if MOST_PAUSE + waiting[k][2] <= left]:
            segment.append(waiting[fitting[0]])
            del waiting[fitting[0]]
            left -= MOST_PAUSE + segment[-1][2]
        segments.append(segment)
    return segments


def collate(
    rows: Sequence[Row],
    length: int,
    spoken: Callable[[Place], Spoken],
    config: AcousticConfig,
) -> Batch:
    """Lay the utterances of rows out in time, with their targets.

    Args:
        rows: of a step.
        length: frames of every row.
        spoken: gives what is at a place.
        config: of the network.
    """
    size = (config.mel_frames(length) - 1) * config.frontend.hop_samples + config.frontend.window_samples
    samples = np.zeros((len(rows), size), np.int16)
    counts = np.zeros(len(rows), np.int64)
    characters, phones, runs = [], [], []
    for number, row in enumerate(rows):
        utterances = [spoken(place) for place in row.places]
        for place, one in zip(row.places, utterances, strict=True):
            start = place.start * config.frame_samples
            samples[number, start : start + len(one.samples)] = one.samples[: size - start]
            counts[number] += len(one.samples)
        characters.append(_joined([one.characters for one in utterances], row.follows))
        phones.append(np.concatenate([one.phones for one in utterances]))
        runs.append(_runs(row.places, utterances, config))
    tail = length - config.delay_frames
    frames = [min(tail, row.frames + MOST_PAUSE) for row in rows]
    table = np.zeros((3, len(rows), max(1, *(len(row[0]) for row in runs))), np.int64)
    table[2] = ENDLESS
    for number, row in enumerate(runs):
        table[:, number, : len(row[0])] = row
    return Batch(
        torch.from_numpy(samples),
        torch.from_numpy(counts),
        torch.tensor(frames),
        torch.from_numpy(np.concatenate(characters).astype(np.int64)),
        torch.tensor([len(row) for row in characters]),
        torch.from_numpy(np.concatenate(phones).astype(np.int64)),
        torch.tensor([len(row) for row in phones]),
        *map(torch.from_numpy, table),
        torch.tensor([len(row[0]) for row in runs]),
        torch.tensor([row.follows for row in rows]),
    )


def _joined(parts: Sequence[np.ndarray], goes_on: bool) -> np.ndarray:
    """What a row spells, a border between utterances; one before them where a recording goes on."""
    pieces = [piece for part in parts if len(part) for piece in ([BORDER], part)]
    pieces = pieces if goes_on else pieces[1:]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)


def _runs(places: Sequence[Place], utterances: Sequence[Spoken], config: AcousticConfig) -> np.ndarray:
    """Phones, the phones before and the ends of a row's runs (3, R); R = 0 where an utterance is not aligned."""
    if any(one.alignment is None for one in utterances):
        return np.zeros((3, 0), np.int64)
    pieces = []
    for place, one in zip(places, utterances, strict=True):
        aligned = one.alignment
        phones, before, ends = (np.array(part, np.int64) for part in (aligned.phones, aligned.before, aligned.ends))
        last = place.start + -(-len(one.samples) // config.frame_samples)
        before[:1] = SILENCE  # of the pause before it
        ends = np.minimum(place.start + np.rint(ends / one.speed).astype(np.int64), last)
        pieces += [[[SILENCE], [SILENCE], [place.start]], [phones, before, ends]]
    pieces.append([[SILENCE], [utterances[-1].alignment.phones[-1] if len(utterances) else SILENCE], [ENDLESS]])
    table = np.concatenate([np.array(piece, np.int64) for piece in pieces], axis=1)
    silent = table[0] == SILENCE
    table[1, silent] = SILENCE  # silence is one state, whatever came before
    return table[:, ~(silent & np.append(silent[1:], False))]  # silences that follow each other are one


def frame_targets(batch: Batch, first: Tensor, rest: Tensor, length: int, ignored: int) -> Tensor:
    """The state of each frame of a batch (B, T), or ``ignored`` where none is known; tables (P, P) as in `Biphones`.

    A phone so short that no frame lies on it has none; the next one still knows that it was there.
    """
    rows = len(batch.run_counts)
    frames = torch.arange(length, device=first.device).expand(rows, length)
    run = torch.searchsorted(batch.run_ends, frames.contiguous(), right=True)
    run = run.clamp(max=batch.run_ends.shape[1] - 1)
    pair = batch.run_before.gather(1, run), batch.run_phones.gather(1, run)
    begins = torch.ones_like(run, dtype=torch.bool)
    begins[:, 1:] = run[:, 1:] != run[:, :-1]
    states = torch.where(begins, first[pair], rest[pair])
    known = (frames < batch.frames[:, None]) & (batch.run_counts > 0)[:, None]
    return torch.where(known, states, ignored)


def _frames(seconds: float, config: AcousticConfig) -> int:
    return max(1, round(seconds * config.frontend.sample_rate / config.frame_samples))
