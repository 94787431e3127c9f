"""Lattice-free MMI against sums over every path, and its gradients against those of these sums."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from asr.acoustic.phone_states import Biphones, Runs  # noqa: E402
from asr.training.mmi import LatticeFreeMmi, log_denominator, log_of_chain, phone_trigrams  # noqa: E402

PHONES, STATES, FRAMES = 3, 7, torch.tensor([4, 3])  # two phones and the border
INSIDE = torch.arange(4)[:, None] < FRAMES
SEQUENCES = [np.array(ids) for ids in ([1, 2, 3], [3, 3, 1], [2], [1, 2, 2, 1, 3])]


@pytest.fixture
def scores() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 4, STATES, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.fixture
def tables() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Trigrams, first states, other states."""
    generator = torch.Generator().manual_seed(2)
    trigrams = torch.rand(PHONES, PHONES, PHONES, generator=generator, dtype=torch.float64)
    first, rest = torch.randint(0, STATES, (2, PHONES, PHONES), generator=generator)
    return trigrams / trigrams.sum(dim=-1, keepdim=True), first, rest


def every_path(rows: torch.Tensor, trigrams: torch.Tensor, first: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for path in itertools.product(itertools.product(range(1, PHONES), (True, False)), repeat=len(rows)):
        before, last, chance = 0, 0, torch.ones((), dtype=torch.float64)
        for row, (phone, begins) in zip(rows, path, strict=True):
            if begins:
                chance = chance * trigrams[before, last, phone] * row[first[last, phone]].exp()
                before, last = last, phone
            elif phone == last:
                chance = chance * row[rest[before, last]].exp()
            else:
                break
        else:
            total = total + chance * trigrams[before, last, 0]
    return total.log()


def every_alignment(rows: torch.Tensor, first: list[int], rest: list[int]) -> torch.Tensor:
    sums = []
    for borders in itertools.combinations(range(1, len(rows)), len(first) - 1):
        edges = (0, *borders, len(rows))
        sums.append(
            sum(
                rows[start, first[k]] + rows[start + 1 : end, rest[k]].sum()
                for k, (start, end) in enumerate(itertools.pairwise(edges))
            )
        )
    return torch.stack(sums).logsumexp(dim=0)


def check(found: tuple[torch.Tensor, torch.Tensor], wanted: torch.Tensor, scores: torch.Tensor) -> None:
    """The value, and the gradient that comes with it against that of the plain sum by automatic differentiation."""
    value, gradient = found
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted.sum(), scores)[0])
    assert (gradient[1, FRAMES[1] :] == 0).all()


def test_the_denominator_is_the_sum_over_every_path(scores, tables) -> None:
    wanted = torch.stack([every_path(row[:length], *tables) for row, length in zip(scores, FRAMES, strict=True)])
    check(log_denominator(scores.detach(), INSIDE, *tables), wanted, scores)


def test_a_chain_is_the_sum_over_every_alignment(scores) -> None:
    first, rest = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([[2, 2, 6], [0, 1, 0]])
    lengths = torch.tensor([3, 2])
    wanted = torch.stack(
        [every_alignment(scores[k, : FRAMES[k]], first[k, : lengths[k]].tolist(), rest[k].tolist()) for k in range(2)]
    )
    check(log_of_chain(scores.detach(), INSIDE, first, rest, lengths), wanted, scores)


def plain_denominator(scores: torch.Tensor, trigrams: torch.Tensor, first: torch.Tensor, rest: torch.Tensor):
    """The recursion of one row (T, K) in logarithms, for automatic differentiation."""
    low = scores.new_tensor(-1e30)
    size, log_trigrams = len(trigrams), trigrams.log()
    sums = torch.full((size, size), -1e30, dtype=scores.dtype)  # [before last, last]
    sums[0, 0] = 0
    for row in scores:
        moved = (sums[:, :, None] + log_trigrams).logsumexp(dim=0) + row[first]  # [last, next]
        stayed = sums + row[rest]
        moved = torch.cat([low.expand(size, 1), moved[:, 1:]], dim=1)
        stayed = torch.cat([low.expand(size, 1), stayed[:, 1:]], dim=1)
        sums = torch.logaddexp(moved, stayed)
    return (sums + log_trigrams[:, :, 0]).logsumexp(dim=(0, 1))


def plain_chain(scores: torch.Tensor, first: torch.Tensor, rest: torch.Tensor):
    low = scores.new_tensor(-1e30)
    sums = torch.cat([scores.new_zeros(1), low.expand(len(first))])
    for row in scores:
        moved = torch.logaddexp(sums[:-1] + row[first], sums[1:] + row[rest])
        sums = torch.cat([low[None], moved])
    return sums[-1]


