"""Truncated back-propagation through time: what training walks over, segment by segment, with carried state.

Utterances of one speaker follow each other with pauses between, as they would in a recording of an hour. A batch is a
number of such recordings side by side, and training takes a step on one segment of them after the other: the state at
the end of a segment is where the next one begins, but no gradient goes back over the border (Williams & Peng 1990, "An
efficient gradient-based algorithm for on-line training of recurrent network trajectories"). A network that has only
ever heard the seconds after a start from silence degrades on long audio; one that starts from states it will meet does
not (Narayanan et al. 2019, "Recognizing long-form speech using streaming end-to-end models": random state passing).

CTC must know what is said in a segment, so segments are whole utterances.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from asr.data.batches import Corpus
from asr.errors import UsageError

LEAST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.3, 1.2
NEARBY = 12  # utterances among which the next one is looked for that fits into a segment


@dataclass(frozen=True)
class SegmentOptions:
    """How far gradients go back, and how often the past is remembered beyond that."""

    seconds: float = 20.0  # of a segment; more where one utterance is longer
    recording_seconds: float = 120.0
    pass_state: float = 1.0  # probability that a segment begins where the last one ended, else with nothing heard

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= self.recording_seconds < float("inf"):
            raise UsageError(
                f"a segment must be longer than 0 s and no longer than its recording, "
                f"got {self.seconds:g} s of {self.recording_seconds:g} s"
            )
        if not 0 <= self.pass_state <= 1:
            raise UsageError(f"the probability of passing the state must be from 0 to 1, got {self.pass_state:g}")


class Segment(NamedTuple):
    """One recording's part of a step."""

    members: tuple[tuple[int, int], ...]  # (example, variant)
    first: bool  # of its speaker: there is no state to pass


class SegmentStep(NamedTuple):
    """What one step learns from: segment ``number`` of every recording of a batch."""

    recordings: tuple[tuple[Segment, ...], ...]  # (B, S)
    number: int


def plan_segments(
    corpus: Corpus,
    options: SegmentOptions,
    seed: int,
    epoch: int,
    batch_seconds: float,
    shares: Mapping[str, float] | None = None,
) -> list[SegmentStep]:
    """An epoch's steps in order, the same for the same seed and epoch; every utterance is in one of them.

    A speaker's utterances keep about the order of the table; recordings without words are laid between them.

    Args:
        corpus: what is learnt from.
        options: of segments and recordings.
        seed: of the run.
        epoch: counted from 0.
        batch_seconds: of the segments in a step together.
        shares: of a source, the part of its utterances to take; see `Corpus.plan`.
    """
    random = np.random.default_rng((seed, epoch))
    segments: list[Segment] = []
    for members in _speakers(corpus, random, shares or {}):
        packed = _pack(corpus, members, options.seconds)
        segments += [Segment(tuple(part), first=number == 0) for number, part in enumerate(packed)]
    length = max(1, round(options.recording_seconds / options.seconds))
    whole = len(segments) // length * length
    recordings = [tuple(segments[start : start + length]) for start in range(0, whole, length)]
    recordings = [recordings[number] for number in random.permutation(len(recordings))]
    rows = max(1, int(batch_seconds / options.seconds))
    batches = [tuple(recordings[start : start + rows]) for start in range(0, len(recordings), rows)]
    if segments[whole:]:
        batches.append((tuple(segments[whole:]),))
    order = random.permutation(len(batches))
    return [SegmentStep(batches[batch], number) for batch in order for number in range(len(batches[batch][0]))]


def _speakers(corpus: Corpus, random: np.random.Generator, shares: Mapping[str, float]) -> list[list[tuple[int, int]]]:
    """What each speaker says in an epoch, as (example, variant) pairs; the speakers in random order."""
    chances = np.array([shares.get(example.source, 1.0) for example in corpus.examples])
    taken = np.flatnonzero(random.random(len(chances)) < chances).tolist()
    available = [store.variants for store in corpus.stores]
    speakers: dict[tuple[int, str, str], list[tuple[int, int]]] = {}
    wordless = []
    for number in taken or range(len(chances)):
        example = corpus.examples[number]
        pair = number, int(random.choice(available[example.store]))
        if example.text:
            speaker = corpus.stores[example.store].utterances[example.index].speaker
            speakers.setdefault((example.store, example.source, speaker), []).append(pair)
        else:
            wordless.append(pair)
    groups = list(speakers.values()) or [[]]
    for group in groups:  # so that a speaker's utterances are cut into segments elsewhere in every epoch
        turn = int(random.integers(len(group) or 1))
        group[:] = group[turn:] + group[:turn]
    for pair in wordless:
        group = groups[random.integers(len(groups))]
        group.insert(int(random.integers(len(group) + 1)), pair)
    return [groups[number] for number in random.permutation(len(groups))]


def _pack(corpus: Corpus, members: Sequence[tuple[int, int]], most_seconds: float) -> list[list[tuple[int, int]]]:
    """Fill segments with utterances and their pauses, in about their order."""
    frontend = corpus.config.frontend
    pause = (LEAST_PAUSE_SECONDS + MOST_PAUSE_SECONDS) / 2
    waiting = deque()
    for number, variant in members:
        example = corpus.examples[number]
        frames = corpus.stores[example.store].frames(variant)[example.index]
        waiting.append(((number, variant), frames * frontend.hop_samples / frontend.sample_rate + pause))
    segments = []
    while waiting:
        member, seconds = waiting.popleft()
        segment, room = [member], most_seconds - seconds
        while fitting := [k for k in range(min(NEARBY, len(waiting))) if waiting[k][1] <= room]:
            member, seconds = waiting[fitting[0]]
            del waiting[fitting[0]]
            segment.append(member)
            room -= seconds
        segments.append(segment)
    return segments
