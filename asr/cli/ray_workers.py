"""Recordings transcribed by many processes of a Ray cluster, each with its own copy of the model."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from asr.errors import RillError, UsageError
from asr.streaming.results import Result

if TYPE_CHECKING:
    from asr.recognizer import Recognizer

TRIES = 3  # for a recording whose worker dies: by the last one, it is the recording
POLL_SECONDS = 0.2


class RayWorkers:
    """Workers on the cluster that RAY_ADDRESS names, or on this machine; a context manager, for any threads.

    They read recordings by their paths, so every machine of the cluster must have them in the same place. A worker
    that dies is started again, and so is what it was at.
    """

    def __init__(self, count: int, chunk_ms: int, model: str, track: str | None = None, **options: Any) -> None:
        """Start workers; ``track`` as for `Recognizer.transcribe`, ``options`` as for `Recognizer.load`.

        Raises:
            UsageError: Ray is not installed.
            RillError: the model cannot be loaded.
        """
        try:
            import ray
        except ImportError as error:
            raise UsageError("--ray needs ray, which is not installed: pip install 'rill-asr[ray]'") from error
        self._ray = ray
        self._own_cluster = not ray.is_initialized()
        if self._own_cluster:
            ray.init(log_to_driver=False, logging_level="warning")
        kind = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=TRIES - 1)(_Worker)
        self._workers = [kind.remote(chunk_ms, model, track, options) for _ in range(count)]
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

    def transcribe(self, path: str, stopped: Callable[[], bool]) -> tuple[Result | None, str | None]:
        """Have a recording transcribed by a worker that is free, and wait for it.

        Returns:
            The result, if there is one, and what is wrong with the recording, if anything is.
        """
        worker = self._free.get()
        try:
            task = worker.transcribe.remote(os.path.abspath(path), path)
            while not self._ray.wait([task], timeout=POLL_SECONDS)[0]:
                if stopped():
                    return None, None
            return self._ray.get(task)
        except self._ray.exceptions.RayActorError:
            return None, f"{path}: its worker died {TRIES} times; the recording may need more memory than there is"
        finally:
            self._free.put(worker)


class _Worker:
    """Runs in a process of the cluster."""

    def __init__(self, chunk_ms: int, model: str, track: str | None, options: dict[str, Any]) -> None:
        self._chunk_ms = chunk_ms
        self._track = track
        self._model = model
        self._options = options

    @cached_property
    def _recognizer(self) -> Recognizer:
        from asr.recognizer import Recognizer

        return Recognizer.load(self._model, **self._options)

    def ready(self) -> None:
        """Load the model; in the constructor its errors would come without their type."""
        _ = self._recognizer

    def transcribe(self, path: str, name: str) -> tuple[Result | None, str | None]:
        from asr.errors import AudioError, DamagedAudioError

        try:
            return self._recognizer.transcribe(path, chunk_ms=self._chunk_ms, track=self._track), None
        except DamagedAudioError as error:
            return error.result, str(error).replace(path, name)
        except AudioError as error:
            return None, str(error).replace(path, name)