def test_value_and_gradient_are_those_of_the_plain_recursions(objective) -> None:
    """Of a row of many utterances and of a padded one, weighted differently."""
    mmi, alignments, biphones = objective
    chains = [torch.from_numpy(np.stack(biphones.chain(alignments[k]))) for k in (0, 2)]
    lengths = torch.tensor([chain.shape[1] for chain in chains])
    first, rest = torch.stack([torch.nn.functional.pad(one, (0, 6 - one.shape[1])) for one in chains], dim=1)
    frames = torch.tensor([30, 23])
    rows = torch.randn(2, 30, len(biphones), generator=torch.Generator().manual_seed(3))
    mine, theirs = (rows.clone().requires_grad_() for _ in range(2))
    weights = torch.tensor([1.0, 0.3])
    found = mmi(mine.log_softmax(dim=-1), frames, first, rest, lengths)
    (found * weights).sum().backward()
    scores = (theirs.log_softmax(dim=-1) - mmi.log_priors).double()
    wanted = torch.stack(
        [
            plain_denominator(scores[k, : frames[k]], mmi.trigrams.double(), mmi.first, mmi.rest)
            - plain_chain(scores[k, : frames[k]], first[k, : lengths[k]], rest[k, : lengths[k]])
            for k in range(2)
        ]
    )
    (wanted * weights).sum().backward()
    torch.testing.assert_close(found.double(), wanted, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-4)


@pytest.fixture
def objective() -> tuple[LatticeFreeMmi, list[np.ndarray], Biphones]:
    alignments = [np.repeat(phones, 9) for phones in ([0, 1, 2, 0], [2, 1, 0], [0, 2, 0, 1])]
    biphones = Biphones.estimate(alignments, phones=3, stack=3, least_first=1, least_rest=1)
    return LatticeFreeMmi(biphones, (Runs.of(one).phones for one in alignments)), alignments, biphones


def test_what_was_said_becomes_likelier_than_the_rest(objective) -> None:
    mmi, alignments, biphones = objective
    first, rest = (torch.from_numpy(states)[None] for states in biphones.chain(alignments[0]))
    frames, lengths = torch.tensor([12]), torch.tensor([first.shape[1]])
    logits = torch.zeros(1, 12, len(biphones), requires_grad=True)
    optimiser = torch.optim.Adam([logits], 0.1)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = mmi(logits.log_softmax(dim=-1), frames, first, rest, lengths)
        losses.append(loss.item())
        loss.sum().backward()
        optimiser.step()
    history = [0, 0, 3, 1, 2, 3, 0]  # as the trigram model knows it: 3 is silence
    chance = np.prod([mmi.trigrams[tuple(history[k : k + 3])] for k in range(len(history) - 2)])
    assert losses[-1] < losses[0] - 3 and losses[-1] >= np.log(chance)  # what was said is a part of everything


def test_what_is_not_known_or_too_short_costs_nothing(objective) -> None:
    mmi, alignments, biphones = objective
    chain = torch.from_numpy(np.stack(biphones.chain(alignments[0])))
    first, rest = chain[:, None].expand(-1, 2, -1)
    rows = torch.zeros(2, 3, len(biphones), requires_grad=True)
    # The first has four phones and three frames; nobody knows what the second says.
    losses = mmi(rows.log_softmax(dim=-1), torch.tensor([3, 3]), first, rest, torch.tensor([4, 0]))
    losses.sum().backward()
    assert losses.tolist() == [0, 0] and not rows.grad.any()


def test_a_long_utterance_does_not_underflow(objective) -> None:
    mmi, alignments, biphones = objective
    long = np.concatenate([alignments[0]] * 50)
    first, rest = (torch.from_numpy(states)[None] for states in biphones.chain(long))
    rows = torch.randn(1, 1_000, len(biphones), generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = mmi(4 * rows, torch.tensor([1_000]), first, rest, torch.tensor([first.shape[1]]))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(rows.grad).all() and loss.item() > 0


def test_trigrams_are_probabilities_that_follow_the_counts() -> None:
    table = phone_trigrams(SEQUENCES, 4)
    np.testing.assert_allclose(table.sum(axis=-1), 1, atol=1e-6)
    assert (table > 0).all()
    assert table[1, 2].argmax() in (2, 3) and table[0, 2].argmax() == 0
    assert phone_trigrams([], 4) == pytest.approx(1 / 4)
