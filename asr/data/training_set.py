"""What training learns from: utterances with their targets, and the steps of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from asr.acoustic.forced_alignment import NO_WORD, Alignment
from asr.acoustic.phone_states import SILENCE
from asr.data.audio_store import AudioStore
from asr.data.build_audio import FULL_SCALE
from asr.data.manifest import Rejected
from asr.data.rows import (
    LEAST_PAUSE,
    Batch,
    Place,
    Row,
    RowOptions,
    Spoken,
    Step,
    collate,
    plan_recordings,
    plan_rows,
)
from asr.errors import UsageError
from asr.models.acoustic import AcousticConfig
from asr.models.frontend import FrontendConfig, LogMel
from asr.words.lexicon import Lexicon
from asr.words.tokens import CHARACTERS, PHONES, WORD_BORDER, TokenTable

MEASURED_SECONDS = 3_600.0  # of audio, for the mean and deviation of each mel


class TrainingSet(Protocol):
    """What `asr.training.loop` needs of its data."""

    rejected: tuple[Rejected, ...]  # what cannot be learnt from, and why

    @property
    def seconds(self) -> float:
        """Length of all recordings together."""

    @property
    def utterances(self) -> int:
        """How many there are."""

    def plan(self, options: RowOptions, config: AcousticConfig, seed: int, epoch: int) -> list:
        """An epoch's steps in order: the same for the same seed and epoch. Raises UsageError for what it cannot do."""

    def batch(self, step, part: int, parts: int, config: AcousticConfig) -> Batch | None:
        """Part number ``part`` of the batch of a step of `plan`; None where a batch has fewer rows than parts."""

    def alignments(self) -> Iterator[Alignment]:
        """Of utterances in which something is said; none where nothing is aligned."""

    def normalisation(self, config: AcousticConfig) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of each mel, (M,) each."""


@dataclass(frozen=True)
class Example:
    """One usable utterance."""

    store: int
    index: int  # in the store
    id: str
    text: str
    source: str
    speaker: str
    samples: int  # at speed 1
    characters: np.ndarray  # ids
    phones: np.ndarray  # ids
    alignment: Alignment | None


class StoredSet:
    """Examples of one or more audio stores; ``rejected`` names what cannot be learnt from and why."""

    def __init__(
        self,
        stores: Sequence[AudioStore],
        lexicon: Lexicon,
        alignments: Mapping[str, Alignment] | None = None,
        doubts: Mapping[str, str] | None = None,
    ) -> None:
        """Make examples of utterances.

        Args:
            stores: of their audio.
            lexicon: gives the phones of what is not aligned.
            alignments: by the id of the utterance; None: nothing is aligned. Where no word is said all is silence.
            doubts: why a transcript is not believed, by the id of the utterance.
        """
        self.stores = tuple(stores)
        encode = TextEncoder(lexicon)
        examples: list[Example] = []
        rejected: list[Rejected] = []
        config = AcousticConfig(len(CHARACTERS), len(PHONES))  # frames are as long in every network
        for number, store in enumerate(self.stores):
            rejected += store.rejected
            for index, (one, samples) in enumerate(zip(store.utterances, store.lengths().tolist(), strict=True)):
                alignment = None
                if alignments is not None:
                    frames = -(-samples // config.frame_samples)
                    alignment = alignments.get(one.id) if one.text else silence(frames)
                characters, phones = encode(one.text)
                if alignment is not None:
                    phones = alignment.phones[alignment.phones != SILENCE]
                fewest = int(samples / max(store.speeds)) // config.frame_samples
                reason = (doubts or {}).get(one.id) or unlearnable(characters, phones, fewest)
                if reason:
                    rejected.append(Rejected(one.id, 0, reason))
                    continue
                examples.append(
                    Example(
                        number, index, one.id, one.text, one.source, one.speaker, samples, characters, phones, alignment
                    )
                )
        self.examples = tuple(examples)
        self.rejected = tuple(rejected)

    @property
    def utterances(self) -> int:
        return len(self.examples)

    @property
    def seconds(self) -> float:
        """Length of all recordings together."""
        return sum(example.samples for example in self.examples) / FrontendConfig.sample_rate

    def alignments(self) -> Iterator[Alignment]:
        """Of utterances in which something is said: each text once, lest prompts that many have read drown speech."""
        once = {example.text: example for example in self.examples if example.text and example.alignment is not None}
        return (example.alignment for example in once.values())

    def realigned(self, alignments: Mapping[str, Alignment], doubts: Mapping[str, str]) -> StoredSet:
        """The same set with other alignments, without the utterances that are doubted now."""
        other = object.__new__(StoredSet)
        other.stores = self.stores
        other.examples = tuple(_realigned(one, alignments.get(one.id)) for one in self.examples if one.id not in doubts)
        other.rejected = self.rejected + tuple(
            Rejected(one.id, 0, doubts[one.id]) for one in self.examples if one.id in doubts
        )
        return other

    def plan(self, options: RowOptions, config: AcousticConfig, seed: int, epoch: int) -> list[Step]:
        """An epoch's steps in order; see `asr.data.rows`. Each utterance has one of its store's speeds in an epoch."""
        random = np.random.default_rng((seed, epoch))
        shares = np.array([options.shares.get(example.source, 1.0) for example in self.examples])
        whole = shares.astype(int)
        taken = np.repeat(np.arange(len(shares)), whole + (random.random(len(shares)) < shares - whole))
        if not len(taken):
            raise UsageError("the shares leave nothing to learn from")
        speeds = [store.speeds for store in self.stores]
        chosen = []
        for number, chance in zip(taken.tolist(), random.random(len(taken)).tolist(), strict=True):
            example = self.examples[number]
            available = speeds[example.store]
            speed = available[int(chance * len(available))]
            samples = self.stores[example.store].lengths(speed)[example.index]
            chosen.append((number, speed, -(-int(samples) // config.frame_samples)))
        if options.recording_seconds:
            return plan_recordings(self._by_speaker(chosen, random), random, options, config)
        return plan_rows([chosen[k] for k in random.permutation(len(chosen))], random, options, config)

    def batch(self, step: Step, part: int, parts: int, config: AcousticConfig) -> Batch | None:
        """Every ``parts``-th row of a step, from row ``part`` on."""
        rows = step.rows[part::parts]
        return collate(rows, step.length, self.spoken, config) if rows else None

    def spoken(self, place: Place) -> Spoken:
        """What is at a place of a row."""
        example = self.examples[place.utterance]
        samples = self.stores[example.store].samples(example.index, place.speed)
        return Spoken(samples, example.characters, example.phones, example.alignment, place.speed)

    def one_by_one(self, config: AcousticConfig, batch_seconds: float) -> Iterator[tuple[list[int], Batch]]:
        """Every example once as recorded, in a row of its own, in batches of like length: their numbers, the batch."""
        frames = [-(-example.samples // config.frame_samples) for example in self.examples]
        order = np.argsort(frames, kind="stable").tolist()
        budget = batch_seconds * config.frontend.sample_rate / config.frame_samples
        members: list[int] = []
        for number in [*order, None]:
            if members and (number is None or frames[number] * (len(members) + 1) > budget):
                length = config.whole_blocks(frames[members[-1]] + LEAST_PAUSE + config.delay_frames)
                rows = [Row((Place(k, 1.0, 0),), frames[k]) for k in members]
                yield members, collate(rows, length, self.spoken, config)
                members = []
            if number is not None:
                members = [*members, number]

    def normalisation(self, config: AcousticConfig) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of each mel, (M,) each, over up to `MEASURED_SECONDS` of all recordings."""
        log_mel = LogMel(config.frontend)
        order = np.random.default_rng(0).permutation(len(self.examples)).tolist()
        sums, squares, frames = np.zeros(config.frontend.mels), np.zeros(config.frontend.mels), 0
        for number in order:
            samples = self.spoken(Place(number, 1.0, 0)).samples
            with torch.inference_mode():
                mels = log_mel(torch.from_numpy(samples.astype(np.float32) / FULL_SCALE)[None])[0].double().numpy()
            sums, squares, frames = sums + mels.sum(axis=0), squares + np.square(mels).sum(axis=0), frames + len(mels)
            if frames * config.frontend.hop_samples >= MEASURED_SECONDS * config.frontend.sample_rate:
                break
        mean = sums / frames
        return mean, np.sqrt(np.maximum(squares / frames - mean**2, 0))

    def _by_speaker(
        self, chosen: Sequence[tuple[int, float, int]], random: np.random.Generator
    ) -> list[list[tuple[int, float, int]]]:
        """What each speaker says in an epoch, in about the order of the table, from another place in every epoch.

        The speakers are in random order; recordings without words are laid between what they say.
        """
        groups: dict[tuple[int, str, str], list[tuple[int, float, int]]] = {}
        wordless = []
        for one in chosen:
            example = self.examples[one[0]]
            key = example.store, example.source, example.speaker
            (groups.setdefault(key, []) if example.text else wordless).append(one)
        speakers = list(groups.values()) or [[]]
        for group in speakers:
            turn = int(random.integers(len(group) or 1))
            group[:] = group[turn:] + group[:turn]
        for one in wordless:
            group = speakers[random.integers(len(speakers))]
            group.insert(int(random.integers(len(group) + 1)), one)
        return [speakers[k] for k in random.permutation(len(speakers))]


