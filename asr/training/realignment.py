"""Alignment anew in the middle of a run, by the network that is being trained, which then learns its own states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asr.acoustic.folder import STATES
from asr.acoustic.phone_states import Biphones
from asr.data.alignments import FILE_NAME, AlignmentStore, PhoneAligner, align_manifest
from asr.data.manifest import Manifest
from asr.data.training_set import StoredSet
from asr.training.run import ALIGNED_ANEW, Run
from asr.words.lexicon import Lexicon
from asr.words.tokens import PHONES, TokenTable


def realign(run: Run, interrupted: Callable[[], bool]) -> None:
    """Align what a run learns from by the average of its weights; what does not align keeps the alignment that it had.

    No utterance is left out by its mismatch: that a network in training does not follow a transcript says little.
    Streamed sets keep their alignments. The result is kept in the run's folder; what a stopped run has aligned there is
    not aligned again.

    Args:
        run: under way, with states.
        interrupted: whether this process was asked to stop.
    Raises:
        KeyboardInterrupt: it was.
    """
    if not isinstance(run.data, StoredSet):
        return
    data = run.data
    spoken = [one for one in data.examples if one.text]
    places = {one.id: one for one in spoken}
    manifest = Manifest(tuple(data.stores[one.store].utterances[one.index] for one in spoken), ())
    biphones = Biphones.read(run.folder / STATES, TokenTable(PHONES))
    aligner = PhoneAligner(run.model, biphones, Lexicon.load().pronounce, run.team.device, f"step {run.step}")

    def progress(done: int, total: int) -> None:
        if interrupted():
            raise KeyboardInterrupt

    with run.team.fabric.rank_zero_first():  # the others find what the first one has aligned
        align_manifest(
            manifest,
            aligner,
            run.folder / ALIGNED_ANEW,
            progress=progress,
            audio=lambda one: np.array(data.stores[places[one.id].store].samples(places[one.id].index)),
        )
    take_alignments(run)


def take_alignments(run: Run) -> None:
    """Learn from the alignments that `realign` has kept, if it has."""
    if isinstance(run.data, StoredSet) and (run.folder / ALIGNED_ANEW / FILE_NAME).is_file():
        run.data = run.data.realigned(AlignmentStore.open(run.folder / ALIGNED_ANEW), {})
