"""Word error rates by decoder, arithmetic, chunk length, acoustic condition and length of recording.

    python benchmarks/accuracy.py TABLE --noise NOISE.tar --rooms ROOMS.tar [--small-rooms] [--only CONDITION]...
        [--model NAME_OR_PATH] [--json FILE]

Streams every utterance of TABLE under each condition and prints a table, WER in percent pooled over words, by source.
Long recordings are the utterances of a speaker joined with half a second to a second and a half of room noise between.
With --small-rooms also in 100 small rooms, 1 to 3 m from the microphone (`small_rooms.py`; needs pyroomacoustics).
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soxr
from non_speech import recordings
from small_rooms import small_rooms

from asr import Recognizer
from asr.acoustic.folder import DEFAULT_MODEL
from asr.data.manifest import Utterance, load_audio, read_manifest
from asr.evaluation.score import Hypothesis, score
from asr.words.text import normalise

RATE = 16_000
SMALL_ROOMS = 100
CLEAN, LONG, SMALL = "as recorded", "long recordings", "small room, 1 to 3 m"
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def noisy(noises: list[np.ndarray], snr_db: float) -> Change:
    def change(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
        noise = noises[random.integers(len(noises))]
        piece = noise[(random.integers(len(noise)) + np.arange(len(samples))) % len(noise)]
        power = float(np.mean(piece**2)) or 1.0
        mixed = samples + piece * np.sqrt(np.mean(samples**2) / power / 10 ** (snr_db / 10))
        return (mixed / max(1.0, np.abs(mixed).max())).astype(np.float32)

    return change


def roomy(rooms: list[np.ndarray]) -> Change:
    def change(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
        room = rooms[random.integers(len(rooms))]
        size = len(samples) + len(room)
        wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(room, size), size)[: len(samples)]
        return (wet * np.abs(samples).max() / max(np.abs(wet).max(), 1e-9)).astype(np.float32)

    return change


def telephone(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    narrow = soxr.resample(samples, RATE, 8_000)
    spectrum = np.fft.rfft(narrow)
    spectrum[np.fft.rfftfreq(len(narrow), 1 / 8_000) < 300] = 0
    return soxr.resample(np.fft.irfft(spectrum, len(narrow)), 8_000, RATE).astype(np.float32)


def quiet(decibels: float) -> Change:
    """As a microphone with its gain down by so much gives it, in steps of 16 bits."""

    def change(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return (np.rint(samples * 10 ** (-decibels / 20) * 32_768) / 32_768).astype(np.float32)

    return change


def joined(
    pieces: list[tuple[Utterance, np.ndarray]], least_pause: float = 0.5, most_pause: float = 1.5
) -> Iterator[tuple[Utterance, np.ndarray]]:
    """One recording a speaker, with pauses (in seconds) as quiet as the quietest tenth of what is around them."""
    least, most = round(least_pause * RATE), round(most_pause * RATE)
    random = np.random.default_rng(0)
    for speaker in sorted({utterance.speaker for utterance, _ in pieces}):
        own = [(utterance, samples) for utterance, samples in pieces if utterance.speaker == speaker]
        parts = []
        for _, samples in own:
            frames = samples[: len(samples) // 400 * 400].reshape(-1, 400)
            level = np.quantile(np.sqrt((frames**2).mean(axis=1)), 0.1)
            parts += [samples, random.normal(0, level, random.integers(least, most)).astype(np.float32)]
        whole = np.concatenate(parts)
        text = " ".join(utterance.text for utterance, _ in own)
        first = own[0][0]
        yield Utterance(speaker, text, len(whole) / RATE, first.source, speaker, first.audio), whole


def run(recognizer: Recognizer, pieces: list[tuple[Utterance, np.ndarray]], chunk_ms: int) -> dict[str, float]:
    found = []
    for utterance, samples in pieces:
        text = normalise(recognizer.transcribe(samples, RATE, chunk_ms=chunk_ms).text)
        found.append(Hypothesis(utterance.id, utterance.source, utterance.text, text, utterance.seconds, 0.0))
    return {row.source: round(100 * row.word_error_rate, 1) for row in score(found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--noise", type=Path, required=True)
    parser.add_argument("--rooms", type=Path, required=True)
    parser.add_argument("--small-rooms", action="store_true")
    parser.add_argument("--only", action="append", metavar="CONDITION", help="may be repeated")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    clean = [(utterance, load_audio(utterance, RATE)) for utterance in read_manifest(options.table).utterances]
    noises, rooms = ([samples for _, samples in recordings(tar, RATE)] for tar in (options.noise, options.rooms))
    changes: dict[str, Change] = {f"noise at {snr} dB": noisy(noises, snr) for snr in (20, 10, 5)}
    changes |= {"room": roomy(rooms), "telephone band": telephone}
    changes |= {f"{level} dB quieter": quiet(level) for level in (30, 50)}
    if options.small_rooms:
        changes[SMALL] = roomy(list(small_rooms(SMALL_ROOMS, seed=0)))
    wanted = options.only or [CLEAN, *changes, LONG]
    if unknown := sorted({*wanted} - {CLEAN, *changes, LONG}):
        parser.error(f"there is no {unknown[0]}; give {', '.join((CLEAN, *changes, LONG))}")
    rows: list[dict[str, object]] = []

    def add(name: str, engine: str, decoder: str, chunk_ms: int, pieces: list) -> None:
        recognizer = Recognizer.load(options.model, engine=engine, decoder=decoder)
        rows.append(
            {
                "condition": name,
                "engine": engine,
                "decoder": decoder,
                "chunk_ms": chunk_ms,
                **run(recognizer, pieces, chunk_ms),
            }
        )
        print("| " + " | ".join(str(value) for value in rows[-1].values()) + " |", flush=True)

    sources = [*sorted({utterance.source for utterance, _ in clean}), "all"]
    print("| condition | engine | decoder | chunk ms | " + " | ".join(sources) + " |")
    print("|---" * (4 + len(sources)) + "|", flush=True)
    if CLEAN in wanted:
        for engine in ("onnx", "int8"):
            for decoder in ("greedy", "lm"):
                add(CLEAN, engine, decoder, 160, clean)
        for chunk_ms in (80, 320, 60_000):
            add(CLEAN, "int8", "lm", chunk_ms, clean)
    for name in [name for name in changes if name in wanted]:
        random = np.random.default_rng(0)
        pieces = [(utterance, changes[name](samples, random)) for utterance, samples in clean]
        add(name, "int8", "lm", 160, pieces)
    if LONG in wanted:
        add(LONG, "int8", "lm", 160, list(joined([piece for piece in clean if piece[0].source == "librispeech"])))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
