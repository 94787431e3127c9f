"""What training learns from: features of utterances with their targets, and the plan of an epoch's batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.acoustic.phone_states import SILENCE, Biphones
from asr.data.alignments import AlignmentStore
from asr.data.features import FeatureStore
from asr.data.manifest import Rejected
from asr.models.acoustic import AcousticConfig
from asr.words.lexicon import Lexicon
from asr.words.tokens import CHARACTERS, PHONES, WORD_BORDER, TokenTable

TAIL_FRAMES = 2  # the end of a stream is padded with zeros until its last sample is covered
SILENCE_PROBABILITY = 0.2  # of more digital silence before an utterance, and of more after it
LONGEST_SILENCE_FRAMES = 33
IGNORED = -100  # frame target of a frame that nobody has aligned
NO_CHAIN = (np.zeros(0, int), np.zeros(0, int))  # of an utterance that nobody has aligned


class Batch(NamedTuple):
    """Padded utterances; T rows of targets are followed in padding by the network's delay, and up to a whole block."""

    mels: Tensor  # (B, mel frames of T + delay acoustic frames or a few more, M) float32, padded with silence
    frames: Tensor  # (B,) acoustic frames of each utterance
    characters: Tensor  # (all characters,) ids, utterance after utterance
    character_lengths: Tensor  # (B,)
    phones: Tensor  # (all phones,)
    phone_lengths: Tensor  # (B,)
    aligned: Tensor  # (B, T) state of each frame by forced alignment, or IGNORED
    first: Tensor  # (B, N) states of the first frames of the phones in order, silences too; N = 0 where nobody aligned
    rest: Tensor  # (B, N) states of their other frames
    chain_lengths: Tensor  # (B,) phones of each utterance, 0 where nobody aligned it

    def to(self, move: Callable[[Tensor], Tensor]) -> Batch:
        """Apply ``move`` (to a device, say) to every tensor."""
        return Batch(*(move(tensor) for tensor in self))

    def repeated(self, views: int) -> Batch:
        """Every utterance ``views`` times, the whole batch after the whole batch."""
        return Batch(*(torch.cat([tensor] * views) for tensor in self))


@dataclass(frozen=True)
class Example:
    """One usable utterance."""

    store: int
    index: int  # in the store
    seconds: float
    text: str
    source: str
    characters: np.ndarray  # ids
    phones: np.ndarray  # ids
    aligned: np.ndarray | None  # (F,) int8 phone of each mel frame at speed 1


class Heard(NamedTuple):
    """An utterance as it goes into a batch."""

    mels: np.ndarray  # (F, M) log-mel frames
    characters: np.ndarray  # ids
    phones: np.ndarray  # ids
    aligned: np.ndarray | None  # (F at speed 1,) phone of each mel frame
    speed: float


class Corpus:
    """Examples of one or more feature stores; ``rejected`` names the utterances that cannot be learnt from and why."""

    def __init__(
        self,
        stores: Sequence[FeatureStore],
        config: AcousticConfig,
        lexicon: Lexicon,
        alignments: AlignmentStore | None = None,
    ) -> None:
        self.stores = tuple(stores)
        self.config = config
        characters, phones = TokenTable(CHARACTERS), TokenTable(PHONES)
        examples: list[Example] = []
        rejected: list[Rejected] = []
        sources = {utterance.id: utterance.source for store in self.stores for utterance in store.utterances}
        doubts = alignments.doubts(sources) if alignments else {}
        for number, store in enumerate(self.stores):
            rejected += store.rejected
            for index, utterance in enumerate(store.utterances):
                aligned = alignments.phones(utterance.id) if alignments else None
                if alignments and not utterance.text:
                    aligned = np.zeros(int(store.frames()[index]), np.int8)
                letters = np.array(characters.encode(utterance.text.replace(" ", WORD_BORDER)))
                spoken = [phone for word in utterance.text.split() for phone in lexicon.pronounce(word)[0]]
                example = Example(
                    number,
                    index,
                    utterance.seconds,
                    utterance.text,
                    utterance.source,
                    letters,
                    np.array(phones.encode(spoken)),
                    aligned,
                )
                reason = doubts.get(utterance.id) or self._unlearnable(store, example)
                if reason:
                    rejected.append(Rejected(utterance.id, 0, reason))
                else:
                    examples.append(example)
        self.examples = tuple(examples)
        self.rejected = tuple(rejected)
        self.biphones: Biphones | None = None

    @property
    def seconds(self) -> float:
        """Length of all recordings together."""
        return sum(example.seconds for example in self.examples)

    def for_model(self, config: AcousticConfig, biphones: Biphones | None = None) -> Corpus:
        """The same corpus, its batches laid out for another network with the same front end and frames.

        Args:
            config: of the network.
            biphones: the states of its state head, where it has one.
        """
        if (config.frontend, config.stack) != (self.config.frontend, self.config.stack):
            raise ValueError("another front end or frame length needs a corpus of its own")
        other = copy(self)
        other.config, other.biphones = config, biphones
        return other

    def alignments(self) -> Iterator[np.ndarray]:
        """Phone of each mel frame (F,) of the utterances in which something is said and is aligned."""
        return (example.aligned for example in self.examples if example.aligned is not None and example.text)

    def noises(self) -> list[np.ndarray]:
        """Log-mel frames (F, M) of the recordings in which nothing is said."""
        return [self.stores[example.store].mels(example.index) for example in self.examples if not example.text]

    def plan(
        self, seed: int, epoch: int, batch_seconds: float, shares: Mapping[str, float] | None = None
    ) -> list[list[tuple[int, int]]]:
        """An epoch's batches in order, as (example, variant) pairs: the same for the same seed and epoch.

        Batches hold utterances of like length, at most ``batch_seconds`` of audio with its padding. ``shares``: of a
        source, the part of its utterances to take, drawn anew each epoch; all where it says nothing.
        """
        random = np.random.default_rng((seed, epoch))
        chances = np.array([(shares or {}).get(example.source, 1.0) for example in self.examples])
        taken = random.random(len(chances)) < chances
        available = [store.variants for store in self.stores]
        variants = [int(random.choice(available[example.store])) for example in self.examples]
        lengths = np.array([example.seconds for example in self.examples])
        order = np.argsort(lengths * random.uniform(0.9, 1.1, len(lengths)))  # so that batches differ between epochs
        batches: list[list[tuple[int, int]]] = []
        batch: list[tuple[int, int]] = []
        longest = 0.0
        for number in order[taken[order]].tolist():
            longest = max(longest, lengths[number])
            if batch and longest * (len(batch) + 1) > batch_seconds:
                batches.append(batch)
                batch, longest = [], lengths[number]
            batch.append((number, variants[number]))
        if batch:
            batches.append(batch)
        return [batches[number] for number in random.permutation(len(batches))]

    def collate(self, members: Sequence[tuple[int, int]], random: np.random.Generator | None = None) -> Batch:
        """Read the features of (example, variant) pairs and pad them into one batch.

        Every utterance ends in TAIL_FRAMES of digital silence, as a stream does. With ``random``, some also begin and
        end in up to a second of it, for the microphones that are muted or gated to zero.
        """
        chosen = [(self.examples[number], variant) for number, variant in members]
        stores = [self.stores[example.store] for example, _ in chosen]
        return collate(
            self.config,
            [
                Heard(
                    store.mels(example.index, variant),
                    example.characters,
                    example.phones,
                    example.aligned,
                    store.speed(example.index, variant),
                )
                for store, (example, variant) in zip(stores, chosen, strict=True)
            ],
            random,
            self.biphones,
        )

    def _unlearnable(self, store: FeatureStore, example: Example) -> str | None:
        """Why CTC cannot align an example: it needs a frame a token, and one more between equal neighbours."""
        fewest = min(int(store.frames(variant)[example.index]) for variant in store.variants) // self.config.stack
        for name, ids in (("characters", example.characters), ("phones", example.phones)):
            needed = len(ids) + int(np.count_nonzero(ids[1:] == ids[:-1]))
            if needed > fewest:
                return f"{len(ids)} {name} need {needed} frames, its audio has {fewest}"
        return None


