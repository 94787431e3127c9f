"""Forced alignment: which phone of a known text each frame belongs to, by Viterbi search over pronunciation graphs.

A node of a graph is a phone after another phone, or after silence. It takes one frame in its first state and any number
in its other state, the topology of `asr.acoustic.phone_states`. Words may have several pronunciations, and silence may
stand before, between and after them. Utterances are aligned in batches, on any device with torch or with numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from asr.acoustic.phone_states import SILENCE, Biphones

if TYPE_CHECKING:
    from torch import Tensor

MOST_PRONUNCIATIONS = 3  # of a word; the likeliest
NO_WORD = -1  # of a node or run of silence
IMPOSSIBLE = -1e30  # score of what cannot be; finite, so that sums and differences stay numbers
START, NONE = -1, -2  # a predecessor: the beginning of the utterance; nothing, where a node has fewer than others
BLOCK_FRAMES = 64  # of which the scores of nodes are gathered at once
WIDE = 4_000  # nodes of a graph beyond which only some are searched in a block of frames: texts of minutes
BEAM = 1e4  # nats; paths that are this much worse than the best one are given up in a wide graph

Pronunciations = Sequence[tuple[int, ...]]  # of a word: phone ids, the likeliest pronunciation first


@dataclass(frozen=True)
class PronunciationGraph:
    """All ways to pronounce a text: N nodes with at most P predecessors each, in order of time."""

    phones: np.ndarray  # (N,) phone id, SILENCE for none
    before: np.ndarray  # (N,) phone that must precede it
    words: np.ndarray  # (N,) number of the word it is part of, NO_WORD for silence
    preceding: np.ndarray  # (N, P) nodes that it may follow, START or NONE
    last: np.ndarray  # (N,) bool: whether the utterance may end after it

    def __len__(self) -> int:
        return len(self.phones)

    @property
    def reach(self) -> int:
        """The most nodes by which one is ahead of one that it follows."""
        nodes = np.arange(len(self))[:, None]
        return int((nodes - np.where(self.preceding == NONE, nodes, self.preceding)).max())

    @classmethod
    def of(cls, words: Sequence[Pronunciations]) -> PronunciationGraph:
        """Build the graph of a text; without words it is silence."""
        phones: list[int] = []
        before: list[int] = []
        owners: list[int] = []
        preceding: list[list[int]] = []

        def add(phone: int, previous: int, nodes: list[int], word: int) -> int:
            phones.append(phone)
            before.append(previous)
            owners.append(word)
            preceding.append(nodes)
            return len(phones) - 1

        ends = [START]  # nodes that the next word may follow without a pause
        for number, pronunciations in enumerate(words):
            silence = add(SILENCE, SILENCE, ends, NO_WORD)
            contexts: dict[int, list[int]] = {}
            for node in ends:
                contexts.setdefault(SILENCE if node == START else phones[node], []).append(node)
            contexts.setdefault(SILENCE, []).append(silence)
            chosen = list(dict.fromkeys(map(tuple, pronunciations)))[:MOST_PRONUNCIATIONS]
            nodes: dict[tuple[int, ...], list[int]] = {}  # by the beginning of a pronunciation that leads to them
            for sounds in chosen:
                for length in range(1, len(sounds) + 1):
                    beginning = sounds[:length]
                    if beginning in nodes:
                        continue
                    before_it = contexts if length == 1 else {beginning[-2]: nodes[beginning[:-1]]}
                    nodes[beginning] = [add(beginning[-1], *context, number) for context in before_it.items()]
            ends = [node for sounds in chosen for node in nodes[sounds]]
        silence = add(SILENCE, SILENCE, ends, NO_WORD)
        last = np.zeros(len(phones), bool)
        last[[silence, *(node for node in ends if node != START)]] = True
        widest = max(map(len, preceding))
        table = np.array([nodes + [NONE] * (widest - len(nodes)) for nodes in preceding])
        return cls(np.array(phones), np.array(before), np.array(owners), table, last)


@dataclass(frozen=True)
class Alignment:
    """An utterance as R runs of phones and silence that cover its frames without a gap.

    The mismatch is the mean of log-likelihood(best state) - log-likelihood(aligned state) over the frames in which
    either is not silence. Log-posteriors would not do: their priors favour silence, into which a wrong text shrinks.
    """

    phones: np.ndarray  # (R,) phone id of each run, SILENCE for none
    ends: np.ndarray  # (R,) frame after its last one, in acoustic frames
    words: np.ndarray  # (R,) number of the word it is part of, NO_WORD for silence
    mismatch: float  # nats a frame by which the aligned states are less likely than the best ones; 0 is a perfect fit

    @classmethod
    def silence(cls, frames: int) -> Alignment:
        """Of a recording in which nothing is said."""
        return cls(np.array([SILENCE]), np.array([frames]), np.array([NO_WORD]), 0.0)

    @property
    def frames(self) -> int:
        """Acoustic frames of the utterance."""
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def starts(self) -> np.ndarray:
        """First frame of each run: (R,)."""
        return np.concatenate([[0], self.ends[:-1]]).astype(int)

    @property
    def before(self) -> np.ndarray:
        """The phone before each run, SILENCE before the first: (R,)."""
        return np.concatenate([[SILENCE], self.phones[:-1]]).astype(int)

    def word_runs(self) -> list[tuple[int, int]]:
        """Runs [first, last) of each word in order."""
        numbers = np.arange(self.words.max(initial=NO_WORD) + 1)
        spoken = np.flatnonzero(self.words != NO_WORD)
        first, last = (np.searchsorted(self.words[spoken], numbers, side) for side in ("left", "right"))
        return [(int(spoken[one]), int(spoken[other - 1]) + 1) for one, other in zip(first, last, strict=True)]


def align_batch(
    log_probs: np.ndarray | Tensor, frames: Sequence[int], graphs: Sequence[PronunciationGraph], biphones: Biphones
) -> list[Alignment | None]:
    """Find the best path of each utterance through its graph.

    Scores are log-probabilities of states less their log-priors: likelihoods but for a factor (Bourlard & Morgan 1994).

    Args:
        log_probs: (B, T, K) natural-log probabilities of states, on any device; torch is needed for tensors only.
        frames: (B,) acoustic frames of each utterance, at most T.
        graphs: (B,) of its text.
        biphones: the table of the K states.
    Returns:
        The alignment of each utterance, None where it has fewer frames than its text has phones.
    """
    search = _search(log_probs, frames, graphs, biphones)
    found: list[Alignment | None] = []
    for row, (count, graph) in enumerate(zip(frames, graphs, strict=True)):
        totals = np.where(graph.last, search.totals[row, : len(graph)], IMPOSSIBLE)
        if not count or totals.max() < IMPOSSIBLE / 2:
            found.append(None)
            continue
        nodes, begins = search.path(row, graph, int(totals.argmax()), count)
        starts = np.flatnonzero(begins)
        at = nodes[starts]
        ends = np.append(starts[1:], count)
        speech = search.speech[row, :count] | (graph.phones[nodes] != SILENCE)  # in other frames both are silence
        mismatch = -float(totals.max()) / max(1, int(speech.sum()))
        found.append(Alignment(graph.phones[at], ends, graph.words[at], mismatch))
    return found


@dataclass(frozen=True)
class _Search:
    """What the forward pass leaves behind, on the CPU."""

    choices: list[np.ndarray]  # of a block of frames (t, B, n) uint8: 2 * number of the best predecessor, + 1 where the
    # path was in a node's other state before; n nodes from `lowest` of the block on
    lowest: list[int]
    totals: np.ndarray  # (B, N) score of the best path that ends in each node with the utterance
    in_rest: np.ndarray  # (B, N) bool: whether that path ends in the node's other state
    speech: np.ndarray  # (B, T) bool: whether the best state of a frame is not silence

    def path(self, row: int, graph: PronunciationGraph, node: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Walk back from a last node: the node of each frame (T,), and whether it is in its first state (T,) bool."""
        nodes, begins = np.empty(frames, int), np.empty(frames, bool)
        resting = bool(self.in_rest[row, node])
        for frame in range(frames - 1, -1, -1):
            nodes[frame], begins[frame] = node, not resting
            block, lowest = self.choices[frame // BLOCK_FRAMES], self.lowest[frame // BLOCK_FRAMES]
            choices = block[frame % BLOCK_FRAMES, row]
            if not resting and frame:
                node = int(graph.preceding[node, choices[node - lowest] >> 1])
            resting = bool(choices[max(0, node - lowest)] & 1)
        return nodes, begins


def _search(
    log_probs: np.ndarray | Tensor, frames: Sequence[int], graphs: Sequence[PronunciationGraph], biphones: Biphones
) -> _Search:
    """The forward pass over all frames of a batch, node by node in parallel; scores are relative to the best state."""
    place, take, top, maximum = _operations(log_probs)
    count, width = len(graphs), max(map(len, graphs))
    most = max(graph.preceding.shape[1] for graph in graphs)
    states = np.zeros((2, count, width), np.int64)  # the first of each node, the other of each node
    preceding = np.full((count, width, most), width + 1, np.int64)  # column `width` is START, the next one NONE
    for row, graph in enumerate(graphs):
        pairs, size = (graph.before, graph.phones), len(graph)
        states[0, row, :size], states[1, row, :size] = biphones.first[pairs], biphones.rest[pairs]
        table = np.where(graph.preceding == START, width, graph.preceding)
        preceding[row, :size, : table.shape[1]] = np.where(table == NONE, width + 1, table)
    ending: dict[int, list[int]] = {}
    for row, last in enumerate(frames):
        ending.setdefault(last, []).append(row)
    longest, reach = max(frames), max(graph.reach for graph in graphs)
    priors = place(biphones.log_priors.astype(np.float32))
    scores = place(np.full((count, width + 2), IMPOSSIBLE, np.float32))
    first, rest = place(np.full((2, count, width), IMPOSSIBLE, np.float32))
    scores[:, width] = 0.0
    totals, in_rest = place(np.full((count, width), IMPOSSIBLE, np.float32)), place(np.zeros((count, width), bool))
    speech = np.zeros((count, longest), bool)
    kept, lowest, low, high = [], [], 0, width
    for start in range(0, longest, BLOCK_FRAMES):
        part = slice(start, min(longest, start + BLOCK_FRAMES))
        if width > WIDE:  # only the nodes that a path worth keeping can be in
            if start:
                alive = _on_cpu((scores[:, :width] > top(scores)[0][:, None] - BEAM).any(0)).nonzero()[0]
                low, high = int(alive[0]), min(width, int(alive[-1]) + 1 + BLOCK_FRAMES * reach)
                for array in (scores, first, rest):
                    array[:, :low] = array[:, high:width] = IMPOSSIBLE
            else:
                low, high = 0, min(width, BLOCK_FRAMES * reach)
        nodes = slice(low, high)
        before = place(preceding[:, nodes].reshape(count, -1))
        block = log_probs[:, part] - priors
        highest, state = top(block)
        speech[:, part] = _on_cpu(state) != SILENCE
        block = block - highest[..., None]
        entered, stayed = (take(block, place(states[which, :, None, nodes]), 2) for which in (0, 1))  # (B, t, n)
        choices = place(np.zeros((part.stop - start, count, high - low), np.uint8))
        for offset in range(part.stop - start):
            entering, choice = top(take(scores, before, 1).reshape(count, high - low, most))
            choices[offset] = 2 * choice + (rest[:, nodes] > first[:, nodes])
            first[:, nodes] = entering + entered[:, offset]
            rest[:, nodes] = scores[:, nodes] + stayed[:, offset]
            scores[:, nodes] = maximum(first[:, nodes], rest[:, nodes])
            scores[:, width] = IMPOSSIBLE
            rows = ending.get(start + offset + 1)
            if rows:
                totals[rows], in_rest[rows] = scores[rows, :width], (rest > first)[rows]
        kept.append(_on_cpu(choices))
        lowest.append(low)
    return _Search(kept, lowest, _on_cpu(totals), _on_cpu(in_rest), speech)


def _operations(scores: np.ndarray | Tensor) -> tuple:
    """What numpy and torch call differently: to place an array, to gather, the best along the last axis, the larger."""
    if isinstance(scores, np.ndarray):
        return (lambda array: array), np.take_along_axis, lambda x: (x.max(axis=-1), x.argmax(axis=-1)), np.maximum
    import torch

    def place(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(scores.device)

    return place, torch.take_along_dim, lambda x: x.max(dim=-1), torch.maximum


def _on_cpu(array: np.ndarray | Tensor) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def batches_by_length(frames: Sequence[int], most_frames: int, most_utterances: int = 256) -> Iterator[np.ndarray]:
    """Numbers of utterances in batches of like length, longest first, of at most ``most_frames`` with their padding.

    An utterance that is longer than that has a batch of its own.
    """
    order = np.argsort(-np.asarray(frames), kind="stable")
    start = 0
    while start < len(order):
        size = max(1, min(most_utterances, most_frames // max(1, frames[order[start]])))
        yield order[start : start + size]
        start += size


def ctc_states(phones: int) -> Biphones:
    """A table of states for models that have CTC's phones only (ids there are, the blank included).

    A phone begins in a frame of its own; what follows is the phone again or the blank. See `ctc_scores`.
    """
    first, rest = (np.tile(np.arange(phones) + more, (phones, 1)) for more in (0, phones - 1))
    rest[:, SILENCE] = SILENCE
    owners = np.concatenate([np.arange(phones), np.arange(1, phones)])
    return Biphones(first, rest, owners, np.zeros(len(owners), np.float32))


def ctc_scores(log_probs: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """Scores (B, T, 2P - 1) of the states of `ctc_states`, from log-probabilities of CTC's phones (B, T, P)."""
    if isinstance(log_probs, np.ndarray):
        return np.concatenate([log_probs, np.maximum(log_probs[..., 1:], log_probs[..., :1])], axis=-1)
    import torch

    return torch.cat([log_probs, torch.maximum(log_probs[..., 1:], log_probs[..., :1])], dim=-1)
