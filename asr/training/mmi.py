"""Lattice-free maximum mutual information: a transcript's states against those of everything else that may be said.

The recursions compute the value and its gradient together: the gradient by the scores of log of a sum over paths is
how often the paths visit each state (the occupancies of Baum et al. 1970), which forward and backward sums give without
automatic differentiation. Nothing in them waits for the device or depends on the data, so on CUDA they can be captured
as one graph for each shape of batch.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from asr.acoustic.phone_states import SILENCE, Biphones

BORDER = 0  # of a sequence of phones: stands before its first phone and after its last
IMPOSSIBLE = -1e30  # log-probability of what cannot be
TINY = 1e-35  # so that a batch's padding never divides by zero


class LatticeFreeMmi(nn.Module):
    """How much likelier everything together is than the transcript (Povey et al. 2016), in nats.

    The transcript's own probability in the trigram model is left out: training cannot change it.

    Frames are weighed by probabilities of states over their priors. Everything is any sequence of phones and silences,
    as likely as a trigram model of those of the training data has it.
    """

    def __init__(self, biphones: Biphones, sequences: Iterable[np.ndarray], graphs: bool = False) -> None:
        """Estimate the trigram model.

        Args:
            biphones: the states.
            sequences: of utterances, the phones that follow each other, silences (id 0) included.
            graphs: whether to capture the recursions as CUDA graphs.
        """
        super().__init__()
        self.graphs = graphs
        silence = len(biphones.first)  # as a phone; 0 is the border of a sequence
        named = (np.where(sequence == SILENCE, silence, sequence) for sequence in sequences)
        self.register_buffer("trigrams", torch.from_numpy(phone_trigrams(named, silence + 1)), persistent=False)
        self.register_buffer("log_priors", torch.from_numpy(biphones.log_priors), persistent=False)
        # What comes after silence, or first, comes after no phone.
        for name in ("first", "rest"):
            table = np.pad(getattr(biphones, name), (0, 1))
            table[silence] = table[SILENCE]
            table[:, silence] = SILENCE
            self.register_buffer(name, torch.from_numpy(table), persistent=False)
        self._captured: dict[tuple[int, ...], _Captured | None] = {}

    def forward(self, log_probs: Tensor, frames: Tensor, first: Tensor, rest: Tensor, lengths: Tensor) -> Tensor:
        """The loss of each row.

        Args:
            log_probs: (B, T, K) natural logarithms.
            frames: (B,) frames of each row; what lies beyond is padding.
            first: (B, N) states of the first frames of the transcript's phones.
            rest: (B, N) states of their other frames.
            lengths: (B,) phones of each row; 0: they are not known.
        Returns:
            (B,) nats, 0 for rows that are not known or too short.
        """
        return _Loss.apply(log_probs - self.log_priors, frames, first, rest, lengths, self)

    def value_and_gradient(
        self, scores: Tensor, inside: Tensor, first: Tensor, rest: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss (B,) and its gradient by the scores (B, T, K); ``inside`` (T, B) tells frames from padding."""
        arguments = (scores, inside, first, rest, lengths)
        shape = (*scores.shape, first.shape[1])
        if not (self.graphs and scores.is_cuda):
            return self._compute(*arguments)
        if shape not in self._captured:  # a shape that comes once is not worth a graph
            self._captured[shape] = None
            return self._compute(*arguments)
        if self._captured[shape] is None:
            self._captured[shape] = _Captured(self._compute, arguments)
        return self._captured[shape](*arguments)

    def _compute(
        self, scores: Tensor, inside: Tensor, first: Tensor, rest: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        everything, occupied = log_denominator(scores, inside, self.trigrams, self.first, self.rest)
        transcript, visited = log_of_chain(scores, inside, first, rest, lengths)
        usable = (transcript > IMPOSSIBLE / 2) & (lengths > 0)
        gradient = (occupied - visited) * usable[:, None, None]
        return torch.where(usable, everything - transcript, 0.0), gradient


class _Loss(torch.autograd.Function):
    """The gradient that was computed with the value."""

    @staticmethod
    def forward(ctx, scores: Tensor, frames: Tensor, first: Tensor, rest: Tensor, lengths: Tensor, mmi) -> Tensor:
        inside = torch.arange(scores.shape[1], device=scores.device)[:, None] < frames  # (T, B)
        loss, gradient = mmi.value_and_gradient(scores.detach(), inside, first, rest, lengths)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx, by_loss: Tensor):
        (gradient,) = ctx.saved_tensors
        return gradient * by_loss[:, None, None], None, None, None, None, None


