"""Where training computes, and with whom: the device, and the processes that train one model together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor

from asr.acoustic.precision import short_float
from asr.errors import DataError, UsageError

LOSS_SCALE = 1_024.0  # in 16 bits: fixed, as a scale that adapts waits for the device at every step


def open_device(device: str, patience_minutes: float = 30.0) -> Fabric:
    """Fabric on one device, or on one for each of the processes that torchrun started.

    Args:
        device: auto, cpu, cuda or mps.
        patience_minutes: how long a process waits for the others before it gives up.
    Raises:
        UsageError: no such device here.
    """
    try:
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        if processes == 1:
            return Fabric(accelerator=device, devices=1)
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        strategy = DDPStrategy(timeout=timedelta(minutes=patience_minutes))
        fabric = Fabric(accelerator=device, devices=here, num_nodes=processes // here, strategy=strategy)
        fabric.launch()
        return fabric
    except (ValueError, RuntimeError) as error:  # RuntimeError: a device that this machine lacks
        raise UsageError(f"device {device!r}: {str(error).splitlines()[0]}") from error


class Team:
    """The processes of a training run; most often one.

    A batch is cut into as many parts as there are processes times ``accumulate``, and each process learns from its
    parts one after the other. What is learnt depends on the number of parts, not on who learns from them.
    """

    def __init__(self, fabric: Fabric, accumulate: int = 1, precision: str = "auto") -> None:
        """Join the processes that ``fabric`` was launched in.

        Raises UsageError if ``accumulate`` is below 1, or for a precision there is not.
        """
        if accumulate < 1:
            raise UsageError(f"a batch is learnt from in at least one part, got accumulate {accumulate}")
        self.fabric = fabric
        self.device = fabric.device
        self.processes = fabric.world_size
        self.parts = self.processes * accumulate
        self.mine = range(fabric.global_rank * accumulate, (fabric.global_rank + 1) * accumulate)
        self._short = short_float(precision, fabric.device)
        self.loss_scale = LOSS_SCALE if self._short is torch.float16 else 1.0

    @property
    def first(self) -> bool:
        """Whether this is the process that measures and writes files."""
        return self.fabric.global_rank == 0

    def autocast(self) -> AbstractContextManager:
        """In which matrix products are short where that pays."""
        return torch.autocast(self.device.type, self._short, enabled=self._short is not None)

    def there(self, tensor: Tensor) -> Tensor:
        """A tensor of the CPU on the device, without waiting for it."""
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def total(self, *numbers: float) -> list[float]:
        """Each number summed over all processes."""
        if self.processes == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(sums)
        return sums.tolist()

    def sum_gradients(self, parameters: list[Tensor]) -> None:
        """Give all processes the sum of their gradients."""
        if self.processes == 1:
            return
        used = [one for one in parameters if one.grad is not None]
        flat = torch.cat([one.grad.flatten() for one in used])
        torch.distributed.all_reduce(flat)
        for one, part in zip(used, flat.split([one.numel() for one in used]), strict=True):
            one.grad.copy_(part.view_as(one))

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
