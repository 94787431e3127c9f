"""The denominator of CTC-CRF: all phone sequences that a trigram model allows, summed over all their alignments."""

from __future__ import annotations

import torch
from torch import Tensor

from asr.words.tokens import BLANK


def log_denominator(log_probs: Tensor, frames: Tensor, trigrams: Tensor) -> Tensor:
    """Log of the summed probability of every alignment of every phone sequence, each times that sequence's own.

    CTC-CRF (Xiang & Ou 2019) maximises a transcript's CTC score less this sum, which makes CTC training discriminative
    between sequences as lattice-free MMI (Povey et al. 2016) is, with the topology of CTC.

    Args:
        log_probs: (B, T, V) natural logarithms; token 0 is the blank.
        frames: (B,) rows of each utterance; the rest is padding, which gets no gradient.
        trigrams: (V, V, V) from `asr.training.phone_trigrams.phone_trigrams`.
    Returns:
        (B,) float32.
    """
    return _Denominator.apply(log_probs, frames, trigrams)


class _Denominator(torch.autograd.Function):
    """Forward and backward sums over states (last two phones, whether the last frame was blank).

    Sums are kept as probabilities and scaled each frame, so that a step is one batched matrix product instead of
    thousands of log-sum-exps. Histories lie as [last, utterance, before last]: the layout that product reads.
    """

    @staticmethod
    def forward(ctx, log_probs: Tensor, frames: Tensor, trigrams: Tensor) -> Tensor:
        batch, length, size = log_probs.shape
        follows = trigrams.transpose(0, 1).contiguous()  # (last, before, next)
        again = torch.diagonal(trigrams, dim1=1, dim2=2).T[:, None]  # (last, 1, before): the last phone once more
        ends = trigrams[:, :, BLANK].T[:, None]  # (last, 1, before)
        scores = _padded_with_blanks(log_probs.detach().float(), frames)
        blank_scores, phone_scores = _shared(scores)  # (T, 1, B, 1), (T, V, B, 1)
        blank = scores.new_zeros(length + 1, size, batch, size)  # sums of paths whose last frame was blank
        phone = torch.zeros_like(blank)
        blank[0, BLANK, :, BLANK] = 1
        scales = scores.new_zeros(length, batch)
        for t in range(length):
            both = blank[t] + phone[t]
            moved = torch.bmm(both, follows)  # (last, B, next)
            repeated = (phone[t] * again).sum(dim=-1)  # (last, B): needs a blank between, so it is no new phone
            torch.diagonal(moved, dim1=0, dim2=2).sub_(repeated.T)
            moved[:, :, BLANK] = 0  # the border ends a sequence; it is never inside one
            torch.add(moved.permute(2, 1, 0), phone[t], out=phone[t + 1])
            phone[t + 1] *= phone_scores[t]
            torch.mul(both, blank_scores[t], out=blank[t + 1])
            scale = 1 / (phone[t + 1].sum(dim=(0, 2)) + blank[t + 1].sum(dim=(0, 2)))  # (B,)
            phone[t + 1] *= scale[:, None]
            blank[t + 1] *= scale[:, None]
            scales[t] = scale
        total = ((blank[-1] + phone[-1]) * ends).sum(dim=(0, 2))  # (B,)
        highest = scores.amax(dim=-1).sum(dim=1)
        ctx.save_for_backward(blank, phone, scales, blank_scores, phone_scores, total, follows, again, ends, frames)
        return total.log() - scales.log().sum(dim=0) + highest

    @staticmethod
    def backward(ctx, gradient: Tensor):
        blank, phone, scales, blank_scores, phone_scores, total, follows, again, ends, frames = ctx.saved_tensors
        length, batch = scales.shape
        size = follows.shape[0]
        precedes = follows.transpose(1, 2).contiguous()  # (last, next, before)
        after_blank = after_phone = (ends / total[:, None]).expand(size, batch, size)  # sums from here to the end
        occupied = scales.new_zeros(length, size, batch)
        for t in reversed(range(length)):
            occupied[t] = (phone[t + 1] * after_phone).sum(dim=-1)
            occupied[t, BLANK] = (blank[t + 1] * after_blank).sum(dim=(0, 2))
            scale = scales[t][:, None]
            heard = after_phone * (phone_scores[t] * scale)  # (next, B, last)
            heard[BLANK] = 0
            moved = heard.permute(2, 1, 0)  # (last, B, next)
            forward = torch.bmm(moved, precedes)  # (last, B, before)
            once_more = torch.diagonal(moved, dim1=0, dim2=2).T[:, :, None]  # (last, B, 1)
            after_blank = torch.addcmul(forward, after_blank, blank_scores[t] * scale)
            after_phone = after_blank + heard - once_more * again
        occupied = occupied.permute(2, 0, 1)  # (B, T, V)
        inside = torch.arange(length, device=frames.device) < frames[:, None]
        return occupied * inside[:, :, None] * gradient[:, None, None], None, None


def _padded_with_blanks(scores: Tensor, frames: Tensor) -> Tensor:
    """Padding that changes no sum: a sure blank, and nothing else."""
    outside = torch.arange(scores.shape[1], device=scores.device) >= frames[:, None]
    silence = scores.new_full(scores.shape[-1:], -torch.inf)
    silence[BLANK] = 0
    return torch.where(outside[:, :, None], silence, scores)


def _shared(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities relative to the frame's highest: of the blank (T, 1, B, 1), of every phone (T, V, B, 1)."""
    relative = (scores - scores.amax(dim=-1, keepdim=True)).exp().permute(1, 2, 0)[..., None].contiguous()
    return relative[:, BLANK : BLANK + 1], relative
