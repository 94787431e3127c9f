"""`asr export`: a training run becomes a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_PHONE_SHARE = 0.7


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a training run.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model folder to write.")],
    name: Annotated[str | None, typer.Option(help="The model's name; by default the folder's.")] = None,
    phone_share: Annotated[
        float | None,
        typer.Option(
            help="How much the CTC phones count beside the states when words are decoded. (default: as in the model "
            "that the run began with, else 0.7)",
            min=0.0,
        ),
    ] = None,
    lm: Annotated[
        str | None,
        typer.Option(help="Folder of the language model to put in; none: no one. (default: what the run began with)"),
    ] = None,
) -> None:
    """Write the averaged weights of RUN as a model folder: ONNX graph, weights, tokens, states, configuration.

    The language model of the model that RUN began with is carried over.
    """
    from asr.cli.exits import complain
    from asr.cli.options import training_extra
    from asr.errors import UsageError

    with training_extra():
        from asr.acoustic.export import with_phone_scores, write_model_folder
        from asr.acoustic.folder import STATES
        from asr.acoustic.phone_states import Biphones
        from asr.lm.folder import copy_language_model
        from asr.training.checkpoint import averaged_model
        from asr.training.start import LANGUAGE_MODEL, Origin
        from asr.words.tokens import PHONES, TokenTable

    model = averaged_model(run)
    biphones = Biphones.read(run / STATES, TokenTable(PHONES)) if model.config.states else None
    origin = Origin.of(run)
    if biphones:
        if phone_share is None:
            kept = origin.phone_share if origin else None
            phone_share = DEFAULT_PHONE_SHARE if kept is None else kept
        model = with_phone_scores(model, biphones, phone_share)
    source: Path | None = run / LANGUAGE_MODEL
    if lm is not None:
        source = None if lm == "none" else Path(lm)
        if source is not None and not source.is_dir():
            raise UsageError(f"--lm {lm}: there is no such folder; give one that 'asr lm build' made, or none")
    write_model_folder(model, output, name or output.resolve().name, biphones=biphones)
    if source is not None and source.is_dir():
        copy_language_model(source, output / LANGUAGE_MODEL)
    elif lm is None and biphones and not (output / LANGUAGE_MODEL).is_dir():
        began = f"began with {origin.name}, which has none" if origin else "began with no model that has one"
        complain(
            f"{output} has no language model yet, since {run} {began}; without one it spells no words: "
            f"'asr lm build TEXT... --output {output / LANGUAGE_MODEL}', or copy that folder of another model"
        )
    print(output)
