"""The table of states: who gets one, targets of frames, and its file."""

from __future__ import annotations

import numpy as np
import pytest

from asr.acoustic.phone_states import SILENCE, Biphones, Runs
from asr.errors import DataError
from asr.words.tokens import PHONES, TokenTable

TABLE = TokenTable(PHONES)
AA, B, S = (PHONES.index(phone) for phone in ("AA", "B", "S"))
ALIGNED = np.repeat([SILENCE, AA, B, AA, SILENCE, S], [6, 9, 3, 12, 6, 9])


@pytest.fixture
def biphones() -> Biphones:
    """AA is heard twice after silence and twice after B; S twice after silence; B once in each after AA."""
    return Biphones.estimate([ALIGNED, ALIGNED], len(PHONES), stack=3, least_first=2, least_rest=4)


def test_frequent_pairs_have_states_of_their_own_and_others_share(biphones: Biphones) -> None:
    assert biphones.first[SILENCE, AA] != biphones.first[B, AA] != biphones.first[S, AA]
    assert biphones.first[S, AA] == biphones.first[AA, AA]  # never heard
    assert biphones.rest[AA, B] == biphones.rest[S, B]  # heard for one frame only: no rest
    assert biphones.rest[B, AA] != biphones.rest[S, AA]
    assert not biphones.first[:, SILENCE].any() and not biphones.rest[:, SILENCE].any()
    for table in (biphones.first, biphones.rest):
        for phone in range(1, len(PHONES)):
            assert (biphones.phones[table[:, phone]] == phone).all()
    assert np.exp(biphones.log_priors).sum() == pytest.approx(1, abs=1e-5)
    assert biphones.log_priors[SILENCE] == biphones.log_priors.max()


def test_frames_begin_and_go_on(biphones: Biphones) -> None:
    states = biphones.of_frames(ALIGNED, np.arange(1, len(ALIGNED), 3))
    first, rest = biphones.first, biphones.rest
    assert states.tolist() == [
        SILENCE,
        SILENCE,
        first[SILENCE, AA],
        *[rest[SILENCE, AA]] * 2,
        first[AA, B],
        first[B, AA],
        *[rest[B, AA]] * 3,
        SILENCE,
        SILENCE,
        first[SILENCE, S],
        *[rest[SILENCE, S]] * 2,
    ]
    assert biphones.of_frames(ALIGNED, np.array([10, 20])).tolist() == [first[SILENCE, AA], first[B, AA]]  # B is missed
    assert [states.tolist() for states in biphones.chain(ALIGNED)] == [
        [table[pair] for pair in ((0, 0), (0, AA), (AA, B), (B, AA), (AA, 0), (0, S))] for table in (first, rest)
    ]


def test_runs_of_nothing_and_of_one_phone() -> None:
    assert Runs.of(np.zeros(0, int)).phones.tolist() == []
    runs = Runs.of(np.array([AA, AA]))
    assert (runs.phones.tolist(), runs.before.tolist(), runs.lengths.tolist()) == ([AA], [SILENCE], [2])


def test_probabilities_of_phones_are_sums_over_their_states(biphones: Biphones) -> None:
    rows = np.random.default_rng(0).normal(size=(5, len(biphones)))
    rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
    phones = np.exp(biphones.by_phone(rows))
    assert phones.shape == (5, len(PHONES)) and np.allclose(phones.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(phones[:, AA], np.exp(rows[:, biphones.phones == AA]).sum(axis=1), atol=1e-6)
    assert biphones.by_phone(rows[:0]).shape == (0, len(PHONES))


def test_a_file_holds_the_table(biphones: Biphones, tmp_path) -> None:
    path = tmp_path / "states.txt"
    biphones.write(path, TABLE)
    again = Biphones.read(path, TABLE)
    for name in ("first", "rest", "phones"):
        assert np.array_equal(getattr(again, name), getattr(biphones, name))
    assert np.allclose(again.log_priors, biphones.log_priors, atol=1e-4) and again.checksum == biphones.checksum


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [],
        lambda lines: lines[:-1],
        lambda lines: lines[1:],
        lambda lines: [*lines, "x"],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [lines[0].replace("blank", "hum"), *lines[1:]],
        lambda lines: [*lines[:-1], lines[-1].replace("rest", "last")],
    ],
)
def test_a_damaged_table_is_refused_in_one_line(biphones: Biphones, tmp_path, damage) -> None:
    path = tmp_path / "states.txt"
    biphones.write(path, TABLE)
    path.write_text("\n".join(damage(path.read_text(encoding="utf-8").splitlines())), encoding="utf-8")
    with pytest.raises(DataError) as error:
        Biphones.read(path, TABLE)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(DataError, match="No such file"):
        Biphones.read(tmp_path / "none.txt", TABLE)
