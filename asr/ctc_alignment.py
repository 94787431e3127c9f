"""The likeliest frames of a known sequence of tokens."""

from __future__ import annotations

import numpy as np

from asr.ctc import BLANK

NEVER = np.float32(-1e30)


def token_spans(log_probs: np.ndarray, tokens: np.ndarray) -> np.ndarray | None:
    """Viterbi alignment with connectionist temporal classification (Graves et al. 2006).

    Args:
        log_probs: (T, V) natural-log probabilities.
        tokens: (S,) ids, none of them the blank.
    Returns:
        (S, 2): the first frame of each token and one past its last; None if there are too few frames for them.
    """
    if len(tokens) == 0:
        return np.zeros((0, 2), dtype=np.int64)
    states = np.full(2 * len(tokens) + 1, BLANK)  # a blank may stand before, between and after the tokens
    states[1::2] = tokens
    emitted = log_probs[:, states].astype(np.float32)  # (T, 2 S + 1)
    may_skip = np.zeros(len(states), dtype=bool)
    may_skip[3::2] = tokens[1:] != tokens[:-1]
    scores = np.full(len(states), NEVER)
    scores[:2] = emitted[0, :2]
    moves = np.zeros(emitted.shape, dtype=np.int8)  # states advanced to reach a state at a frame
    one, two = np.full_like(scores, NEVER), np.full_like(scores, NEVER)
    for frame in range(1, len(emitted)):
        one[1:] = scores[:-1]
        two[2:] = np.where(may_skip[2:], scores[:-2], NEVER)
        best = np.maximum(np.maximum(scores, one), two)
        moves[frame] = np.where(best == scores, 0, np.where(best == one, 1, 2))
        scores = best + emitted[frame]
    state = len(states) - (1 if scores[-1] > scores[-2] else 2)
    if scores[state] <= NEVER / 2:
        return None
    path = np.empty(len(emitted), dtype=np.int64)
    for frame in range(len(emitted) - 1, -1, -1):
        path[frame] = state
        state -= int(moves[frame, state])
    wanted = np.arange(1, len(states), 2)
    return np.stack([np.searchsorted(path, wanted, "left"), np.searchsorted(path, wanted, "right")], axis=1)