def collate(
    config: AcousticConfig,
    utterances: Sequence[Heard],
    random: np.random.Generator | None = None,
    biphones: Biphones | None = None,
) -> Batch:
    """Pad utterances into one batch; `Corpus.collate` tells how. Without ``biphones`` no frame has a target."""
    stack = config.stack
    mels = [utterance.mels for utterance in utterances]
    heard = np.array([len(mel) // stack for mel in mels])
    lead, tail = _silences(len(mels), random)
    frames = lead + heard + TAIL_FRAMES + tail
    longest = int(frames.max())
    silence = np.log(config.frontend.floor)
    rows = config.whole_blocks(longest + config.delay_frames)
    padded = np.full((len(mels), config.mel_frames(rows), config.frontend.mels), silence, dtype=np.float32)
    aligned = np.full((len(mels), longest), IGNORED, dtype=np.int64)
    chains = [NO_CHAIN] * len(mels)
    for row, utterance in enumerate(utterances):
        padded[row, lead[row] * stack : lead[row] * stack + len(mels[row])] = mels[row]
        if biphones and utterance.aligned is not None and len(utterance.aligned):
            centres = np.arange(heard[row]) * stack + stack // 2  # mel frames, at this variant's speed
            original = np.rint(centres * utterance.speed).astype(int)
            original = original[original < len(utterance.aligned)]
            aligned[row, : frames[row]] = SILENCE
            aligned[row, lead[row] : lead[row] + len(original)] = biphones.of_frames(utterance.aligned, original)
            before = np.full(min(1, lead[row]), SILENCE)
            chains[row] = biphones.chain(np.concatenate([before, utterance.aligned, [SILENCE]]))
    return Batch(
        torch.from_numpy(padded),
        torch.from_numpy(frames),
        torch.from_numpy(np.concatenate([utterance.characters for utterance in utterances])),
        torch.tensor([len(utterance.characters) for utterance in utterances]),
        torch.from_numpy(np.concatenate([utterance.phones for utterance in utterances])),
        torch.tensor([len(utterance.phones) for utterance in utterances]),
        torch.from_numpy(aligned),
        *padded_chains(chains),
    )


def padded_chains(chains: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor, Tensor]:
    """Chains of first and other states, (N,) each, as tensors (B, N), (B, N) and their lengths (B,)."""
    lengths = np.array([len(first) for first, _ in chains])
    states = np.zeros((2, len(chains), int(lengths.max())), dtype=np.int64)
    for row, chain in enumerate(chains):
        states[:, row, : lengths[row]] = chain
    return torch.from_numpy(states[0]), torch.from_numpy(states[1]), torch.from_numpy(lengths)


def _silences(count: int, random: np.random.Generator | None) -> np.ndarray:
    """Frames of silence to add before and after each of ``count`` utterances: (2, count)."""
    if random is None:
        return np.zeros((2, count), dtype=int)
    lengths = random.integers(1, LONGEST_SILENCE_FRAMES + 1, size=(2, count))
    return np.where(random.random((2, count)) < SILENCE_PROBABILITY, lengths, 0)
