"""Many replicas of the server on a Ray cluster: one address, as many replicas as the streams need.

Every replica is a whole server with its own copy of the model and shares no state with the others: a stream ends with
its connection. Ray Serve starts the replicas, spreads connections over them and replaces those
that die.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import ServerError, UsageError, how_to_install
from asr.recognizer_options import RecognizerOptions
from asr.server.options import ServerOptions

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.serve import Application

BUSY_SHARE = 0.7  # of a replica's streams that are taken on the average, before another one is started
SPARE_REQUESTS = 16  # beside the streams: the page, health, refusals


@dataclass(frozen=True)
class Fleet:
    """How many replicas, and what each of them is."""

    recognizer: RecognizerOptions = field(default_factory=RecognizerOptions)
    options: ServerOptions = field(default_factory=ServerOptions)
    replicas: int = 1  # at least
    max_replicas: int | None = None  # None: not more than that
    cores: float = 1.0  # that Ray reserves for a replica

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise UsageError(f"--replicas must be a whole number from 1, got {self.replicas}")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise UsageError(f"--max-replicas {self.max_replicas} is below --replicas {self.replicas}")

    def build(self) -> FastAPI:
        """The application of one replica; loads the model."""
        from asr.recognizer import Recognizer
        from asr.server.app import create_app
        from asr.server.metrics import Metrics

        metrics = Metrics()
        recognizer = Recognizer.open(self.options.batched(self.recognizer, metrics.batch_size.observe))
        # Its threads end with the process of the replica.
        return create_app(recognizer, self.options, Path(self.recognizer.model).name, metrics)


def application(fleet: Fleet) -> Application:
    """A Ray Serve application, for `ray.serve.run`. Raises UsageError if Ray is not installed."""
    serve = require_ray().serve
    fleet = replace(fleet, recognizer=fleet.recognizer.for_another_process())

    def build() -> FastAPI:
        return fleet.build()

    scale: dict[str, Any] = {"num_replicas": fleet.replicas}
    if fleet.max_replicas is not None:
        scale = {
            "autoscaling_config": {
                "min_replicas": fleet.replicas,
                "max_replicas": fleet.max_replicas,
                "target_ongoing_requests": BUSY_SHARE * fleet.options.max_streams,
            }
        }
    deployment = serve.deployment(
        name="rill",
        max_ongoing_requests=fleet.options.max_streams + SPARE_REQUESTS,
        graceful_shutdown_timeout_s=fleet.options.grace_seconds,
        ray_actor_options={"num_cpus": fleet.cores},
        **scale,
    )
    return deployment(serve.ingress(build)()).bind()


def from_arguments(arguments: dict[str, str]) -> Application:
    """For `serve run asr.server.ray_serve:from_arguments replicas=2`: fields of `Fleet` and of both of its options.

    Raises:
        UsageError: an unknown argument, or a value that cannot be used.
    """
    groups = {kind: _kinds(kind) for kind in (RecognizerOptions, ServerOptions, Fleet)}
    known = [name for kinds in groups.values() for name in kinds]
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise UsageError(f"unknown argument {unknown[0]!r}; give {', '.join(known)}")
    try:
        of_recognizer, of_server, of_fleet = (
            {name: make(arguments[name]) for name, make in kinds.items() if name in arguments}
            for kinds in groups.values()
        )
        recognizer = RecognizerOptions(**{"readable": True, **of_recognizer})
        return application(Fleet(recognizer, ServerOptions(**of_server), **of_fleet))
    except ValueError as error:
        raise UsageError(f"an argument cannot be used: {error}") from error


def run(fleet: Fleet, host: str, port: int) -> None:
    """Serve until Ctrl-C, on the cluster that RAY_ADDRESS names, or on this machine alone.

    Raises:
        UsageError: Ray is not installed.
        ServerError: the replicas do not start.
    """
    import signal
    import sys
    import threading

    ray = require_ray()
    stop = threading.Event()
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="warning")
    try:
        ray.serve.start(http_options={"host": host, "port": port})
        ray.serve.run(application(fleet), name="rill", route_prefix="/")
        for number in (signal.SIGINT, signal.SIGTERM):  # only now: Ray sets its own while it starts
            signal.signal(number, lambda *_: stop.set())
        print(
            f"asr: serving {Path(fleet.recognizer.model).name} on http://{host}:{port} by Ray; Ctrl-C ends it",
            file=sys.stderr,
        )
        stop.wait()
    except RuntimeError as error:
        raise ServerError(f"the replicas do not start: {error}") from error
    finally:
        ray.serve.shutdown()
        ray.shutdown()


def require_ray() -> Any:
    """The module `ray`, with `ray.serve`; raises UsageError if it is not installed."""
    try:
        import ray
        import ray.serve
    except ImportError as error:
        raise UsageError(f"this needs {error.name}, which is not installed; {how_to_install('ray')}") from error
    return ray


def _kinds(of: type) -> dict[str, Callable[[str], Any]]:
    """How the text of an argument becomes the value of a field, for each field that has a text."""
    makers: dict[str, Callable[[str], Any]] = {
        "str": str,
        "int": int,
        "float": float,
        "bool": lambda text: text.lower() in ("1", "true", "yes"),
        "tuple[str, ...]": lambda text: tuple(text.split(",")),
    }
    kinds = {one.name: str(one.type).split(" | ")[0] for one in fields(of)}
    return {name: makers[kind] for name, kind in kinds.items() if kind in makers}
