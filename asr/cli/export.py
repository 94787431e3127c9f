"""`asr export`: a training run becomes a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a training run.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model folder to write.")],
    name: Annotated[str | None, typer.Option(help="The model's name; by default the folder's.")] = None,
) -> None:
    """Write the averaged weights of RUN as a model folder: ONNX graph, weights, tokens, states, configuration."""
    from asr.cli.training_extra import training_extra

    with training_extra():
        from asr.biphones import Biphones
        from asr.checkpoint import averaged_model
        from asr.export import write_model_folder
        from asr.package import STATES
        from asr.tokens import PHONES, TokenTable

    model = averaged_model(run)
    biphones = Biphones.read(run / STATES, TokenTable(PHONES)) if model.config.states else None
    write_model_folder(model, output, name or output.resolve().name, biphones=biphones)
    print(output)
