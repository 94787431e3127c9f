"""How commands end: exit statuses, errors in one line, signals, standard streams that are missing or broken."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from asr.errors import OutputError, RillWarning

INTERRUPTED = 130  # as a shell counts a program that Ctrl-C ended
AGAIN_SECONDS = 0.02
ENDING_SIGNALS = ("SIGTERM", "SIGHUP")  # by name: Windows has no SIGHUP


class Ended(BaseException):
    """A signal that asks the process to end has come. On its way up everything that is open is closed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number  # as a shell counts it


def complain(error: object, status: int = 1) -> int:
    """Print one line on stderr, if there is one, and return the status."""
    with suppress(OSError, ValueError):
        print("asr: " + " ".join(str(error).split()), file=sys.stderr, flush=True)
    return status


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print our own warnings as one line each, without the place in the code that a programmer would want."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", RillWarning)
        before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, RillWarning):
                complain(message)
            else:
                before(message, category, *place, **more)

        warnings.showwarning = show
        yield


def open_missing_streams() -> None:
    """Let standard streams that the process was started without read nothing and write nowhere.

    Their numbers are taken too, so that no file opened later is written to by what prints.
    """
    with suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(number, True)
        os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace" if name == "stdout" else "backslashreplace")


def flush_stdout() -> None:
    """Write what is left to write.

    Raises:
        OutputError: it cannot be written, for another reason than that its reader has ended.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence_stdout()
        raise OutputError(f"standard output: {error.strerror or error}") from error


def silence_stdout() -> None:
    """Send what is still to be flushed nowhere: stdout has been closed by its reader, or is full."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _send(process: int, number: int) -> None:
    """Send a signal to our own process from any thread, so that it comes to the main one."""
    if sys.platform == "win32":  # where os.kill ends the process at once
        import _thread

        _thread.interrupt_main(number)
    else:
        os.kill(process, number)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise `Ended` in the main thread at SIGTERM and SIGHUP, so that temporary files are removed.

    A second signal, and one that comes to a forked process, ends the process as usual. An exception of these, or of
    Ctrl-C, that a library swallows (PyAV does, where it calls Python) is raised again a moment later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != process:
            signal.raise_signal(number)
        raise Ended(number)

    def again(error: BaseException) -> None:
        number = int(signal.SIGINT)
        if isinstance(error, Ended):
            number = error.status - 128
            signal.signal(number, end)
        threading.Timer(AGAIN_SECONDS, _send, (process, number)).start()

    def swallowed(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, Ended | KeyboardInterrupt):
            again(unraisable.exc_value)
        else:
            before[0](unraisable)

    def printed(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:  # Cython prints what it swallows
        if not issubclass(kind, Ended | KeyboardInterrupt):
            before[1](kind, error, traceback)

    numbers = [getattr(signal, name) for name in ENDING_SIGNALS if hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]  # nohup ignores SIGHUP
    before = sys.unraisablehook, sys.excepthook
    for number in ours:
        signal.signal(number, end)
    sys.unraisablehook, sys.excepthook = swallowed, printed
    try:
        yield
    finally:
        sys.unraisablehook, sys.excepthook = before
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
