"""The command `asr`: its subcommands, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated

import typer

from asr.errors import RillError
from asr.version import installed_version

# In the order of the help.
COMMANDS = (
    "transcribe",
    "listen",
    "serve",
    "devices",
    "models",
    "lm",
    "align",
    "plot",
    "shar",
    "train",
    "tune",
    "evaluate",
    "export",
    "synthesise",
)
INTERRUPTED = 130  # as the shell counts a program ended by Ctrl-C

# Click's ClickException: what it raises for a wrong command line. Newer typers carry their own copy of click.
CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]


def build_app() -> typer.Typer:
    """The command line with every subcommand; imports their signatures only."""
    app = typer.Typer(
        name="asr",
        help="Live speech recognition on an ordinary CPU.",
        invoke_without_command=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def root(
        context: typer.Context,
        show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    ) -> None:
        if show_version:
            print(f"rill-asr {installed_version()}")
            raise typer.Exit
        if context.invoked_subcommand is None:
            print(context.get_help())

    for name in COMMANDS:
        command = getattr(import_module(f"asr.cli.{name}"), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def main() -> int:
    """Run the command line and return its exit status; only a bug of ours ends in a traceback."""
    try:
        status = build_app()(standalone_mode=False)
        sys.stdout.flush()
        return status if type(status) is int else 0
    except RillError as error:
        return complain(error, error.exit_code)
    except CommandLineError as error:
        return complain(f"{error.format_message()} See 'asr --help'.", 2)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that may not be written: the user's to mend
        return complain(f"{error.filename or 'input or output'}: {error.strerror or error}")


def complain(error: object, status: int = 1) -> int:
    """Print one line on stderr and return the status."""
    print("asr: " + " ".join(str(error).split()), file=sys.stderr)
    return status
