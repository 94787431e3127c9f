"""`asr plot`: a picture of a recognition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import RecognitionOptions, grouped

SHOWN_SECONDS = 20.0


@grouped
def plot(
    audio: Annotated[Path, typer.Argument(help="A recording, any audio or video file.", show_default=False)],
    recognition: RecognitionOptions,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The picture, .png, .svg or .pdf. (default: AUDIO.png here)")
    ] = None,
    start: Annotated[float, typer.Option(help="First second to show.")] = 0.0,
    seconds: Annotated[float, typer.Option(help="Length to show, or the longest distance of --gradients.")] = (
        SHOWN_SECONDS
    ),
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Draw instead how far back the network's output depends on its input.")
    ] = False,
) -> None:
    """Draw AUDIO's waveform and mel energies, the words under them, and how probable each token was in each frame.

    With --gradients: the size of d output / d input against their distance in time, measured on AUDIO. Distances reach
    half of its length at most; a minute of speech is enough.
    """
    import math

    from asr.cli.options import training_extra
    from asr.errors import AudioError, UsageError

    if not (0 <= start < math.inf and 0 < seconds < math.inf):
        raise UsageError(f"--start must be 0 or more and --seconds positive, got {start:g} and {seconds:g}")
    picture = output or Path(f"{audio.stem}{'-gradients' if gradients else ''}.png")
    if picture.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--output {picture} must end in .png, .svg or .pdf")
    with training_extra():  # which has matplotlib, and torch for the mel energies
        import numpy as np

        from asr.evaluation.picture import draw_recognition
    if gradients:
        replace(recognition, model=None).check_alone("--gradients, which is of the network", start=start or None)
        _draw_gradients(audio, picture, recognition.model, seconds)
        return
    from asr.acoustic.folder import ModelPackage
    from asr.audio.files import AudioFile
    from asr.recognizer import Recognizer

    options = recognition.recognizer()
    package = ModelPackage.open(options.model)
    recognizer = Recognizer.open(options)
    with AudioFile(audio, recognizer.sample_rate) as file:
        samples = np.concatenate(list(file))
    length = len(samples) / recognizer.sample_rate
    if start >= length:
        raise AudioError(f"{audio}: lasts {length:.1f} s; --start {start:g} is after its end")
    result, log_probs = recognizer.trace(samples)
    symbols = package.phones if recognizer.decoder == "lm" else package.characters
    span = (start, min(length, start + seconds))
    try:
        draw_recognition(
            picture,
            audio.name,
            samples,
            result.words,
            np.exp(log_probs),
            symbols.symbols,
            package.rates.seconds(1),
            span,
        )
    except OSError as error:
        raise UsageError(f"--output {picture} cannot be written: {error.strerror}") from error
    print(picture)


def _draw_gradients(audio: Path, picture: Path, model: str | None, seconds: float) -> None:
    from asr.cli.options import training_extra

    with training_extra():
        import numpy as np
        import torch

        from asr.acoustic.export import load_acoustic_model
        from asr.evaluation.gradients import draw_gradients, measure_gradients
    from asr.acoustic.folder import DEFAULT_MODEL, ModelPackage
    from asr.audio.files import AudioFile
    from asr.errors import AudioError, UsageError

    package = ModelPackage.open(model or DEFAULT_MODEL)
    network = load_acoustic_model(package.folder)
    with AudioFile(audio, package.rates.sample_rate) as file:
        samples = np.concatenate(list(file))
    window = network.config.frontend.window_samples
    if len(samples) < window:
        raise AudioError(f"{audio}: is shorter than one analysis window ({window} samples)")
    with torch.inference_mode():
        mels = network.logmel(torch.from_numpy(samples)[None])[0]
    try:
        curve = measure_gradients(network, mels, min(seconds, len(samples) / package.rates.sample_rate / 2))
    except ValueError as error:
        raise AudioError(f"{audio}: {error}") from error
    try:
        draw_gradients(picture, f"{package.name}: output against past input, {audio.name}", {package.name: curve})
    except OSError as error:
        raise UsageError(f"--output {picture} cannot be written: {error.strerror}") from error
    print(picture)
