"""Live recognition of a source, or of several side by side: chunks are saved, recognised and shown until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from asr.audio.microphone import Microphone
    from asr.audio.recording import SoundFile
    from asr.output.captions import Captions, Status
    from asr.recognizer import Recognizer
    from asr.resuming import ResumingStream
    from asr.streaming.results import Result

LAG_SECONDS = 2.0  # of audio waiting from which the user is warned


class LocalStream:
    """A live stream recognised here, with the methods of one on a server."""

    local = True

    def __init__(self, recognizer: Recognizer) -> None:
        self.sample_rate = recognizer.sample_rate
        self._recognizer = recognizer
        self._state = recognizer.start()

    @property
    def samples(self) -> int:
        """Samples recognised."""
        return self._state.samples

    def accept(self, samples: np.ndarray) -> tuple[Result, ...]:
        results, self._state = self._recognizer.step(self._state, samples)
        return results

    def finish(self) -> Iterator[Result]:
        results, self._state = self._recognizer.finish(self._state)
        yield from results


class Session:
    """Chunks of a microphone: saved, recognised, shown; with warnings where recognition is too slow."""

    def __init__(
        self,
        stream: LocalStream | ResumingStream,
        microphone: Microphone,
        captions: Captions,
        sound: SoundFile | None,
        speaker: str = "",
    ) -> None:
        """Listen to a microphone.

        Args:
            stream: recognises it.
            microphone: open.
            captions: where the words go.
            sound: the file for what is heard.
            speaker: whose words they are, where there are several sources.
        """
        self._speaker = speaker
        self._stream = stream
        self._microphone = microphone
        self._captions = captions
        self._sound = sound
        self._computing_seconds = 0.0
        self._lost_seconds = 0.0  # that the user was warned of
        self._late = False  # that the user was warned of

    @property
    def overflows(self) -> int:
        """Times that the sound system lost audio."""
        return self._microphone.overflows

    def goes_on(self, seconds: float | None) -> bool:
        """Whether less than these seconds have been recognised."""
        return seconds is None or self._stream.samples < seconds * self._stream.sample_rate

    def skip(self, seconds: float) -> None:
        """Begin with this much silence, so that times are those of a source that was opened earlier."""
        import numpy as np

        self._stream.accept(np.zeros(round(seconds * self._stream.sample_rate), np.float32))

    def read(self, seconds: float, enough: Callable[[], bool]) -> None:
        """Recognise what comes next, as `Microphone.read` gives it."""
        self.accept(self._microphone.read(seconds, enough))

    def accept(self, samples: np.ndarray) -> None:
        """Recognise a chunk; raises OutputError when it cannot be saved, once it is recognised."""
        from asr.errors import OutputError

        problem: OSError | None = None
        try:
            if self._sound is not None:
                self._sound.write(samples)
        except OSError as error:
            self._sound, problem = None, error
        begun = time.perf_counter()
        results = self._stream.accept(samples)
        spent = time.perf_counter() - begun
        self._computing_seconds += spent
        status = self._status(samples, spent)
        self._captions.show(results, status, self._speaker)
        self._warn(status)
        if problem is not None:
            raise OutputError(f"--save-audio: cannot be written any more: {problem.strerror}") from problem

    def finish(self, seconds: float | None, failed: bool) -> None:
        """Recognise what is left, up to these seconds of the whole unless recording failed; show the last words."""
        import numpy as np

        rest = np.zeros(0, np.float32) if failed else self._microphone.close()
        if seconds is not None:
            rest = rest[: max(0, round(seconds * self._stream.sample_rate) - self._stream.samples)]
        self.accept(rest)
        status = self._status(rest, 0.0)
        for result in self._stream.finish():
            self._captions.show((result,), status, self._speaker)

    def _warn(self, status: Status) -> None:
        from asr.cli.exits import complain

        if status.lost_seconds > self._lost_seconds:
            self._lost_seconds = status.lost_seconds
            complain(f"too slow: {self._lost_seconds:.1f} s of audio lost so far")
        if self._late != (status.waiting_seconds > (0.0 if self._late else LAG_SECONDS)):
            self._late = not self._late
            if self._late:
                waiting = f"{status.waiting_seconds:.1f} s of audio wait"
                complain(f"too slow: {waiting}; catching up, nothing is lost yet")

    def _status(self, samples: np.ndarray, spent: float) -> Status:
        import numpy as np

        from asr.output.captions import Status

        seconds = self._stream.samples / self._stream.sample_rate
        waiting = self._microphone.waiting_seconds
        return Status(
            heard_seconds=seconds,
            level_db=20 * np.log10(max(1e-5, float(np.abs(samples).max(initial=0.0)))),
            waiting_seconds=waiting,
            delay_seconds=len(samples) / self._stream.sample_rate + spent + waiting,
            real_time_factor=self._computing_seconds / max(seconds, 1e-9) if self._stream.local else None,
            lost_seconds=self._microphone.lost_seconds,
            overflows=self._microphone.overflows,
        )


def listen_to(sessions: Sequence[Session], chunk_seconds: float, seconds: float | None) -> None:
    """Recognise sources until Ctrl-C, or for so many seconds; the last words are shown whatever ends it.

    Raises:
        AudioError: a microphone is gone.
        OutputError: what was heard cannot be saved any more.
    """
    from asr.cli.exits import complain
    from asr.errors import AudioError, OutputError
    from asr.interrupt import deferred_interrupt

    failure: AudioError | OutputError | None = None
    with deferred_interrupt() as asked_to_end:
        try:
            while not asked_to_end() and any(session.goes_on(seconds) for session in sessions):
                for session in sessions:  # all of them are recorded meanwhile
                    session.read(chunk_seconds, asked_to_end)
        except (AudioError, OutputError) as error:  # what was said before is still to be written
            failure = error
    for session in sessions:
        session.finish(seconds, failed=failure is not None)
    if failure is not None:
        raise failure
    for session in sessions:
        if session.overflows:
            complain(f"PortAudio lost audio {session.overflows} times")
