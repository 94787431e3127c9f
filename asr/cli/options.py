"""Options that several commands take: which model recognises, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str | None, typer.Option("--model", help="A shipped model (see asr models) or a model folder.")]
EngineName = Annotated[str, typer.Option("--engine", help="onnx, int8 (faster), or torch.")]
DecoderName = Annotated[
    str | None, typer.Option("--decoder", help="lm, or greedy. [default: lm if there is a language model]")
]
LanguageModelFolder = Annotated[Path | None, typer.Option("--lm", help="Another language model, from asr lm build.")]
Server = Annotated[
    str | None, typer.Option("--server", help="Let a Rill server recognise, such as http://127.0.0.1:8000.")
]
ApiKey = Annotated[str | None, typer.Option("--api-key", help="Its key, if it wants one. [default: $RILL_API_KEY]")]


def check_server_options(
    server: str | None, api_key: str | None, model: str | None, engine: str, decoder: str | None, lm: Path | None
) -> None:
    """Raise UsageError for options that do not go together: a server has a model of its own."""
    from asr.errors import UsageError

    local = {"--model": model, "--engine": engine if engine != "onnx" else None, "--decoder": decoder, "--lm": lm}
    given = [name for name, value in local.items() if value is not None]
    if server is not None and given:
        raise UsageError(f"{' and '.join(given)} cannot be chosen with --server, which has its own; leave one out")
    if server is None and api_key is not None:
        raise UsageError("--api-key goes with --server; give the server's address too")
