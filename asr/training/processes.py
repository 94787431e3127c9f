"""Processes that train one model together: who they are, what they agree on, and whose part of a step is whose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric

from asr.errors import DataError, UsageError


class Team:
    """The processes of a training run; most often one.

    A batch is cut into as many parts as there are processes times ``accumulate``, and each process learns from its
    parts one after the other. What is learnt depends on the number of parts, not on who learns from them.
    """

    def __init__(self, fabric: Fabric, accumulate: int = 1) -> None:
        """Join the processes that ``fabric`` was launched in; raises UsageError if ``accumulate`` is below 1."""
        if accumulate < 1:
            raise UsageError(f"a batch is learnt from in at least one part, got accumulate {accumulate}")
        self.fabric = fabric
        self.processes = fabric.world_size
        self.parts = self.processes * accumulate
        self.mine = range(fabric.global_rank * accumulate, (fabric.global_rank + 1) * accumulate)

    @property
    def first(self) -> bool:
        """Whether this is the process that measures and writes files."""
        return self.fabric.global_rank == 0

    def total(self, *numbers: float) -> list[float]:
        """Each number summed over all processes."""
        if self.processes == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.fabric.device)
        torch.distributed.all_reduce(sums)
        return sums.tolist()

    def wait(self) -> None:
        """Until all processes are here."""
        self.fabric.barrier()

    def check_alike(self, facts: Mapping[str, str]) -> None:
        """Raise UsageError unless all processes know the same facts."""
        if self.processes == 1:
            return
        everyones: list[Mapping[str, str]] = [{}] * self.processes
        torch.distributed.all_gather_object(everyones, dict(facts))
        for rank, theirs in enumerate(everyones):
            for name, fact in everyones[0].items():
                if theirs.get(name) != fact:
                    raise UsageError(
                        f"process {rank} has {name} {theirs.get(name)}, process 0 has {fact}: "
                        "start all of them with the same version, data and options"
                    )

    @contextmanager
    def depending(self) -> Iterator[None]:
        """Turn the loss of another process, inside, into a DataError that says what can be done."""
        try:
            yield
        except RuntimeError as error:  # gloo has no class of its own
            if self.processes == 1 or not _from_network(error):
                raise
            raise DataError(
                f"process {self.fabric.global_rank} of {self.processes} lost touch with another one "
                f"({str(error).splitlines()[0][:200]}); the same command goes on from the last checkpoint"
            ) from error


def _from_network(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, torch.distributed.DistError) or "gloo" in text or "nccl" in text
