"""`asr serve`: the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import EndpointOptions, RecognitionOptions, TextOptions, grouped

if TYPE_CHECKING:
    from asr.recognizer_options import RecognizerOptions
    from asr.server.address import Address
    from asr.server.options import ServerOptions
    from asr.server.post import Job, Post


@grouped
def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all interfaces.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any that is free.")] = 8_000,
    recognition: RecognitionOptions,
    text: TextOptions,
    endpoints: EndpointOptions,
    max_streams: Annotated[int, typer.Option(help="Live streams and files at a time; more are refused.")] = 32,
    workers: Annotated[
        int, typer.Option(help="Processes that serve them behind the one address; limits are of all together.")
    ] = 1,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="RILL_API_KEY", help="Key that clients must send.", show_default=False),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin of other pages that may use the server, such as https://example.org; * for all."),
    ] = None,
    wyoming_port: Annotated[
        int | None, typer.Option(help="Also serve Wyoming (Home Assistant) on this TCP port; it has no API keys.")
    ] = None,
    wyoming_host: Annotated[str, typer.Option(help="Address for Wyoming.")] = "127.0.0.1",
    hotword_lists: Annotated[
        int, typer.Option(help="Lists of hotwords that streams may bring, in use at a time; each takes some 200 MB.")
    ] = 2,
    max_upload_mb: Annotated[int, typer.Option(help="Largest file to transcribe.")] = 100,
    idle_seconds: Annotated[float, typer.Option(help="Close a connection without messages for this long.")] = 60.0,
    longest_seconds: Annotated[float, typer.Option(help="Longest connection, and longest file.")] = 14_400.0,
    ssl_certfile: Annotated[Path | None, typer.Option(help="Certificate in PEM form, for https and wss.")] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    log_transcripts: Annotated[bool, typer.Option("--log-transcripts", help="Log the final texts.")] = False,
    ray: Annotated[bool, typer.Option("--ray", help="Run replicas on a Ray cluster, behind one address.")] = False,
    replicas: Annotated[int, typer.Option(help="Of the server, with --ray.")] = 1,
    max_replicas: Annotated[
        int | None, typer.Option(help="With --ray, up to this many, as the streams need.", show_default=False)
    ] = None,
) -> None:
    """Serve live streams and files to many clients, and a page for the browser.

    It has OpenAI's interfaces, Vosk's, Wyoming and a simple WebSocket of its own. Ctrl-C lets every stream finish.
    """
    _check_installed()
    from asr.errors import UsageError
    from asr.server.address import Address
    from asr.server.options import MIB, ServerOptions

    recognizer = recognition.recognizer(endpoint=endpoints.rule(), readable=text.readable)
    try:
        options = ServerOptions(
            api_key=api_key,
            allow_origins=tuple(allow_origin or ()),
            max_streams=max_streams,
            max_upload_bytes=max_upload_mb * MIB,
            idle_seconds=idle_seconds,
            longest_seconds=longest_seconds,
            log_transcripts=log_transcripts,
            hotword_lists=hotword_lists,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    if workers < 1:
        raise UsageError(f"--workers must be a whole number from 1, got {workers}")
    if ray:
        from asr.server.ray_serve import Fleet
        from asr.server.ray_serve import run as run_fleet

        if wyoming_port is not None or ssl_certfile is not None or ssl_keyfile is not None:
            raise UsageError("Wyoming and certificates do not go with --ray; put a proxy before it")
        if workers != 1:
            raise UsageError("--workers does not go with --ray, which has --replicas")
        run_fleet(Fleet(recognizer, options, replicas, max_replicas), host, port)
        return
    if replicas != 1 or max_replicas is not None:
        raise UsageError("--replicas and --max-replicas go with --ray")
    address = Address(host, port, ssl_certfile, ssl_keyfile, wyoming_host, wyoming_port)
    if workers == 1:
        _run(recognizer, options, address)
    else:
        from asr.server.post import Job
        from asr.server.supervisor import serve_workers

        serve_workers(Job(recognizer, options, address, workers), _work)


def _check_installed() -> None:
    from importlib.util import find_spec  # which loads nothing: the supervisor of workers needs none of them

    from asr.errors import UsageError, how_to_install

    for name in ("fastapi", "prometheus_client", "python_multipart", "uvicorn", "websockets"):
        if find_spec(name) is None:
            raise UsageError(f"asr serve needs {name}, which is not installed; {how_to_install('serve')}")


def _run(options: RecognizerOptions, limits: ServerOptions, address: Address) -> None:
    from asr.memory import limit_arenas
    from asr.recognizer import Recognizer
    from asr.server.app import create_app
    from asr.server.metrics import Metrics
    from asr.server.run import serve
    from asr.streaming.batcher import usable_cores

    limit_arenas(usable_cores())  # a stream is a thread
    metrics = Metrics()
    with Recognizer.open(limits.batched(options, metrics.batch_size.observe)) as recognizer:
        serve(create_app(recognizer, limits, Path(options.model).name, metrics), address)


def _work(job: Job, post: Post) -> None:
    """The main function of a worker process."""
    import warnings

    from asr.cli.exits import open_missing_streams, warnings_as_lines
    from asr.errors import RillWarning
    from asr.memory import limit_arenas
    from asr.server.worker import work
    from asr.streaming.batcher import usable_cores

    open_missing_streams()
    limit_arenas(usable_cores())  # a stream is a thread
    with warnings_as_lines():
        if post.number:  # the first one has warned
            warnings.simplefilter("ignore", RillWarning)
        work(job, post)
