"""`asr export`: a training run becomes a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a training run.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model folder to write.")],
    name: Annotated[str | None, typer.Option(help="The model's name; by default the folder's.")] = None,
    phone_share: Annotated[
        float, typer.Option(help="How much the CTC phones count beside the states when words are decoded.", min=0.0)
    ] = 0.7,
) -> None:
    """Write the averaged weights of RUN as a model folder: ONNX graph, weights, tokens, states, configuration."""
    from asr.cli.options import training_extra

    with training_extra():
        from asr.acoustic.export import with_phone_scores, write_model_folder
        from asr.acoustic.folder import STATES
        from asr.acoustic.phone_states import Biphones
        from asr.training.checkpoint import averaged_model
        from asr.words.tokens import PHONES, TokenTable

    model = averaged_model(run)
    biphones = Biphones.read(run / STATES, TokenTable(PHONES)) if model.config.states else None
    if biphones:
        model = with_phone_scores(model, biphones, phone_share)
    write_model_folder(model, output, name or output.resolve().name, biphones=biphones)
    print(output)
