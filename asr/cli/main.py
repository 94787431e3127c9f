"""The entry point of the command `asr`: runs it, and turns every error of a user into one line and an exit status."""

from __future__ import annotations

import atexit
import gc
import os
import sys

from asr.cli.exits import (
    INTERRUPTED,
    Ended,
    complain,
    ended_by_signals,
    flush_stdout,
    open_missing_streams,
    silence_stdout,
    warnings_as_lines,
)
from asr.errors import RillError


def main() -> int:
    """Run the command line and return its exit status; only a bug of ours ends in a traceback."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's products are small: threads would wait for each other
    atexit.register(gc.freeze)  # what lives until the end need not be looked through once more
    try:
        open_missing_streams()
        with ended_by_signals(), warnings_as_lines():
            return _run()
    except Ended as signal:
        return signal.status
    except KeyboardInterrupt:
        return INTERRUPTED


def _run() -> int:
    # Not at the top: Ctrl-C may come while it is loaded.
    from asr.cli.app import Abort, CommandLineError, build_app, usage

    try:
        status = build_app(*sys.argv[1:])(prog_name="asr", standalone_mode=False)
        flush_stdout()
        return status if type(status) is int else 0
    except RillError as error:
        return complain(error, error.exit_code)
    except CommandLineError as error:
        return complain(usage(error), 2)
    except Abort:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as head, has ended
        silence_stdout()
        return 1
    except OSError as error:  # a full disk, a folder without permission: for the user to repair
        return complain(f"{error.filename or 'input or output'}: {error.strerror or error}")
