"""Recordings that can be played whatever becomes of the one who writes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asr.audio.files import AudioFile
from asr.audio.recording import SoundFile
from asr.errors import UsageError

RATE = 16_000
SECOND = (0.5 * np.sin(np.arange(RATE) / 20)).astype(np.float32)


def read(path: Path) -> np.ndarray:
    with AudioFile(path, RATE) as audio:
        samples = np.concatenate(list(audio))
        assert audio.damage is None
    return samples


@pytest.mark.parametrize("name", ["a.wav", "a.FLAC"])
def test_what_is_written_is_what_is_read(tmp_path: Path, name: str) -> None:
    with SoundFile(tmp_path / name, RATE) as file:
        for chunk in np.array_split(SECOND, [1, 2, 777, 5_000, 5_000, 15_000]):
            file.write(chunk)
        file.write(np.array([3.0, -3.0], np.float32))
    samples = read(tmp_path / name)
    assert samples[:-2] == pytest.approx(SECOND, abs=1e-4)
    assert samples[-2:] == pytest.approx([1.0, -1.0], abs=1e-4)


@pytest.mark.parametrize(("name", "may_lack"), [("a.wav", 0), ("a.flac", 4_096)])
def test_a_killed_writer_leaves_what_it_wrote(tmp_path: Path, name: str, may_lack: int) -> None:
    code = f"""
import os
from pathlib import Path
import numpy as np
from asr.audio.recording import SoundFile
file = SoundFile(Path({str(tmp_path / name)!r}), {RATE})
for chunk in np.array_split((0.5 * np.sin(np.arange({RATE}) / 20)).astype(np.float32), 40):
    file.write(chunk)
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    samples = read(tmp_path / name)
    assert RATE - may_lack <= len(samples) <= RATE
    assert samples == pytest.approx(SECOND[: len(samples)], abs=1e-4)


def test_places_where_nothing_can_be_written_are_told(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "a.mp3", "does not end in"), (tmp_path / "no" / "a.wav", "No such file")):
        with pytest.raises(UsageError, match=said):
            SoundFile(path, RATE)
