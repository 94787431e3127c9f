"""Counters of a server, for Prometheus."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24)
BATCHES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
FACTORS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The counters of one server, in a registry of its own."""

    def __init__(self, folder: Path | None = None) -> None:
        """With a ``folder``, those of all worker processes that count there: see `asr.server.worker`."""
        self.registry = CollectorRegistry()
        self._folder = folder
        protocol = ["protocol"]

        def counter(name: str, what: str, labels: list[str]) -> Counter:
            return Counter(name, what, labels, registry=self.registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, what, buckets=buckets, registry=self.registry)

        def gauge(name: str, what: str, labels: list[str]) -> Gauge:  # of several workers: the sum of those alive
            return Gauge(name, what, labels, registry=self.registry, multiprocess_mode="livesum")

        self.streams = gauge("rill_streams", "Streams and files under way", protocol)
        self.tasks = gauge("rill_tasks", "Tasks of the event loop", [])
        self.workers = gauge("rill_workers", "Processes that serve streams", [])
        self.workers.set(1)
        self.begun = counter("rill_streams_begun", "Streams and files begun", protocol)
        self.audio_seconds = counter("rill_audio_seconds", "Audio recognised, in seconds", protocol)
        self.step_seconds = histogram("rill_step_seconds", "From the start of a step to its results", SECONDS)
        self.queue_seconds = histogram("rill_queue_seconds", "From the arrival of audio to its step", SECONDS)
        self.real_time_factor = histogram("rill_real_time_factor", "Seconds of a step per second of its audio", FACTORS)
        self.batch_size = histogram("rill_batch_size", "Streams in a run of the network", BATCHES)
        self.drops = counter("rill_drops", "Clients that disconnected or stopped reading", protocol)
        self.errors = counter("rill_errors", "Errors sent to clients", ["protocol", "code"])

    def text(self) -> bytes:
        """All of them in Prometheus' text form."""
        if self._folder is None:
            return generate_latest(self.registry)
        from prometheus_client.multiprocess import MultiProcessCollector

        of_all = CollectorRegistry()
        MultiProcessCollector(of_all, str(self._folder))
        return generate_latest(of_all)