def _realigned(example: Example, alignment: Alignment | None) -> Example:
    if alignment is None:
        return example
    return replace(example, alignment=alignment, phones=alignment.phones[alignment.phones != SILENCE])


class TextEncoder:
    """Text as ids of characters and of phones, each word in its first pronunciation."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._characters, self._phones = TokenTable(CHARACTERS), TokenTable(PHONES)

    def __call__(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        spoken = [phone for word in text.split() for phone in self._lexicon.pronounce(word)[0]]
        letters = self._characters.encode(text.replace(" ", WORD_BORDER))
        return np.array(letters, np.int64), np.array(self._phones.encode(spoken), np.int64)


def silence(frames: int) -> Alignment:
    """The alignment of a recording in which nothing is said."""
    return Alignment(np.array([SILENCE]), np.array([frames]), np.array([NO_WORD]), 0.0)


def unlearnable(characters: np.ndarray, phones: np.ndarray, frames: int) -> str | None:
    """Why CTC cannot align an utterance: it needs a frame a token, and one more between equal neighbours."""
    for name, ids in (("characters", characters), ("phones", phones)):
        needed = len(ids) + int(np.count_nonzero(ids[1:] == ids[:-1]))
        if needed > frames:
            return f"{len(ids)} {name} need {needed} frames, its audio has {frames}"
    return None
