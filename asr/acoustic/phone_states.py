"""Hidden Markov states of phones in the context of the phone before (biphones), the acoustic units of decoding.

The sound of a phone depends on the phone before. Every pair of phones that is frequent enough in the training data has
two states of its own, one for the first frame of the second phone and one for its other frames (the topology and the
left context of Kaldi's chain models, Povey et al. 2016); rarer pairs share those of their second phone. Silence is one
state, number 0, in every context.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from asr.errors import DataError
from asr.words.tokens import TokenTable

SILENCE = 0  # the state, and among phones the id of none
LEAST_FIRST = 60  # occurrences of a pair of phones that has a first state of its own
LEAST_REST = 120  # frames after the first ones of a pair that has the other state of its own
PLACES = ("first", "rest")
SMOOTHING = 5  # added to every count, so that no state is impossible


@dataclass(frozen=True)
class Biphones:
    """The table of states: K states of P phones, id 0 being silence."""

    first: np.ndarray  # (P, P) state of the first frame of [phone before, phone]
    rest: np.ndarray  # (P, P) state of its other frames
    phones: np.ndarray  # (K,) the phone each state belongs to
    log_priors: np.ndarray  # (K,) float32: logarithm of each state's relative frequency

    def __len__(self) -> int:
        return len(self.phones)

    @cached_property
    def checksum(self) -> str:
        """Equal for tables with the same states in the same order."""
        return hashlib.sha256(self.first.astype("<i4").tobytes() + self.rest.astype("<i4").tobytes()).hexdigest()

    @classmethod
    def estimate(
        cls,
        alignments: Iterable[np.ndarray],
        phones: int,
        stack: int,
        least_first: int = LEAST_FIRST,
        least_rest: int = LEAST_REST,
    ) -> Biphones:
        """Count the pairs of phones and give the frequent ones states of their own.

        Args:
            alignments: of every utterance, the phone of each mel frame (F,), 0 for silence.
            phones: number of phones, silence included.
            stack: mel frames in an acoustic frame.
            least_first: occurrences that a pair needs for a first state.
            least_rest: acoustic frames after the first that it needs for the other state.
        """
        times, frames = np.zeros((phones, phones), int), np.zeros((phones, phones), int)
        silent = 0
        for aligned in alignments:
            runs = Runs.of(aligned)
            lengths = np.maximum(1, np.rint(runs.lengths / stack)).astype(int)
            spoken = runs.phones != SILENCE
            pairs = runs.before[spoken], runs.phones[spoken]
            np.add.at(times, pairs, 1)
            np.add.at(frames, pairs, lengths[spoken] - 1)
            silent += int(lengths[~spoken].sum())
        tables, owners = [], [SILENCE]
        for counts, least in ((times, least_first), (frames, least_rest)):
            table = np.full((phones, phones), SILENCE)
            for phone in range(1, phones):
                own = np.flatnonzero(counts[:, phone] >= least)
                table[:, phone] = len(owners) + len(own)
                table[own, phone] = len(owners) + np.arange(len(own))
                owners += [phone] * (len(own) + 1)
            tables.append(table)
        totals = np.full(len(owners), SMOOTHING, float)
        totals[SILENCE] += silent
        for table, counts in zip(tables, (times, frames), strict=True):
            np.add.at(totals, table[:, 1:], counts[:, 1:])
        return cls(*tables, np.array(owners), np.log(totals / totals.sum()).astype(np.float32))

    def of_frames(self, aligned: np.ndarray, centres: np.ndarray) -> np.ndarray:
        """State of each acoustic frame (T,), from the phone of each mel frame (F,) and the mel frames (T,) they lie on.

        A phone so short that no frame lies on it has none, but is still the context of the next one.
        """
        runs = Runs.of(aligned)
        run = np.repeat(np.arange(len(runs.phones)), runs.lengths)[centres]
        begins = np.concatenate([[True], run[1:] != run[:-1]])[: len(run)]
        pair = runs.before[run], runs.phones[run]
        return np.where(begins, self.first[pair], self.rest[pair])

    def chain(self, aligned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The phones of an alignment (F,) in order, silences too: their first and their other states, (N,) each."""
        runs = Runs.of(aligned)
        pairs = runs.before, runs.phones
        return self.first[pairs], self.rest[pairs]

    def by_phone(self, log_probs: np.ndarray) -> np.ndarray:
        """Log-probabilities of states (T, K) summed to those of phones (T, P), silence first."""
        order, owners, starts = self._grouped
        sums = np.zeros((len(log_probs), len(self.first)), np.float32)
        if len(log_probs):
            sums[:, owners] = np.add.reduceat(np.exp(log_probs[:, order]), starts, axis=1)
        return np.log(np.maximum(sums, np.finfo(np.float32).tiny))

    @cached_property
    def _grouped(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The states phone by phone; the phones; where each one's states begin."""
        order = np.argsort(self.phones, kind="stable")
        return order, *np.unique(self.phones[order], return_index=True)

    def write(self, path: Path, phones: TokenTable) -> None:
        """Write a line per state: its number, phone, place, the phones before it, and the logarithm of its prior."""
        lines = [f"{SILENCE} {phones.symbols[SILENCE]} - - {self.log_priors[SILENCE]:.5f}"]
        for state in range(1, len(self)):
            phone = int(self.phones[state])
            place = PLACES[state not in self.first[:, phone]]
            before = np.flatnonzero((self.first, self.rest)[PLACES.index(place)][:, phone] == state)
            names = ",".join(phones.decode(before.tolist()))
            lines.append(f"{state} {phones.symbols[phone]} {place} {names} {self.log_priors[state]:.5f}")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path, phones: TokenTable) -> Biphones:
        """Read what `write` wrote; raises DataError when the table is incomplete, or of other phones."""
        tables = {place: np.full((len(phones), len(phones)), SILENCE) for place in PLACES}
        owners, priors = [], []
        try:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
                state, phone, place, before, prior = line.split()
                owners.append(phones.ids[phone])
                priors.append(float(prior))
                if int(state) != number or (owners[-1] == SILENCE) != (number == SILENCE):
                    raise ValueError(f"line {number + 1} is out of order")
                if number != SILENCE:
                    tables[place][phones.encode(before.split(",")), owners[-1]] = number
        except (OSError, UnicodeDecodeError, ValueError, KeyError, DataError) as error:
            raise DataError(f"{path} cannot be read as a table of states: {error}") from None
        if not owners or any((table[:, 1:] == SILENCE).any() for table in tables.values()):
            raise DataError(f"{path} is incomplete: some states are missing")
        return cls(tables["first"], tables["rest"], np.array(owners), np.array(priors, np.float32))


@dataclass(frozen=True)
class Runs:
    """An alignment as a sequence of phones with their lengths."""

    phones: np.ndarray  # (N,)
    before: np.ndarray  # (N,) the phone before each; silence before the first
    lengths: np.ndarray  # (N,) mel frames

    @classmethod
    def of(cls, aligned: np.ndarray) -> Runs:
        """The runs of the phone of each mel frame (F,)."""
        starts = np.flatnonzero(np.concatenate([[True], aligned[1:] != aligned[:-1]])[: len(aligned)])
        phones = aligned[starts].astype(int)
        return cls(phones, np.concatenate([[SILENCE], phones])[: len(phones)], np.diff([*starts, len(aligned)]))
