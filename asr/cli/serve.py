"""`asr serve`: the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import EndpointOptions, RecognitionOptions, TextOptions, grouped

if TYPE_CHECKING:
    from asr.recognizer_options import RecognizerOptions
    from asr.server.options import ServerOptions
    from asr.server.run import Address


@grouped
def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all interfaces.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any that is free.")] = 8_000,
    recognition: RecognitionOptions,
    text: TextOptions,
    endpoints: EndpointOptions,
    max_streams: Annotated[int, typer.Option(help="Live streams and files at a time; more are refused.")] = 32,
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
    from asr.server.options import MIB, ServerOptions
    from asr.server.run import Address

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
    if ray:
        from asr.server.ray_serve import Fleet
        from asr.server.ray_serve import run as run_fleet

        if wyoming_port is not None or ssl_certfile is not None or ssl_keyfile is not None:
            raise UsageError("Wyoming and certificates do not go with --ray; put a proxy before it")
        run_fleet(Fleet(recognizer, options, replicas, max_replicas), host, port)
        return
    if replicas != 1 or max_replicas is not None:
        raise UsageError("--replicas and --max-replicas go with --ray")
    _run(recognizer, options, Address(host, port, ssl_certfile, ssl_keyfile, wyoming_host, wyoming_port))


def _check_installed() -> None:
    from asr.errors import UsageError, how_to_install

    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise UsageError(f"asr serve needs {error.name}, which is not installed; {how_to_install('serve')}") from error


def _run(options: RecognizerOptions, limits: ServerOptions, address: Address) -> None:
    from asr.recognizer import Recognizer
    from asr.server.app import create_app
    from asr.server.metrics import Metrics
    from asr.server.run import serve

    metrics = Metrics()
    with Recognizer.open(limits.batched(options, metrics.batch_size.observe)) as recognizer:
        serve(create_app(recognizer, limits, Path(options.model).name, metrics), address)
