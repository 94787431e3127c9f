"""The denominator of CTC-CRF against a sum over every path, and its gradient against finite differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from asr.training.ctc_crf import log_denominator  # noqa: E402
from asr.training.phone_trigrams import phone_trigrams  # noqa: E402

SIZE = 4
SEQUENCES = [np.array(ids) for ids in ([1, 2, 3], [3, 3, 1], [2], [1, 2, 2, 1, 3])]


@pytest.fixture
def trigrams() -> torch.Tensor:
    return torch.from_numpy(phone_trigrams(SEQUENCES, SIZE))


def scores(batch: int, frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (2 * torch.randn(batch, frames, SIZE, generator=generator)).log_softmax(dim=-1)


def sum_over_paths(rows: np.ndarray, table: np.ndarray) -> float:
    total = 0.0
    for path in itertools.product(range(SIZE), repeat=len(rows)):
        phones = [token for token, _ in itertools.groupby(path) if token != 0]
        history = [0, 0, *phones, 0]
        chance = np.prod([table[tuple(history[k : k + 3])] for k in range(len(history) - 2)])
        total += chance * np.exp(sum(rows[t, token] for t, token in enumerate(path)))
    return float(np.log(total))


def test_trigrams_are_probabilities_that_follow_the_counts() -> None:
    table = phone_trigrams(SEQUENCES, SIZE)
    np.testing.assert_allclose(table.sum(axis=-1), 1, atol=1e-6)
    assert (table > 0).all()
    assert table[1, 2].argmax() in (2, 3) and table[0, 2].argmax() == 0
    assert phone_trigrams([], SIZE) == pytest.approx(1 / SIZE)


def test_equals_the_sum_over_every_path(trigrams: torch.Tensor) -> None:
    rows = scores(3, 6)
    frames = torch.tensor([6, 4, 5])
    found = log_denominator(rows, frames, trigrams)
    wanted = [sum_over_paths(rows[k, : frames[k]].numpy(), trigrams.numpy()) for k in range(3)]
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


def test_gradient_is_that_of_the_sum(trigrams: torch.Tensor) -> None:
    rows = scores(2, 5).requires_grad_()
    frames = torch.tensor([5, 3])
    log_denominator(rows, frames, trigrams).sum().backward()
    step = 1e-2
    for place in itertools.product(range(2), range(5), range(SIZE)):
        moved = [rows.detach().clone() for _ in range(2)]
        for sign, one in zip((1, -1), moved, strict=True):
            one[place] += sign * step
        more, less = (log_denominator(one, frames, trigrams).sum() for one in moved)
        assert float(rows.grad[place]) == pytest.approx(float(more - less) / (2 * step), abs=2e-3)
    assert (rows.grad[1, 3:] == 0).all()
    np.testing.assert_allclose(rows.grad[0].sum(dim=-1).numpy(), 1, atol=1e-4)  # occupancies of a frame


def test_a_long_utterance_does_not_underflow(trigrams: torch.Tensor) -> None:
    rows = scores(1, 2_000).requires_grad_()
    value = log_denominator(rows, torch.tensor([2_000]), trigrams)
    value.sum().backward()
    assert torch.isfinite(value).all() and torch.isfinite(rows.grad).all()
    halves = scores(1, 2_000)[:, :1_000]
    assert value.item() < float(log_denominator(halves, torch.tensor([1_000]), trigrams).sum())
