"""Options that several commands take, in groups: which model recognises and how, where utterances end, a server."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from asr.decoding.rescoring import Rescoring
    from asr.recognizer_options import RecognizerOptions
    from asr.streaming.endpoint import EndpointRule

Model = Annotated[str | None, typer.Option("--model", help="A shipped model (see asr models) or a model folder.")]
LanguageModelFolder = Annotated[Path | None, typer.Option("--lm", help="Another language model, from asr lm build.")]
AlignWith = Annotated[
    str | None,
    typer.Option(
        "--align-with",
        metavar="MODEL",
        help="Learn states from alignments by this model; none: CTC alone, from scratch. (default: the shipped one)",
    ),
]
FullContext = Annotated[
    bool, typer.Option("--full-context", help="A bidirectional model (blstm) sees the whole recording at once.")
]


@dataclass(frozen=True)
class RecognitionOptions:
    """Which model recognises, and how."""

    model: Model = None
    engine: Annotated[str, typer.Option(help="int8, onnx (slower; exact for any chunks), or torch.")] = "int8"
    decoder: Annotated[str | None, typer.Option(help="lm, or greedy. (default: lm if there is a language model)")] = (
        None
    )
    lm: LanguageModelFolder = None
    rescore: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER|none",
            help="An LSTM language model, from asr lm train-lstm, to rescore words with. (default: the language "
            "model's own)",
        ),
    ] = None
    rescore_weight: Annotated[
        float | None, typer.Option(help="Its weight against the n-gram model's, 0 to 1. (default: 0.6)")
    ] = None
    rescore_alone: Annotated[
        bool, typer.Option("--rescore-alone", help="Let it forget the utterances before each.")
    ] = False
    hotwords: Annotated[
        str | None,
        typer.Option(metavar="FILE|WORDS", help="Words and phrases to expect: 'a, b:2.5', or a file, one per line."),
    ] = None
    grammar: Annotated[Path | None, typer.Option(help="A file that lists all sentences that can be recognised.")] = None

    def recognizer(self, **more: Any) -> RecognizerOptions:
        """What a recogniser is made of, with ``more`` fields; raises UsageError for what cannot be used together."""
        from asr.acoustic.folder import DEFAULT_MODEL
        from asr.recognizer_options import RecognizerOptions

        return RecognizerOptions(
            model=self.model or DEFAULT_MODEL,
            engine=self.engine,
            decoder=self.decoder,
            lm=self.lm,
            hotwords=self.hotwords,
            grammar=self.grammar,
            rescoring=self.rescoring(),
            **more,
        )

    def rescoring(self) -> Rescoring | bool | None:
        """How words are rescored; raises UsageError for a weight out of range or what cannot be used together."""
        from asr.decoding.rescoring import Rescoring
        from asr.errors import UsageError

        chosen = self.rescore_weight is not None or self.rescore_alone
        if self.rescore is not None and str(self.rescore) == "none":
            if chosen:
                raise UsageError("--rescore-weight and --rescore-alone say how to rescore; leave out --rescore none")
            return False
        if self.rescore is None and not chosen:
            return None
        weight = {} if self.rescore_weight is None else {"weight": self.rescore_weight}
        return Rescoring(self.rescore, carry=not self.rescore_alone, **weight)

    def check_alone(self, what: str, **more: object) -> None:
        """Raise UsageError if any of these options, or of ``more``, is given: ``what`` replaces them."""
        from asr.errors import UsageError

        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        values |= {name: (value, value if value is None else False) for name, value in more.items()}
        given = [f"--{name.replace('_', '-')}" for name, (value, default) in values.items() if value != default]
        if given:
            raise UsageError(f"{' and '.join(given)} cannot be chosen with {what}; leave one out")


@dataclass(frozen=True)
class TextOptions:
    """How text is written."""

    plain: Annotated[
        bool, typer.Option("--plain", help="Write words as they are spoken: no marks, no capitals, numbers as words.")
    ] = False
    punctuation: Annotated[
        Path | None, typer.Option(help="Another model of marks and capitals, from asr train-punctuation.")
    ] = None
    pretty: Annotated[bool, typer.Option("--pretty", hidden=True)] = False

    @property
    def readable(self) -> bool | Path:
        """For `RecognizerOptions`; raises UsageError for what cannot be used together."""
        from asr.cli.exits import complain
        from asr.errors import UsageError

        if self.plain and (self.punctuation is not None or self.pretty):
            other = "--pretty" if self.pretty else "--punctuation"
            raise UsageError(f"--plain has no marks, and {other} asks for them; leave one out")
        if self.pretty:
            complain("--pretty is no longer needed: text is for readers unless --plain is given")
        return self.punctuation or not self.plain

    @property
    def of_server(self) -> bool | None:
        """For `Client`: None leaves it to the server. Raises UsageError where a server cannot do it."""
        from asr.errors import UsageError

        if self.punctuation is not None:
            raise UsageError("--punctuation cannot be chosen with --server, which has its own; leave one out")
        return False if self.plain else None


@dataclass(frozen=True)
class EndpointOptions:
    """When an utterance of a live stream is over."""

    end_silence: Annotated[
        float | None, typer.Option(help="Seconds of silence that end an utterance. (default: 1)")
    ] = None
    end_sentence: Annotated[
        float | None, typer.Option(help="Seconds of silence that do where a sentence may end. (default: 0.6)")
    ] = None
    lead_silence: Annotated[
        float | None, typer.Option(help="Seconds of silence after which the search is restarted. (default: 10)")
    ] = None
    longest: Annotated[float | None, typer.Option(help="Seconds after which an utterance is cut. (default: 30)")] = None
    forget: Annotated[
        bool | None,
        typer.Option(
            "--forget/--remember", help="Whether the network is reset where an utterance ends. (default: remember)"
        ),
    ] = None

    @property
    def given(self) -> bool:
        """Whether any of them is."""
        return any(getattr(self, field.name) is not None for field in fields(self))

    def rule(self) -> EndpointRule:
        """The rule that they make; raises UsageError for lengths out of range."""
        import math

        from asr.errors import UsageError
        from asr.streaming.endpoint import EndpointRule

        for field in fields(self):
            seconds = getattr(self, field.name)
            if field.name != "forget" and seconds is not None and not (0 < seconds < math.inf):
                name = field.name.replace("_", "-")
                raise UsageError(f"--{name} must be a positive number of seconds, got {seconds:g}")
        usual = EndpointRule()
        silence = self.end_silence or usual.silence_seconds
        longest = self.longest or usual.longest_seconds
        return EndpointRule(
            silence_seconds=silence,
            complete_seconds=self.end_sentence or usual.complete_seconds,
            lead_seconds=self.lead_silence or usual.lead_seconds,
            longest_seconds=longest,
            long_seconds=min(usual.long_seconds, longest),
            pause_seconds=min(usual.pause_seconds, silence),
            reset=usual.reset if self.forget is None else self.forget,
        )


@dataclass(frozen=True)
class RemoteOptions:
    """A server that recognises in place of this machine."""

    server: Annotated[str | None, typer.Option(help="Have a Rill server recognise, such as http://127.0.0.1:8000.")] = (
        None
    )
    api_key: Annotated[str | None, typer.Option(help="Its API key. (default: $RILL_API_KEY)")] = None

    def check(self, recognition: RecognitionOptions, **more: object) -> None:
        """Raise UsageError for options that do not go with a server, which has a model of its own, or without one."""
        from asr.errors import UsageError

        if self.server is not None:
            recognition.check_alone("--server, which has its own", **more)
        elif self.api_key is not None:
            raise UsageError("--api-key goes with --server; give the server's address too")


def grouped(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command take groups of options: a parameter whose type is a dataclass becomes options of its fields."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type] = {}
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if is_dataclass(kind):
            groups[parameter.name] = kind
            types = get_type_hints(kind, include_extras=True)
            parameters += [
                parameter.replace(name=field.name, annotation=types[field.name], default=field.default)
                for field in fields(kind)
            ]
        else:
            parameters.append(parameter.replace(annotation=kind))

    @functools.wraps(command)
    def flat(**values: Any) -> Any:
        made = {
            name: kind(**{field.name: values.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        return command(**values, **made)

    keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    flat.__signature__ = inspect.Signature(keyword)
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat


@contextmanager
def training_extra() -> Iterator[None]:
    """Turn a missing library, imported inside, into one line that says how to install it."""
    with _extra("train"):
        yield


@contextmanager
def import_extra() -> Iterator[None]:
    """The same for `asr import`."""
    with _extra("import"):
        yield


@contextmanager
def _extra(name: str) -> Iterator[None]:
    from asr.errors import UsageError, how_to_install

    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"this command needs {error.name}; {how_to_install(name)}") from error
