"""Options that several commands take: which model recognises, and how."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from asr.decoding.rescoring import Rescoring
    from asr.streaming.endpoint import EndpointRule

Model = Annotated[str | None, typer.Option("--model", help="A shipped model (see asr models) or a model folder.")]
EngineName = Annotated[str, typer.Option("--engine", help="onnx, int8 (faster), or torch.")]
DecoderName = Annotated[
    str | None, typer.Option("--decoder", help="lm, or greedy. [default: lm if there is a language model]")
]
LanguageModelFolder = Annotated[Path | None, typer.Option("--lm", help="Another language model, from asr lm build.")]
Hotwords = Annotated[
    str | None,
    typer.Option(metavar="FILE|WORDS", help="Words and phrases to expect: 'a, b:2.5', or a file with one a line."),
]
GrammarFile = Annotated[
    Path | None, typer.Option("--grammar", help="A file that says what may be said; nothing else is recognised.")
]
Rescore = Annotated[
    Path | None, typer.Option("--rescore", help="An LSTM language model, from asr lm train-lstm, to weigh finals with.")
]
RescoreWeight = Annotated[float | None, typer.Option(help="Its part beside the n-gram model's, 0 to 1. [default: 0.3]")]
RescoreBest = Annotated[int | None, typer.Option(help="Likeliest sentences that it weighs. [default: 100]")]
RescoreAlone = Annotated[
    bool, typer.Option("--rescore-alone", help="Weigh each utterance as if nothing had been said before it.")
]
AlignWith = Annotated[
    str | None,
    typer.Option(
        "--align-with",
        metavar="MODEL",
        help="Learn states from alignments by this model; none: CTC alone, from scratch. [default: the shipped one]",
    ),
]
Pretty = Annotated[bool, typer.Option("--pretty", help="Write capitals, full stops and figures.")]
FullContext = Annotated[
    bool,
    typer.Option("--full-context", help="Let a bidirectional model (blstm) hear a recording whole before it writes."),
]
Server = Annotated[
    str | None, typer.Option("--server", help="Let a Rill server recognise, such as http://127.0.0.1:8000.")
]
ApiKey = Annotated[str | None, typer.Option("--api-key", help="Its key, if it wants one. [default: $RILL_API_KEY]")]
EndSilence = Annotated[
    float | None, typer.Option("--end-silence", help="Seconds of silence that end an utterance. [default: 1]")
]
EndSentence = Annotated[
    float | None,
    typer.Option("--end-sentence", help="Seconds of silence that do where a sentence may end. [default: 0.6]"),
]
LeadSilence = Annotated[
    float | None,
    typer.Option("--lead-silence", help="Seconds of silence after which the search begins anew. [default: 10]"),
]
Longest = Annotated[
    float | None, typer.Option("--longest", help="Seconds after which an utterance is cut. [default: 30]")
]
Forget = Annotated[
    bool | None,
    typer.Option(
        "--forget/--remember",
        help="Whether the network forgets what it has heard when an utterance ends. [default: remember]",
    ),
]


def endpoint_rule(
    end_silence: float | None,
    end_sentence: float | None,
    lead_silence: float | None,
    longest: float | None,
    forget: bool | None,
) -> EndpointRule:
    """The rule that options ask for; raises UsageError for lengths that make no sense."""
    import math

    from asr.errors import UsageError
    from asr.streaming.endpoint import EndpointRule

    given = {
        "--end-silence": end_silence,
        "--end-sentence": end_sentence,
        "--lead-silence": lead_silence,
        "--longest": longest,
    }
    for name, seconds in given.items():
        if seconds is not None and not (0 < seconds < math.inf):
            raise UsageError(f"{name} must be a positive number of seconds, got {seconds:g}")
    usual = EndpointRule()
    silence = end_silence or usual.silence_seconds
    longest = longest or usual.longest_seconds
    return EndpointRule(
        silence_seconds=silence,
        complete_seconds=end_sentence or usual.complete_seconds,
        lead_seconds=lead_silence or usual.lead_seconds,
        longest_seconds=longest,
        long_seconds=min(usual.long_seconds, longest),
        pause_seconds=min(usual.pause_seconds, silence),
        reset=usual.reset if forget is None else forget,
    )


def rescoring(folder: Path | None, weight: float | None, best: int | None, alone: bool) -> Rescoring | None:
    """How options ask for finals to be rescored, if they do; raises UsageError for numbers that make no sense."""
    from asr.decoding.rescoring import Rescoring
    from asr.errors import UsageError

    given = {"weight": weight, "hypotheses": best}
    if folder is None:
        if alone or any(value is not None for value in given.values()):
            raise UsageError("--rescore-weight, --rescore-best and --rescore-alone go with --rescore FOLDER")
        return None
    return Rescoring(folder, carry=not alone, **{name: value for name, value in given.items() if value is not None})


def check_server_options(server: str | None, api_key: str | None, **local: object) -> None:
    """Raise UsageError for options that do not go together: a server has a model of its own, and ``local`` options."""
    from asr.errors import UsageError

    given = [f"--{name.replace('_', '-')}" for name, value in local.items() if value not in (None, False, "onnx")]
    if server is not None and given:
        raise UsageError(f"{' and '.join(given)} cannot be chosen with --server, which has its own; leave one out")
    if server is None and api_key is not None:
        raise UsageError("--api-key goes with --server; give the server's address too")
