"""Responses of small rooms with the speaker 1 to 3 m from the microphone, computed and the same for the same seed.

    python benchmarks/small_rooms.py FOLDER [--count 100] [--seed 0]

Writes WAV files that `asr train --rooms FOLDER` takes; `accuracy.py` computes its own (seed 0). Recorded responses that
are free are of halls for the most part; dictation, meetings and voice assistants are heard in rooms like these. The
walls of each room absorb as much as its reverberation time asks for by Sabine's formula. The image method (Allen &
Berkley 1979) by pyroomacoustics (`pip install pyroomacoustics`), images displaced by up to 8 cm against the sweeping
echoes of perfect boxes (De Sena et al. 2015).
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

RATE = 16_000
LEAST_SIZE, MOST_SIZE = (2.5, 2.5, 2.3), (7.0, 6.0, 3.2)  # metres
RT60_SECONDS = 0.2, 0.5
DISTANCE = 1.0, 3.0  # metres between mouth and microphone
MOUTH, MICROPHONE = (1.1, 1.8), (0.7, 1.5)  # metres above the floor: people sit and stand, microphones lie on tables
FROM_WALLS = 0.4  # metres
TRIES = 1_000  # places in a room before another room is drawn
MOST_ORDER = 60  # reflections of an image


def small_rooms(count: int, seed: int) -> Iterator[np.ndarray]:
    """(N,) float32 responses at 16 kHz, from the direct path on."""
    import pyroomacoustics as rooms

    rooms.constants.set("num_threads", 1)  # the order in which threads add up rounds differently
    random = np.random.default_rng(seed)
    for number in range(count):
        size, mouth, microphone = _places(random)
        absorption, order = _walls(rooms, random, size)
        rooms.random.seed(seed * 100_003 + number)
        room = rooms.ShoeBox(
            size,
            fs=RATE,
            materials=rooms.Material(absorption),
            max_order=min(order, MOST_ORDER),
            use_rand_ism=True,
        )
        room.add_source(mouth)
        room.add_microphone(microphone)
        room.compute_rir()
        direct = np.linalg.norm(mouth - microphone) / rooms.constants.get("c") * RATE
        direct += rooms.constants.get("frac_delay_length") // 2  # by which pyroomacoustics has all paths late
        yield room.rir[0][0][int(direct) :].astype(np.float32)


def _places(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Size of a room, and where the mouth and the microphone are, (3,) metres each."""
    while True:
        size = random.uniform(LEAST_SIZE, MOST_SIZE)
        distance = random.uniform(*DISTANCE)
        for _ in range(TRIES):
            mouth, microphone = (
                np.array([*random.uniform(FROM_WALLS, size[:2] - FROM_WALLS), random.uniform(*heights)])
                for heights in (MOUTH, MICROPHONE)
            )
            if abs(np.linalg.norm(mouth - microphone) - distance) < 0.05:
                return size, mouth, microphone


def _walls(rooms, random: np.random.Generator, size: np.ndarray) -> tuple[float, int]:
    """Absorption of energy, and the order of reflections that reaches as long as the reverberation."""
    while True:
        try:
            return rooms.inverse_sabine(random.uniform(*RT60_SECONDS), size)
        except ValueError:  # so short a time is impossible in this room
            continue


def main() -> None:
    import soundfile

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for number, response in enumerate(small_rooms(options.count, options.seed)):
        scaled = response / np.abs(response).max()
        soundfile.write(options.folder / f"small-{options.seed}-{number:04}.wav", scaled, RATE, subtype="PCM_16")


if __name__ == "__main__":
    main()
