"""The command line of `asr`: its subcommands."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer

import asr

# Name and module, in the order of the help.
COMMANDS = {
    "transcribe": "transcribe",
    "listen": "listen",
    "dictate": "dictate",
    "serve": "serve",
    "mcp": "mcp_server",
    "devices": "lists",
    "models": "models",
    "doctor": "doctor",
    "lm": "lm",
    "align": "align",
    "plot": "plot",
    "import": "import_table",
    "shar": "shar",
    "train": "train",
    "train-punctuation": "train_punctuation",
    "tune": "tune",
    "evaluate": "evaluate",
    "export": "export",
    "synthesise": "synthesise",
}

# Click's ClickException: what it raises for a wrong command line. Newer typers carry their own copy of click.
CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]
Abort = typer.Abort


def build_app(*wanted: str) -> typer.Typer:
    """The command line; imports the signatures of its subcommands only.

    With the words of a command line that begins with a subcommand it has that one alone, which saves the time of
    building the others.
    """
    app = typer.Typer(
        name="asr",
        help="Live speech recognition on an ordinary CPU.",
        invoke_without_command=True,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def root(
        context: typer.Context,
        show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    ) -> None:
        if show_version:
            print(f"rill-asr {asr.__version__}")
            raise typer.Exit
        if context.invoked_subcommand is None:
            print(context.get_help())

    chosen = {wanted[0]: COMMANDS[wanted[0]]} if wanted and wanted[0] in COMMANDS else COMMANDS
    for name, module in chosen.items():
        function = "import_table" if name == "import" else name.replace("-", "_")
        command = getattr(import_module(f"asr.cli.{module}"), function)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def usage(error: Any) -> str:
    """A wrong command line in one line, with the usage of the command that it is about."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is None:
        return f"{message} See 'asr --help'."
    return f"{message} {context.get_usage()}; see '{context.command_path} --help'"
