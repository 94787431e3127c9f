"""Lattice-free maximum mutual information: a transcript's states against those of everything else that may be said."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from asr.acoustic.phone_states import SILENCE, Biphones, Runs
from asr.training.phone_trigrams import BORDER, phone_trigrams

IMPOSSIBLE = -1e30  # log-probability of what cannot be


class LatticeFreeMmi(nn.Module):
    """How much likelier everything together is than what was said (Povey et al. 2016), in nats.

    How likely the trigram model thinks what was said is left out: training cannot change it.

    Frames are weighed by probabilities of states over their priors. What may be said is any sequence of phones and
    silences, as likely as a trigram model of those of the training data thinks it.
    """

    def __init__(self, biphones: Biphones, alignments: Iterable[np.ndarray]) -> None:
        """Estimate the trigram model from the phone of each mel frame (F,) of utterances."""
        super().__init__()
        silence = len(biphones.first)  # as a phone; 0 is the border of a sequence
        sequences = (
            np.where(Runs.of(aligned).phones == SILENCE, silence, Runs.of(aligned).phones) for aligned in alignments
        )
        self.register_buffer("trigrams", torch.from_numpy(phone_trigrams(sequences, silence + 1)), persistent=False)
        self.register_buffer("log_priors", torch.from_numpy(biphones.log_priors), persistent=False)
        # What comes after silence, or first, comes after no phone.
        for name in ("first", "rest"):
            table = np.pad(getattr(biphones, name), (0, 1))
            table[silence] = table[SILENCE]
            table[:, silence] = SILENCE
            self.register_buffer(name, torch.from_numpy(table), persistent=False)

    def forward(self, log_probs: Tensor, frames: Tensor, first: Tensor, rest: Tensor, lengths: Tensor) -> Tensor:
        """The loss of each utterance.

        Args:
            log_probs: (B, T, K) natural logarithms.
            frames: (B,) rows of each utterance; what lies beyond is padding.
            first: (B, N) states of the first frames of the phones that were said.
            rest: (B, N) states of their other frames.
            lengths: (B,) phones of each utterance; 0: it is not known.
        Returns:
            (B,) nats, 0 for utterances that are not known or too short.
        """
        scores = log_probs - self.log_priors
        said = log_of_chain(scores, frames, first, rest, lengths)
        usable = (said > IMPOSSIBLE / 2) & (lengths > 0)
        together = log_denominator(scores, frames, self.trigrams, self.first, self.rest)
        return torch.where(usable, together - said, 0.0)


def log_denominator(scores: Tensor, frames: Tensor, trigrams: Tensor, first: Tensor, rest: Tensor) -> Tensor:
    """Log of the sum over all phone sequences and all their alignments.

    Args:
        scores: (B, T, K) of states, natural logarithms.
        frames: (B,) rows of each utterance; the rest is padding, which gets no gradient.
        trigrams: (V, V, V) probabilities of [before last, last, next], id 0 being the border of a sequence.
        first: (V, V) state of the first frame of [before, phone].
        rest: (V, V) state of its other frames.
    Returns:
        (B,).
    """
    return _Denominator.apply(scores, frames, trigrams, first, rest)


def log_of_chain(scores: Tensor, frames: Tensor, first: Tensor, rest: Tensor, lengths: Tensor) -> Tensor:
    """Log of the sum over all alignments of one known sequence of phones, (B,); arguments as of `LatticeFreeMmi`."""
    return _Chain.apply(scores, frames, first, rest, lengths)


class _Denominator(torch.autograd.Function):
    """Forward and backward sums over the last two phones.

    Sums are kept as probabilities and scaled each frame, so that a step is one batched matrix product instead of
    thousands of log-sum-exps. Histories lie as [last, utterance, before last]: the layout that product reads. They are
    kept in two parts, of paths whose last phone began with the last frame and of the others.
    """

    @staticmethod
    def forward(ctx, scores: Tensor, frames: Tensor, trigrams: Tensor, first: Tensor, rest: Tensor) -> Tensor:
        batch, length, _ = scores.shape
        size = len(trigrams)
        follows = trigrams.transpose(0, 1).contiguous()  # (last, before, next)
        ends = trigrams[:, :, BORDER].T[:, None]  # (last, 1, before)
        highest = scores.amax(dim=-1)  # (B, T)
        relative = (scores.detach() - highest[..., None]).exp().transpose(0, 1)  # (T, B, K)
        beginning = _gathered(relative, first)  # (T, last, B, next)
        staying = _gathered(relative, rest.T)  # (T, last, B, before)
        new = scores.new_zeros(length + 1, size, batch, size)  # (T + 1, last, B, before)
        old = torch.zeros_like(new)
        new[0, BORDER, :, BORDER] = 1
        scales = scores.new_zeros(length, batch)
        inside = _inside(length, frames)  # (T, B)
        for t in range(length):
            both = new[t] + old[t]
            moved = torch.bmm(both, follows) * beginning[t]  # (last, B, next)
            moved[:, :, BORDER] = 0  # it ends a sequence; it is never inside one
            stayed = both * staying[t]
            stayed[BORDER] = 0
            moved = moved.permute(2, 1, 0) * inside[t][:, None]  # (next, B, last)
            stayed = torch.where(inside[t][:, None], stayed, both)
            scale = 1 / (moved.sum(dim=(0, 2)) + stayed.sum(dim=(0, 2)))  # (B,)
            torch.mul(moved, scale[:, None], out=new[t + 1])
            torch.mul(stayed, scale[:, None], out=old[t + 1])
            scales[t] = scale
        total = ((new[-1] + old[-1]) * ends).sum(dim=(0, 2))  # (B,)
        ctx.save_for_backward(new, old, scales, beginning, staying, total, follows, ends, inside, first, rest)
        ctx.states = scores.shape[-1]
        return total.log() - scales.log().sum(dim=0) + (highest * inside.T).sum(dim=1)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        new, old, scales, beginning, staying, total, follows, ends, inside, first, rest = ctx.saved_tensors
        length, batch = scales.shape
        size = len(follows)
        precedes = follows.transpose(1, 2).contiguous()  # (last, next, before)
        after = (ends / total[:, None]).expand(size, batch, size)  # (last, B, before): sums from here to the end
        began, stayed = torch.empty_like(beginning), torch.empty_like(staying)  # occupancies
        for t in reversed(range(length)):
            torch.mul(new[t + 1].permute(2, 1, 0), after.permute(2, 1, 0), out=began[t])
            torch.mul(old[t + 1], after, out=stayed[t])
            scale = scales[t][:, None]
            moving = after.permute(2, 1, 0) * beginning[t] * scale  # (last, B, next)
            moving[:, :, BORDER] = 0
            keeping = after * staying[t] * scale
            keeping[BORDER] = 0
            after = torch.where(inside[t][:, None], torch.bmm(moving, precedes) + keeping, after * scale)
        occupied = scales.new_zeros(length, batch, ctx.states)
        for table, part in ((first, began), (rest.T, stayed)):
            occupied.index_add_(2, table.flatten(), part.transpose(1, 2).reshape(length, batch, -1))
        occupied *= inside[..., None]
        return occupied.transpose(0, 1) * gradient[:, None, None], None, None, None, None


class _Chain(torch.autograd.Function):
    """Forward and backward sums in logarithms over the place in a known sequence; place 0 is before its first phone."""

    @staticmethod
    def forward(ctx, scores: Tensor, frames: Tensor, first: Tensor, rest: Tensor, lengths: Tensor) -> Tensor:
        batch, length, _ = scores.shape
        beginning, staying = (
            scores.detach().gather(2, states[:, None].expand(batch, length, -1)).transpose(0, 1).contiguous()
            for states in (first, rest)
        )  # (T, B, N)
        inside = _inside(length, frames)
        sums = scores.new_full((length + 1, batch, first.shape[1] + 1), IMPOSSIBLE)  # (T + 1, B, N + 1)
        sums[0, :, 0] = 0
        for t in range(length):
            after = torch.logaddexp(sums[t, :, :-1] + beginning[t], sums[t, :, 1:] + staying[t])
            sums[t + 1, :, 1:] = torch.where(inside[t][:, None], after, sums[t, :, 1:])
            sums[t + 1, :, 0] = torch.where(inside[t], IMPOSSIBLE, sums[t, :, 0])
        total = sums[-1].gather(1, lengths[:, None])[:, 0]
        ctx.save_for_backward(sums, beginning, staying, total, inside, first, rest, lengths)
        ctx.states = scores.shape[-1]
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor):
        sums, beginning, staying, total, inside, first, rest, lengths = ctx.saved_tensors
        length, batch, places = beginning.shape
        after = sums.new_full((batch, places + 1), IMPOSSIBLE)  # sums from here to the end
        after.scatter_(1, lengths[:, None], 0.0)
        began, stayed = torch.empty_like(beginning), torch.empty_like(staying)  # occupancies
        ahead = sums.new_full((batch, 1), IMPOSSIBLE)
        for t in reversed(range(length)):
            moving, keeping = after[:, 1:] + beginning[t], after[:, 1:] + staying[t]
            began[t] = (sums[t, :, :-1] + moving - total[:, None]).exp()
            stayed[t] = (sums[t, :, 1:] + keeping - total[:, None]).exp()
            earlier = torch.logaddexp(torch.cat([moving, ahead], dim=1), torch.cat([ahead, keeping], dim=1))
            after = torch.where(inside[t][:, None], earlier, after)
        occupied = sums.new_zeros(length, batch, ctx.states)
        occupied.scatter_add_(2, first.expand(length, -1, -1), began)
        occupied.scatter_add_(2, rest.expand(length, -1, -1), stayed)
        occupied *= (inside & (total > IMPOSSIBLE / 2))[..., None]
        return occupied.transpose(0, 1) * gradient[:, None, None], None, None, None, None


def _gathered(relative: Tensor, table: Tensor) -> Tensor:
    """Values (T, B, K) of the states of a table (V, W): (T, V, B, W)."""
    return relative[:, :, table.flatten()].unflatten(2, table.shape).transpose(1, 2).contiguous()


def _inside(length: int, frames: Tensor) -> Tensor:
    """Which rows are no padding: (T, B)."""
    return torch.arange(length, device=frames.device)[:, None] < frames
