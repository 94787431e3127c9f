"""Recordings transcribed by many processes of a Ray cluster, each with its own copy of the model."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from threading import Event
from typing import TYPE_CHECKING, Any

from asr.cli.progress import TranscriptionProgress
from asr.cli.transcribers import Transcribed, Transcriber
from asr.errors import RillError, UsageError, how_to_install
from asr.output.files import Source

if TYPE_CHECKING:
    from asr.recognizer_options import RecognizerOptions

TRIES = 3  # for a recording whose worker dies: after the last one, the recording is to blame
POLL_SECONDS = 0.2


def by_ray(stack: ExitStack, jobs: int, chunk_ms: int, track: str | None, options: RecognizerOptions) -> Transcriber:
    """Have workers of a Ray cluster transcribe, which end with the stack."""
    workers = stack.enter_context(RayWorkers(jobs, chunk_ms, track, options))

    def transcribed(source: Source, shown: TranscriptionProgress, stop: Event) -> Transcribed:
        shown.begin(source.name, None)
        try:
            outcome = workers.transcribe(source, stop.is_set)
        finally:
            shown.end(source.name)
        if outcome.result is not None:
            shown.advance(source.name, outcome.result.end_seconds, outcome.result.end_seconds)
        return outcome

    return transcribed


class RayWorkers:
    """Workers on the cluster that RAY_ADDRESS names, or on this machine; a context manager, for any threads.

    They read recordings by their paths, so every machine of the cluster must have them in the same place. A worker
    that dies is started again, and so is its recording.
    """

    def __init__(self, count: int, chunk_ms: int, track: str | None, options: RecognizerOptions) -> None:
        """Start workers; ``track`` is as for `Recognizer.transcribe`.

        Raises:
            UsageError: Ray is not installed, or hotwords cannot be used.
            RillError: the model cannot be loaded.
        """
        try:
            import ray
        except ImportError as error:
            raise UsageError(f"--ray needs ray, which is not installed; {how_to_install('ray')}") from error
        options = options.for_another_process()
        self._ray = ray
        self._own_cluster = not ray.is_initialized()
        if self._own_cluster:
            ray.init(log_to_driver=False, logging_level="warning")
        kind = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=TRIES - 1)(_Worker)
        self._workers = [kind.remote(chunk_ms, track, options) for _ in range(count)]
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)

    def __enter__(self) -> RayWorkers:
        try:
            self._ray.get(self._workers[0].ready.remote())
        except self._ray.exceptions.RayError as error:
            self.__exit__()
            cause = getattr(error, "cause", None)
            raise cause if isinstance(cause, RillError) else RillError(f"no worker starts: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            self._ray.kill(worker)
        if self._own_cluster:
            self._ray.shutdown()

    def transcribe(self, source: Source, stopped: Callable[[], bool]) -> Transcribed:
        """Have a recording transcribed by the next free worker, and wait for it."""
        worker = self._free.get()
        try:
            task = worker.transcribe.remote(source, os.path.abspath(source.name))
            while not self._ray.wait([task], timeout=POLL_SECONDS)[0]:
                if stopped():
                    return Transcribed(source, None, interrupted=True)
            return self._ray.get(task)
        except self._ray.exceptions.RayActorError:
            problem = f"{source.name}: its worker died {TRIES} times; it may need more memory than there is"
            return Transcribed(source, None, problem)
        finally:
            self._free.put(worker)


class _Worker:
    """Runs in a process of the cluster."""

    def __init__(self, chunk_ms: int, track: str | None, options: RecognizerOptions) -> None:
        self._chunk_ms = chunk_ms
        self._track = track
        self._options = options

    @cached_property
    def _transcriber(self) -> Transcriber:
        from asr.cli.transcribers import here
        from asr.recognizer import Recognizer

        return here(Recognizer.open(self._options), self._chunk_ms, None, self._track)

    def ready(self) -> None:
        """Load the model; in the constructor its errors would lose their type."""
        _ = self._transcriber

    def transcribe(self, source: Source, path: str) -> Transcribed:
        """Transcribe the file at a path; messages name it as the source does."""
        outcome = self._transcriber(replace(source, name=path), TranscriptionProgress(), Event())
        problem = outcome.problem and str(outcome.problem).replace(path, source.name)
        remark = outcome.remark and outcome.remark.replace(path, source.name)
        return outcome._replace(source=source, problem=problem, remark=remark)
