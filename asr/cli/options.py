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
