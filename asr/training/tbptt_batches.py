"""Long recordings made of utterances: their features joined by pauses, cut into segments with the targets of each.

A segment ends in a pause at least as long as the network's look-ahead. So what is said in a segment is heard to its end
in it; the first rows of a segment, which speak of the end of the one before, speak of a pause, and no loss is taken of
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.data.batches import IGNORED, NO_CHAIN, SILENCE_PROBABILITY, Batch, Corpus, padded_chains
from asr.training.tbptt_plan import LEAST_PAUSE_SECONDS, MOST_PAUSE_SECONDS, Segment
from asr.words.tokens import BLANK, CHARACTERS, WORD_BORDER

EDGE_FRAMES = 30  # mel frames at the edges of two utterances, of which the quietest make the pause between them
QUIET_FRAMES = 10
BORDER = CHARACTERS.index(WORD_BORDER)


class LongBatch(NamedTuple):
    """Recordings side by side, all cut at the same frames."""

    mels: Tensor  # (B, F, M) float32 of the whole recordings, and the mel frames that their last frames overlap
    segments: tuple[Batch, ...]  # their mels are views of the above, their targets lack the look-ahead at the end
    lengths: tuple[int, ...]  # mel frames from the start of each segment to that of the next

    def views(self, mels: Tensor) -> list[Tensor]:
        """The mel frames of each segment, those included that it shares with the next one."""
        starts = [0, *accumulate(self.lengths)]
        overlap = mels.shape[1] - starts[-1]
        return [mels[:, start : start + length + overlap] for start, length in zip(starts, self.lengths, strict=False)]


class LongRecordings:
    """Reads segments of a corpus and joins them."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        frontend = corpus.config.frontend
        self._frames_a_second = frontend.sample_rate / frontend.hop_samples
        # Features end in a window of zeros, which is the end of a stream, not of an utterance.
        self._padding = -(-frontend.window_samples // frontend.hop_samples)

    def collate(self, recordings: Sequence[Sequence[Segment]], random: np.random.Generator) -> LongBatch:
        """Join (B, S) segments, with pauses drawn from ``random``."""
        segments = [self._segment(recordings, number, random) for number in range(len(recordings[0]))]
        config = self.corpus.config
        rows, mels = len(recordings), config.frontend.mels
        end = torch.full((rows, config.overlap_mel_frames, mels), float(np.log(config.frontend.floor)))
        lengths = tuple(batch.mels.shape[1] for batch in segments)
        long = LongBatch(torch.cat([*(batch.mels for batch in segments), end], dim=1), tuple(segments), lengths)
        views = long.views(long.mels)
        return long._replace(
            segments=tuple(batch._replace(mels=mels) for batch, mels in zip(segments, views, strict=True))
        )

    def _segment(self, recordings: Sequence[Sequence[Segment]], number: int, random: np.random.Generator) -> Batch:
        rows = [recording[number] for recording in recordings]
        heard = [[self._mels(member) for member in row.members] for row in rows]
        # The pause that ends a segment leads over to the next one.
        after = [
            self._mels(recording[number + 1].members[0]) if number + 1 < len(recording) else None
            for recording in recordings
        ]
        pauses = self._pauses([[len(mel) for mel in row] for row in heard], random)
        mels, aligned, chains = zip(
            *(self._join(*row, random) for row in zip(rows, heard, after, pauses, strict=True)), strict=True
        )
        spelt = [self._characters(row, number > 0 and not row.first) for row in rows]
        spoken = [np.concatenate([self.corpus.examples[k].phones for k, _ in row.members]) for row in rows]
        return Batch(
            mels=torch.from_numpy(np.stack(mels)),
            frames=torch.full((len(rows),), len(aligned[0])),
            characters=torch.from_numpy(np.concatenate(spelt).astype(np.int64)),
            character_lengths=torch.tensor([len(row) for row in spelt]),
            phones=torch.from_numpy(np.concatenate(spoken).astype(np.int64)),
            phone_lengths=torch.tensor([len(row) for row in spoken]),
            aligned=torch.from_numpy(np.stack(aligned)),
            **dict(zip(("first", "rest", "chain_lengths"), padded_chains(chains), strict=True)),
        )

    def _mels(self, member: tuple[int, int]) -> np.ndarray:
        """Log-mel frames (F, M) of an (example, variant), F >= 1."""
        number, variant = member
        example = self.corpus.examples[number]
        mels = self.corpus.stores[example.store].mels(example.index, variant)
        return mels[: max(1, len(mels) - self._padding)]

    def _pauses(self, lengths: Sequence[Sequence[int]], random: np.random.Generator) -> list[np.ndarray]:
        """Mel frames of the pause after each utterance, such that all rows become equally long.

        ``lengths`` are those of each row's utterances, in mel frames.
        """
        config = self.corpus.config
        least, most = (round(s * self._frames_a_second) for s in (LEAST_PAUSE_SECONDS, MOST_PAUSE_SECONDS))
        pauses = [random.integers(least, most + 1, len(row)) for row in lengths]
        for row in pauses:
            row[-1] = max(row[-1], (config.delay_frames + 1) * config.stack)
        totals = [sum(row) + int(pause.sum()) for row, pause in zip(lengths, pauses, strict=True)]
        longest = config.whole_blocks(-(-max(totals) // config.stack)) * config.stack
        for row, total in zip(pauses, totals, strict=True):
            row += random.multinomial(longest - total, np.full(len(row), 1 / len(row)))
        return pauses

    def _join(
        self,
        segment: Segment,
        mels: Sequence[np.ndarray],
        after: np.ndarray | None,
        pauses: np.ndarray,
        random: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """One row of a segment: mels (T * stack, M), the states of its frames but the last, (T - delay,), its chain."""
        config = self.corpus.config
        pieces, phones = [], []
        followers = [*mels[1:], after]
        for member, mel, follower, pause in zip(segment.members, mels, followers, pauses.tolist(), strict=True):
            edges = [mel[-EDGE_FRAMES:]] + ([] if follower is None else [follower[:EDGE_FRAMES]])
            pieces += [mel, self._silence(np.concatenate(edges), pause, random)]
            phones += [self._aligned(member, len(mel)), np.full(pause, BLANK)]
        heard = np.concatenate(phones)
        centres = np.arange(len(heard) // config.stack - config.delay_frames) * config.stack + config.stack // 2
        biphones = self.corpus.biphones
        states, chain = np.full(len(centres), IGNORED), NO_CHAIN
        if biphones and (heard != IGNORED).all():
            states, chain = biphones.of_frames(heard, centres), biphones.chain(heard[: centres[-1] + 1])
        return np.concatenate(pieces).astype(np.float32), states, chain

    def _silence(self, edges: np.ndarray, frames: int, random: np.random.Generator) -> np.ndarray:
        """A pause: the room as it sounds at the edges of speech, or a microphone that is muted."""
        if random.random() < SILENCE_PROBABILITY:
            return np.full((frames, edges.shape[1]), np.log(self.corpus.config.frontend.floor), edges.dtype)
        quiet = edges[np.argsort(edges.mean(axis=1, dtype=np.float32))[:QUIET_FRAMES]]
        return quiet[random.integers(len(quiet), size=frames)]

    def _aligned(self, member: tuple[int, int], frames: int) -> np.ndarray:
        """Phone of each mel frame of an utterance at its variant's speed: (frames,) int64."""
        number, variant = member
        example = self.corpus.examples[number]
        if example.aligned is None:
            return np.full(frames, IGNORED)
        original = np.rint(np.arange(frames) * self.corpus.stores[example.store].speed(example.index, variant))
        phones = np.full(frames, BLANK)
        inside = original < len(example.aligned)
        phones[inside] = example.aligned[original[inside].astype(int)]
        return phones

    def _characters(self, segment: Segment, goes_on: bool) -> np.ndarray:
        """What a segment spells, a border between utterances; one before them where a recording goes on."""
        examples = [self.corpus.examples[number] for number, _ in segment.members]
        parts = [part for example in examples if example.text for part in ([BORDER], example.characters)]
        return np.concatenate(parts if goes_on else parts[1:]) if parts else np.empty(0)
