"""Several worker processes behind one address.

The supervisor listens, and hands each connection to the worker that has the fewest: streams are spread evenly on every
system, and no connection waits in the queue of a worker that has died. It reads nothing of what clients send; TLS and
all protocols are the workers'. (uvicorn's own supervisor serves one protocol, leaves it to the system which worker
accepts, and knows no limits in common.)
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from asr.errors import ServerError, UsageError
from asr.server.address import Listening
from asr.server.log import log, to_stderr
from asr.server.post import Job, Post
from asr.server.tally import Column, Tally

Work = Callable[[Job, Post], None]
AT_ONCE = 32  # connections that are accepted before deaths and signals are looked for
BREATH_SECONDS = 0.1  # where the system has no more files for connections


class Worker:
    """A worker process, seen from outside."""

    def __init__(self, number: int, process: SpawnProcess, connections: socket.socket, reports: Connection) -> None:
        self.number = number
        self.process = process
        self.connections = connections
        self.reports = reports
        self.serves: bool | None = None  # None: it is starting; False: it cannot
        self.handed = 0  # connections
        self.last = 0  # which connection of the server was its last one

    def take(self, connection: socket.socket, kind: int) -> bool:
        """Hand it a connection; False when it has just died or stopped, or is stuck."""
        try:
            socket.send_fds(self.connections, [bytes([kind])], [connection.fileno()])
        except OSError:
            return False
        self.handed += 1
        return True

    def close(self) -> None:
        """Release what belongs to a process that has ended."""
        self.connections.close()
        self.reports.close()
        self.process.close()


class Supervisor:
    """Starts workers, spreads connections over them, replaces those that die, stops them."""

    def __init__(self, job: Job, work: Work, listening: Listening, folder: Path) -> None:
        """
        Args:
            job: what every worker does.
            work: the main function of a worker, which a new process can import.
            listening: the sockets, bound.
            folder: an empty one for what the workers count.
        """
        self._job = job
        self._work = work
        self._listening = listening
        self._folder = folder
        self._tally = Tally.create(folder, job.workers)
        self._workers: list[Worker] = []
        self._handed = 0
        self._listens = self._ready = self._stopping = False
        self._error: Exception | None = None

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM, after which streams get their last words; a second one cuts them off.

        Raises:
            RillError: a worker could not start, at first or in the place of another; the streams of the others were
                ended as by a signal.
            OSError: likewise.
        """
        with _bell() as bell:
            try:
                self._start(0)  # alone: it fills the cache, and what is wrong is said once
                while self._workers:
                    sources = self._sources(bell)
                    found = wait(sources)
                    sources[next(source for source in sources if source in found)]()
            finally:
                self._kill()
        if self._error is not None:
            raise self._error

    def _sources(self, bell: socket.socket) -> dict[Any, Callable[[], None]]:
        """What may have news, and what is to be done then: the most urgent first."""
        sources: dict[Any, Callable[[], None]] = {bell: partial(self._signalled, bell)}
        for worker in self._workers:
            if worker.serves is None:
                sources[worker.reports] = partial(self._reported, worker)
            sources[worker.process.sentinel] = partial(self._ended, worker)
        if any(worker.serves for worker in self._workers):
            for kind, listening in enumerate(self._listening.sockets):
                sources[listening] = partial(self._accept, listening, kind)
        return sources

    def _start(self, number: int) -> None:
        ours, connections = socket.socketpair()
        ours.setblocking(False)
        heard, reports = multiprocessing.Pipe(duplex=False)
        with connections, reports:
            post = Post(number, self._folder, connections, reports)
            process = multiprocessing.get_context("spawn").Process(
                target=self._work, args=(self._job, post), name=f"asr-worker-{number}", daemon=True
            )
            resource_tracker.ensure_running()  # which would unblock the signal
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C comes to every process: it is for us
            try:
                process.start()  # with the same signals blocked
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        self._workers.append(Worker(number, process, ours, heard))

    def _reported(self, worker: Worker) -> None:
        """A worker serves, or says why it cannot."""
        try:
            error = worker.reports.recv()
        except EOFError:
            worker.process.join()
            error = ServerError(f"a worker process ended while it started, with status {worker.process.exitcode}")
        worker.serves = error is None
        if error is not None:
            if not self._stopping:
                self._error = error
                self._stop()
        else:
            log("worker begins", worker=worker.number, process=worker.process.pid)
            if not self._ready:
                self._begin()

    def _begin(self) -> None:
        """Let clients connect to the first worker and start the others, then say that all of them serve."""
        if not self._listens:
            self._listens = True
            self._listening.listen()
            for listening in self._listening.sockets:
                listening.setblocking(False)
            for number in range(1, self._job.workers):
                self._start(number)
        if all(worker.serves for worker in self._workers):
            self._ready = True
            self._listening.announce(self._job.model)
            self._listening.log_ready(self._job.model, self._job.options.max_streams, self._job.workers)

    def _ended(self, worker: Worker) -> None:
        """A worker is no more: its places are free, what it counted stays counted, and another takes its post."""
        if worker.serves is None:
            self._reported(worker)
        worker.process.join()
        process, status = worker.process.pid, worker.process.exitcode
        self._workers.remove(worker)
        self._tally.clear(worker.number)
        worker.close()
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(process, str(self._folder))
        if not self._stopping:
            event = "worker died" if status else "worker ends"  # that was asked to, by itself
            log(event, logging.WARNING, worker=worker.number, process=process, status=status)
            self._start(worker.number)

    def _accept(self, listening: socket.socket, kind: int) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = listening.accept()
            except BlockingIOError:
                return
            except OSError:
                time.sleep(BREATH_SECONDS)
                return
            with connection:
                self._hand(connection, kind)

    def _hand(self, connection: socket.socket, kind: int) -> None:
        """Hand a connection to the worker with the fewest; of equal ones, to that which has waited longest."""

        def rank(worker: Worker) -> tuple[int, int, int]:
            closed = self._tally.read(worker.number, Column.CLOSED)
            return self._tally.read(worker.number, Column.DRAINING), worker.handed - closed, worker.last

        for worker in sorted((worker for worker in self._workers if worker.serves), key=rank):
            if worker.take(connection, kind):
                self._handed += 1
                worker.last = self._handed
                return

    def _signalled(self, bell: socket.socket) -> None:
        bell.recv(1)
        if self._stopping:
            self._kill()
        else:
            log("shutting down")
            self._stop()

    def _stop(self) -> None:
        """Let every worker end its streams. They go on being handed connections, which they refuse with the reason."""
        self._stopping = True
        for worker in self._workers:
            if worker.serves:
                worker.process.terminate()
            else:
                worker.process.kill()

    def _kill(self) -> None:
        self._stopping = True
        for worker in self._workers:
            worker.process.kill()


def serve_workers(job: Job, work: Work) -> None:
    """Serve with several workers until SIGINT or SIGTERM; see `Supervisor`.

    Raises:
        UsageError: the address cannot be listened on, or the system cannot hand connections to other processes.
        RillError: the workers cannot start.
    """
    if not hasattr(socket, "send_fds"):
        raise UsageError(
            f"--workers {job.workers} needs a system where processes can hand each other connections, which "
            f"{sys.platform} is not; leave it out, or start several servers behind a proxy"
        )
    listening = job.address.bind()
    try:
        to_stderr()
        with tempfile.TemporaryDirectory(prefix="rill-", ignore_cleanup_errors=True) as folder:
            Supervisor(job, work, listening, Path(folder)).run()
    finally:
        listening.close()


@contextmanager
def _bell() -> Iterator[socket.socket]:
    """A socket that has a byte to read for each SIGINT and SIGTERM."""
    bell, button = socket.socketpair()

    def ring(*_: object) -> None:
        with suppress(OSError):
            button.send(b"!")

    with bell, button:
        before = {number: signal.signal(number, ring) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield bell
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
