"""`asr serve`: the server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import (
    DecoderName,
    EndSentence,
    EndSilence,
    Forget,
    GrammarFile,
    Hotwords,
    LanguageModelFolder,
    LeadSilence,
    Longest,
    Model,
    Pretty,
    endpoint_rule,
)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for everybody.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any that is free.")] = 8_000,
    model: Model = None,
    engine: Annotated[str, typer.Option("--engine", help="int8, onnx (exact for any chunks), or torch.")] = "int8",
    decoder: DecoderName = None,
    lm: LanguageModelFolder = None,
    hotwords: Hotwords = None,
    grammar: GrammarFile = None,
    pretty: Pretty = False,
    end_silence: EndSilence = None,
    end_sentence: EndSentence = None,
    lead_silence: LeadSilence = None,
    longest: Longest = None,
    forget: Forget = None,
    max_streams: Annotated[int, typer.Option(help="Live streams and files at a time; more are refused.")] = 32,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="RILL_API_KEY", help="What clients must send.", show_default=False),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Whose pages may use the server besides its own, such as https://example.org; * for all."),
    ] = None,
    wyoming_port: Annotated[
        int | None, typer.Option(help="Also speak Wyoming (Home Assistant) on this TCP port; it knows no key.")
    ] = None,
    wyoming_host: Annotated[str, typer.Option(help="Address for Wyoming.")] = "127.0.0.1",
    max_upload_mb: Annotated[int, typer.Option(help="Largest file to transcribe.")] = 100,
    idle_seconds: Annotated[float, typer.Option(help="Close a connection on which nothing comes for so long.")] = 60.0,
    longest_seconds: Annotated[float, typer.Option(help="Longest connection, and longest audio of a file.")] = 14_400.0,
    ssl_certfile: Annotated[Path | None, typer.Option(help="Certificate in PEM form, for https and wss.")] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    log_transcripts: Annotated[bool, typer.Option("--log-transcripts", help="Log what is said.")] = False,
    ray: Annotated[bool, typer.Option("--ray", help="Run replicas on a Ray cluster, behind one address.")] = False,
    replicas: Annotated[int, typer.Option(help="Of the server, under Ray.")] = 1,
    max_replicas: Annotated[
        int | None, typer.Option(help="Under Ray, as many as the streams need, to this number.", show_default=False)
    ] = None,
) -> None:
    """Serve live streams and files to many clients, and a page for the browser.

    Speaks OpenAI's interfaces, Vosk's, Wyoming and its own simple WebSocket; Ctrl-C lets every stream finish.
    """
    from asr.errors import UsageError

    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"asr serve needs {error.name}, which is not installed: pip install 'rill-asr[serve]'"
        ) from error
    from asr.acoustic.folder import DEFAULT_MODEL
    from asr.recognizer import Recognizer
    from asr.server.app import create_app
    from asr.server.metrics import Metrics
    from asr.server.options import MIB, ServerOptions
    from asr.server.run import Address
    from asr.server.run import serve as run
    from asr.streaming.batcher import Batching

    try:
        options = ServerOptions(
            api_key=api_key,
            allow_origins=tuple(allow_origin or ()),
            max_streams=max_streams,
            max_upload_bytes=max_upload_mb * MIB,
            idle_seconds=idle_seconds,
            longest_seconds=longest_seconds,
            log_transcripts=log_transcripts,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    name = model or DEFAULT_MODEL
    ends = (end_silence, end_sentence, lead_silence, longest, forget)
    rule = endpoint_rule(*ends)
    if ray:
        from asr.server.ray_serve import Fleet
        from asr.server.ray_serve import run as run_fleet

        if wyoming_port is not None or ssl_certfile is not None or ssl_keyfile is not None:
            raise UsageError("Wyoming and certificates do not go with --ray; put a proxy before it")
        if any(given not in (None, False) for given in (hotwords, grammar, pretty, *ends)):
            raise UsageError("--hotwords, --grammar, --pretty and when utterances end do not go with --ray")
        run_fleet(Fleet(name, engine, decoder, lm, replicas, max_replicas, options=options), host, port)
        return
    if replicas != 1 or max_replicas is not None:
        raise UsageError("--replicas and --max-replicas go with --ray")
    metrics = Metrics()
    batching = None if engine == "torch" else Batching(most=max_streams, observe=metrics.batch_size.observe)
    with Recognizer.load(
        name,
        engine=engine,
        decoder=decoder,
        lm=lm,
        hotwords=hotwords,
        grammar=grammar,
        endpoint=rule,
        batching=batching,
        pretty=pretty,
    ) as recognizer:
        run(
            create_app(recognizer, options, Path(name).name, metrics),
            Address(host, port, ssl_certfile, ssl_keyfile, wyoming_host, wyoming_port),
        )
