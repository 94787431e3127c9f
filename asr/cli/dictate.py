"""`asr dictate`: what is spoken is typed into the window that has the focus."""

from __future__ import annotations

import queue
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import EndpointOptions, RecognitionOptions, TextOptions, grouped

if TYPE_CHECKING:
    from asr.audio.microphone import InputDevice
    from asr.output.keyboard import Clipboard, Keyboard
    from asr.recognizer import Recognizer

WAIT_SECONDS = 0.2  # for an order, while nobody dictates


@grouped
def dictate(
    *,
    device: Annotated[
        str | None, typer.Option("--device", "-d", help="Index or part of the name of a microphone; see asr devices.")
    ] = None,
    type_with: Annotated[
        str, typer.Option(help="wtype, xdotool, ydotool or clipboard. (default: what is there)")
    ] = "auto",
    commands: Annotated[
        bool, typer.Option("--commands", help='Write "new line", "full stop", "comma" and others as what they name.')
    ] = False,
    paused: Annotated[bool, typer.Option("--paused", help="Wait for --order toggle or start.")] = False,
    order: Annotated[
        str | None,
        typer.Option(help="To the dictation that is running: toggle, start, stop, quit. Bind it to a key."),
    ] = None,
    recognition: RecognitionOptions,
    text: TextOptions,
    chunk_ms: Annotated[int, typer.Option(help="Audio given to the model at once.")] = 100,
    endpoints: EndpointOptions,
) -> None:
    """Type what is spoken into the window that has the focus, word by word, as soon as a word is certain.

    Nothing is erased again. For push-to-talk, start it once with --paused, and bind `asr dictate --order start` to the
    pressing of a key and `asr dictate --order stop` to its release, or `--order toggle` to one key. The microphone is
    open only while you dictate. Ctrl-C ends it.
    """
    from asr.audio.microphone import find_device
    from asr.cli.switch import ORDERS, Switch, can_be_switched, send
    from asr.errors import UsageError
    from asr.output.keyboard import find_keyboard
    from asr.recognizer import Recognizer, chunk_samples

    if order is not None:
        if order not in ORDERS:
            raise UsageError(f"unknown --order {order!r}; give {', '.join(ORDERS)}")
        try:
            send(order)
        except ConnectionError as error:
            raise UsageError(f"{error}; start one with 'asr dictate --paused'") from error
        return
    keyboard = find_keyboard(type_with)
    keyboard.check()
    options = recognition.recognizer(endpoint=endpoints.rule(), readable=text.readable)
    chunk_samples(chunk_ms, 16_000)
    microphone = find_device(device)
    orders: queue.Queue[str] = queue.Queue()
    with Switch(orders.put) if paused or can_be_switched() else nullcontext():
        session = Session(Recognizer.open(options), microphone, keyboard, commands, chunk_ms / 1_000)
        where = f"{microphone.name}, typing by {keyboard.name}"
        print(f"dictating from {where}; Ctrl-C ends it", file=sys.stderr, flush=True)
        session.run(orders, active=not paused)


class Session:
    """Dictations one after the other, as orders come."""

    def __init__(
        self,
        recognizer: Recognizer,
        device: InputDevice,
        keyboard: Keyboard | Clipboard,
        commands: bool,
        chunk_seconds: float,
    ) -> None:
        self._recognizer = recognizer
        self._device = device
        self._keyboard = keyboard
        self._commands = commands
        self._chunk_seconds = chunk_seconds

    def run(self, orders: queue.Queue[str], active: bool) -> None:
        """Dictate and wait by turns until the order ``quit`` or Ctrl-C; the last words are typed whatever ends it."""
        from asr.interrupt import deferred_interrupt

        with deferred_interrupt() as asked_to_end:
            while not asked_to_end():
                if active:
                    print("dictation is on", file=sys.stderr, flush=True)
                    order = self._dictate(orders, asked_to_end)
                    print("dictation is off", file=sys.stderr, flush=True)
                else:
                    try:
                        order = orders.get(timeout=WAIT_SECONDS)
                    except queue.Empty:
                        continue
                if order == "quit":
                    return
                active = order == "start" or (order == "toggle" and not active)

    def _dictate(self, orders: queue.Queue[str], asked_to_end: Callable[[], bool]) -> str:
        """Type what is said until an order other than ``start`` comes, and return it."""
        from asr.audio.microphone import Microphone
        from asr.output.dictation import Dictation

        dictation = Dictation(self._commands)
        state = self._recognizer.start()
        order = "stop"
        with Microphone(self._device, self._recognizer.sample_rate) as microphone:
            while not asked_to_end():
                try:
                    if (order := orders.get_nowait()) != "start":
                        break
                except queue.Empty:
                    order = "stop"
                samples = microphone.read(self._chunk_seconds, asked_to_end)
                results, state = self._recognizer.step(state, samples)
                self._type(dictation.add(results))
            results, state = self._recognizer.step(state, microphone.close())
            self._type(dictation.add(results))
        results, _ = self._recognizer.finish(state)
        self._type(dictation.add(results) + dictation.finish())
        return order

    def _type(self, text: str) -> None:
        if text:
            self._keyboard.write(text)
