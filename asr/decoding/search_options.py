"""How widely a decoding graph is searched."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SearchOptions:
    """How much of the graph is kept alive: less is faster, more finds better paths. The defaults are for CTC."""

    beam: float = 12.0  # nats behind the best path at which another is given up
    most_active: int = 1_000  # paths
    certain_blank: float = 0.995  # of frames in a row more surely blank, or silent, only the first is searched
    alternatives_beam: float = 10.0  # nats, of the search for alternatives

    def __post_init__(self) -> None:
        if self.beam <= 0 or self.alternatives_beam <= 0 or self.most_active < 1 or not 0 < self.certain_blank <= 1:
            raise ValueError(f"need a positive beam, at least one path, a probability; got {self}")