class _Captured:
    """A computation as one CUDA graph with its own inputs and outputs: thousands of launches become one."""

    _pool = None  # of memory, shared by all graphs, which never run at the same time

    def __init__(self, compute, arguments: tuple[Tensor, ...]) -> None:
        self._inputs = [argument.clone() for argument in arguments]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries allocate what they keep before the capture
            compute(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        _Captured._pool = _Captured._pool or torch.cuda.graph_pool_handle()
        self._graph = torch.cuda.CUDAGraph()
        # Other threads, which make the next batches, may go on using the device.
        with torch.cuda.graph(self._graph, pool=_Captured._pool, capture_error_mode="thread_local"):
            self._outputs = compute(*self._inputs)

    def __call__(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        for own, argument in zip(self._inputs, arguments, strict=True):
            own.copy_(argument)
        self._graph.replay()
        return tuple(output.clone() for output in self._outputs)


def log_denominator(
    scores: Tensor, inside: Tensor, trigrams: Tensor, first: Tensor, rest: Tensor
) -> tuple[Tensor, Tensor]:
    """Log of the sum over all phone sequences and all their alignments, and its gradient.

    Sums over the last two phones are kept as probabilities and scaled each frame, so that a step is one batched matrix
    product instead of thousands of log-sum-exps. Histories lie as [last, row, before last]: the layout that product
    reads. They are kept in two parts, of paths whose last phone began with the last frame and of the others.

    Args:
        scores: (B, T, K) of states, natural logarithms.
        inside: (T, B) which frames are no padding; padding gets no gradient.
        trigrams: (V, V, V) probabilities of [before last, last, next], id 0 being the border of a sequence.
        first: (V, V) state of the first frame of [before, phone].
        rest: (V, V) state of its other frames.
    Returns:
        (B,) and (B, T, K).
    """
    batch, length, states = scores.shape
    size = len(trigrams)
    follows = trigrams.transpose(0, 1).contiguous()  # (last, before, next)
    precedes = follows.transpose(1, 2).contiguous()  # (last, next, before)
    ends = trigrams[:, :, BORDER].T[:, None]  # (last, 1, before)
    highest = scores.amax(dim=-1)  # (B, T)
    relative = (scores - highest[..., None]).exp().transpose(0, 1)  # (T, B, K)
    beginning = _gathered(relative, first)  # (T, last, B, next)
    staying = _gathered(relative, rest.T)  # (T, last, B, before)
    beginning[..., BORDER].fill_(0)  # the border ends a sequence; it is never inside one
    staying[:, BORDER].fill_(0)
    new = scores.new_zeros(length + 1, size, batch, size)  # (T + 1, last, B, before)
    old = torch.zeros_like(new)
    new[0, BORDER, :, BORDER].fill_(1)
    scales = scores.new_zeros(length, batch)
    for t in range(length):
        both = new[t] + old[t]
        moved = (torch.bmm(both, follows) * beginning[t]).permute(2, 1, 0) * inside[t][:, None]  # (next, B, last)
        stayed = torch.where(inside[t][:, None], both * staying[t], both)
        scale = 1 / (moved.sum(dim=(0, 2)) + stayed.sum(dim=(0, 2))).clamp(min=TINY)  # (B,)
        torch.mul(moved, scale[:, None], out=new[t + 1])
        torch.mul(stayed, scale[:, None], out=old[t + 1])
        scales[t] = scale
    total = ((new[-1] + old[-1]) * ends).sum(dim=(0, 2)).clamp(min=TINY)  # (B,)
    after = (ends / total[:, None]).expand(size, batch, size)  # (last, B, before): sums from here to the end
    for t in reversed(range(length)):
        turned = after.permute(2, 1, 0)
        scale = scales[t][:, None]
        moving = turned * (beginning[t] * scale)  # (last, B, next)
        keeping = after * (staying[t] * scale)
        torch.mul(new[t + 1].permute(2, 1, 0), turned, out=beginning[t])  # no longer needed: they hold occupancies now
        torch.mul(old[t + 1], after, out=staying[t])
        after = torch.where(inside[t][:, None], torch.bmm(moving, precedes) + keeping, after * scale)
    occupied = scores.new_zeros(length, batch, states)
    for table, part in ((first, beginning), (rest.T, staying)):
        occupied.index_add_(2, table.flatten(), part.transpose(1, 2).reshape(length, batch, -1))
    log = total.log() - scales.log().sum(dim=0) + (highest * inside.T).sum(dim=1)
    return log, (occupied * inside[..., None]).transpose(0, 1)


def log_of_chain(scores: Tensor, inside: Tensor, first: Tensor, rest: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the sum over all alignments of one known sequence of phones, and its gradient.

    Sums are kept in logarithms, by the place in the sequence; place 0 is before its first phone. Arguments are as of
    `LatticeFreeMmi`. Returns (B,) and (B, T, K); where no alignment is possible, about `IMPOSSIBLE` and no gradient.
    """
    batch, length, states = scores.shape
    places = first.shape[1]
    beginning, staying = (
        scores.gather(2, chain[:, None].expand(batch, length, places)).transpose(0, 1).contiguous()
        for chain in (first, rest)
    )  # (T, B, N)
    sums = scores.new_full((length + 1, batch, places + 1), IMPOSSIBLE)
    sums[0, :, 0].fill_(0)
    for t in range(length):
        moved = torch.logaddexp(sums[t, :, :-1] + beginning[t], sums[t, :, 1:] + staying[t])
        sums[t + 1, :, 1:] = torch.where(inside[t][:, None], moved, sums[t, :, 1:])
        sums[t + 1, :, 0] = torch.where(inside[t], IMPOSSIBLE, sums[t, :, 0])
    total = sums[-1].gather(1, lengths[:, None])[:, 0]
    after = scores.new_full((batch, places + 1), IMPOSSIBLE)  # sums from here to the end
    after.scatter_(1, lengths[:, None], 0.0)
    ahead = scores.new_full((batch, 1), IMPOSSIBLE)
    for t in reversed(range(length)):
        moving, keeping = after[:, 1:] + beginning[t], after[:, 1:] + staying[t]
        beginning[t] = (sums[t, :, :-1] + moving - total[:, None]).exp()  # no longer needed: occupancies now
        staying[t] = (sums[t, :, 1:] + keeping - total[:, None]).exp()
        earlier = torch.logaddexp(torch.cat([moving, ahead], dim=1), torch.cat([ahead, keeping], dim=1))
        after = torch.where(inside[t][:, None], earlier, after)
    visited = scores.new_zeros(length, batch, states)
    visited.scatter_add_(2, first.expand(length, -1, -1), beginning)
    visited.scatter_add_(2, rest.expand(length, -1, -1), staying)
    return total, (visited * (inside & (total > IMPOSSIBLE / 2))[..., None]).transpose(0, 1)


def phone_trigrams(sequences: Iterable[np.ndarray], phones: int) -> np.ndarray:
    """Estimate P(next | the two before), smoothed by interpolation (Witten & Bell 1991; Chen & Goodman 1999).

    Args:
        sequences: phone ids, 1 to ``phones`` - 1, of utterances.
        phones: ids there are, that of the border included.
    Returns:
        (phones, phones, phones) float32 probabilities of [before last, last, next]; each history's sum to 1. Id 0 is
        the border of a sequence.
    """
    counts = np.zeros((phones, phones, phones))
    for sequence in sequences:
        if len(sequence):
            padded = np.concatenate([[BORDER, BORDER], sequence, [BORDER]])
            np.add.at(counts, (padded[:-2], padded[1:-1], padded[2:]), 1)
    lower = np.full(phones, 1 / phones)
    for axes in ((0, 1), (0,), ()):
        seen = counts.sum(axis=axes)
        total = seen.sum(axis=-1, keepdims=True)
        kinds = (seen > 0).sum(axis=-1, keepdims=True)  # how many different phones followed: the weight of the lower
        lower = (seen + kinds * lower) / np.maximum(total + kinds, 1) + (total == 0) * lower
    return lower.astype(np.float32)


def _gathered(relative: Tensor, table: Tensor) -> Tensor:
    """Values (T, B, K) of the states of a table (V, W): (T, V, B, W)."""
    return relative[:, :, table.flatten()].unflatten(2, table.shape).transpose(1, 2).contiguous()
