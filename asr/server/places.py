"""How many at a time: places that are counted in one process, or in all worker processes of a server together."""

from __future__ import annotations

from asr.server.tally import Column, Tally


class Places:
    """At most so many at a time, in this process."""

    def __init__(self, most: int) -> None:
        self.most = most

    def another(self, taken: int) -> bool:
        """Take one more place beside those that this process has ``taken``; False when there is none."""
        return taken < self.most

    def tell(self, taken: int) -> None:
        """So many places has this process now."""

    def want(self, wanted: bool) -> None:
        """This process waits for a place, or no longer."""

    @property
    def wanted(self) -> bool:
        """Whether another process waits for a place."""
        return False

    @property
    def shared(self) -> bool:
        """Whether others may free a place."""
        return False


class SharedPlaces(Places):
    """At most so many at a time, in all workers of a server together."""

    def __init__(self, most: int, tally: Tally, taken: Column, wanted: Column | None = None) -> None:
        """Counted in a column of a tally; in another one, if need be, who waits for a place."""
        super().__init__(most)
        self._tally, self._taken, self._wanted = tally, taken, wanted

    def another(self, taken: int) -> bool:
        with self._tally.alone():
            self.tell(taken)
            if self._tally.total(self._taken) >= self.most:
                return False
            self.tell(taken + 1)
        return True

    def tell(self, taken: int) -> None:
        self._tally.write(self._taken, taken)

    def want(self, wanted: bool) -> None:
        if self._wanted is not None:
            self._tally.write(self._wanted, int(wanted))

    @property
    def wanted(self) -> bool:
        return self._wanted is not None and self._tally.total(self._wanted) > 0

    @property
    def shared(self) -> bool:
        return True
