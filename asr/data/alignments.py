"""Forced alignments of a whole manifest by a model, kept on disk: a JSON line per utterance, appended batch by batch.

The first line is `{"format": 2, "model": identity}`. An utterance is `{"id", "text", "mismatch", "phones": "<blank> M
AE ...", "ends": [13, 31, ...], "words": [-1, 0, 0, ...]}`, run by run as in `asr.acoustic.forced_alignment.Alignment`;
or `{"id", "text", "failure"}`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from asr.acoustic.folder import ModelPackage
from asr.acoustic.forced_alignment import (
    Alignment,
    PronunciationGraph,
    align_batch,
    batches_by_length,
    ctc_scores,
    ctc_states,
)
from asr.acoustic.phone_states import Biphones
from asr.acoustic.precision import supports_bfloat16
from asr.data.manifest import Manifest, Utterance, load_audio
from asr.errors import DataError, RillError, UsageError
from asr.words.tokens import PHONES, TokenTable

if TYPE_CHECKING:
    from asr.models.acoustic import AcousticModel
    from asr.words.letter_to_sound import Pronunciation

FILE_NAME = "alignments.jsonl"
STORE_VERSION = 2  # 1 held PocketSphinx's alignments
BATCH_FRAMES = {"cpu": 2_000, "cuda": 150_000}  # acoustic frames, with padding, that are aligned at once
# A transcript of something else raises the mismatch of clear speech by three nats and that of strong accents by one;
# within a source right transcripts keep within a few times the distance from the median to the upper quartile.
SPREADS = 4.0
LEAST_SPREAD = 0.02  # nats
WORST_MISMATCH = 2.0  # whatever is usual in a source
LEAST_OF_SOURCE = 20  # utterances; a smaller source is judged by all utterances together
FULL_SCALE = 32_768.0  # of int16 samples
_PHONES = TokenTable(PHONES)


class PhoneAligner:
    """Aligns utterances by the states that a network predicts, or by its CTC phones where it has no states."""

    def __init__(
        self,
        network: AcousticModel,
        biphones: Biphones | None,
        pronounce: Callable[[str], tuple[Pronunciation, ...]],
        device: str | torch.device = "cpu",
        identity: str = "",
    ) -> None:
        """Align by a network.

        Args:
            network: is moved to the device and put into evaluation mode.
            biphones: the table of its states, None where it has none.
            pronounce: gives the pronunciations of a word, the likeliest first.
            device: on which it is computed.
            identity: tells stored alignments by this network from those by others.
        """
        self.network = network.to(device).eval()
        self.identity = identity
        self.device = torch.device(device)
        # Half as fast again, where CPUs have it; 98.8 % of the borders stay the same.
        self._short = torch.bfloat16 if self.device.type == "cpu" and supports_bfloat16(self.device) else None
        self.biphones = biphones or ctc_states(network.config.phones)
        self._head = "states" if biphones else "phones"
        self.pronounce = pronounce

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        pronounce: Callable[[str], tuple[Pronunciation, ...]],
        device: str | torch.device = "cpu",
    ) -> PhoneAligner:
        """Align by a model folder, shipped or one's own.

        Raises:
            UnknownModelError: there is no such model.
            ModelError: a file of it is missing, altered or not understood.
            UsageError: its phones are others than the dictionary's.
        """
        from asr.acoustic.export import load_acoustic_model

        package = ModelPackage.open(name_or_path)
        if package.phones.symbols != PHONES:
            raise UsageError(f"{package.folder} has other phones than the dictionary; align with another model")
        identity = hashlib.sha256((package.folder / "config.json").read_bytes()).hexdigest()
        return cls(load_acoustic_model(package.folder), package.biphones, pronounce, device, identity)

    def graph(self, text: str) -> PronunciationGraph:
        """All ways to pronounce a text in normal form. Raises `DataError` for a word without a pronunciation."""
        words = ([tuple(_PHONES.encode(sound)) for sound in self.pronounce(word)] for word in text.split())
        return PronunciationGraph.of(list(words))

    def frames(self, samples: int) -> int:
        """Acoustic frames that begin within so many samples."""
        return -(-samples // self.network.config.frame_samples)

    @torch.inference_mode()
    def align(
        self, audio: Sequence[np.ndarray | Tensor], graphs: Sequence[PronunciationGraph]
    ) -> list[Alignment | None]:
        """Align a batch.

        Args:
            audio: of each utterance (N,) samples at the network's rate: float in [-1, 1], or int16.
            graphs: of its text.
        Returns:
            The alignment of each utterance, None where its audio is too short for its text.
        """
        config = self.network.config
        frames = [self.frames(len(samples)) for samples in audio]
        steps = config.whole_blocks(max(frames) + config.delay_frames)
        padded = torch.zeros(len(audio), (steps - 1) * config.frame_samples + config.window_samples)
        for row, samples in enumerate(map(torch.as_tensor, audio)):
            scale = 1.0 if samples.is_floating_point() else FULL_SCALE
            padded[row, : len(samples)] = samples / scale
        with torch.autocast(self.device.type, self._short, enabled=self._short is not None):
            log_probs, _ = self.network(padded.to(self.device))
        scores = log_probs.states if self._head == "states" else ctc_scores(log_probs.phones)
        return align_batch(scores, frames, graphs, self.biphones)


class AlignmentStore(Mapping[str, Alignment]):
    """Alignments by utterance: a view of a folder that `align_manifest` has filled, wholly or so far."""

    def __init__(self, lines: Mapping[str, dict]) -> None:
        """Take the lines of a file by the ids of their utterances."""
        self._lines = lines

    @classmethod
    def open(cls, folder: Path | str) -> AlignmentStore:
        """Read the folder's alignments. A last line that is still being written is left out.

        Raises:
            DataError: the folder has no alignments, or those of another version, or a line of the file is damaged.
        """
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            raise DataError(f"{folder} has no {FILE_NAME}; compute the alignments first")
        header, lines = _read(path)
        if header is None or header["format"] != STORE_VERSION:
            raise DataError(f"{path} is of another version of Rill; delete it to align anew")
        return cls(lines)

    def __len__(self) -> int:
        """Number of utterances aligned."""
        return sum("failure" not in line for line in self._lines.values())

    def __iter__(self) -> Iterator[str]:
        """Ids of the utterances aligned."""
        return (identity for identity, line in self._lines.items() if "failure" not in line)

    @property
    def failures(self) -> dict[str, str]:
        """Utterances that could not be aligned, with the reason."""
        return {identity: line["failure"] for identity, line in self._lines.items() if "failure" in line}

    def doubts(self, sources: Mapping[str, str]) -> dict[str, str]:
        """Why transcripts are not believed, by utterance: those that do not align, and outliers of their source.

        Args:
            sources: of the utterances to look at, by their ids.
        """
        there = [identity for identity in sources if identity in self]
        mismatches = [self._lines[identity]["mismatch"] for identity in there]
        limits = mismatch_limits(mismatches, [sources[identity] for identity in there])
        doubts = {
            identity: f"its transcript does not align with its audio: {reason}"
            for identity, reason in self.failures.items()
            if identity in sources
        }
        for identity, mismatch, limit in zip(there, mismatches, limits.tolist(), strict=True):
            if mismatch > limit:
                doubts[identity] = (
                    f"its transcript aligns badly with its audio: mismatch {mismatch:.2f}, "
                    f"in its source at most {limit:.2f} is usual"
                )
        return doubts

    def __getitem__(self, utterance_id: str) -> Alignment:
        line = self._lines[utterance_id]
        if "failure" in line:
            raise KeyError(utterance_id)
        phones = np.array(_PHONES.encode(line["phones"].split()))
        return Alignment(phones, np.array(line["ends"]), np.array(line["words"]), line["mismatch"])


def mismatch_limits(mismatches: Sequence[float], sources: Sequence[str]) -> np.ndarray:
    """The mismatch (U,) above which each of U utterances is an outlier, by the median of its source.

    Args:
        mismatches: of the alignments.
        sources: of the utterances.
    """
    values, names = np.asarray(mismatches, float), np.asarray(sources)
    limits = np.empty(len(values))
    for name in np.unique(names):
        members = names == name
        usual = values[members] if members.sum() >= LEAST_OF_SOURCE else values
        middle, upper = np.quantile(usual, (0.5, 0.75))
        limits[members] = min(WORST_MISMATCH, middle + SPREADS * (upper - middle + LEAST_SPREAD))
    return limits


def align_manifest(
    manifest: Manifest,
    aligner: PhoneAligner,
    folder: Path | str,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    audio: Callable[[Utterance], np.ndarray] | None = None,
) -> AlignmentStore:
    """Align every utterance of `manifest` and keep the result in `folder`.

    Can be stopped at any time and started again: what the folder has for an utterance with the same text by the same
    model is not computed twice; what it has by another model is discarded. Failures are recorded with their reason, not
    raised.

    Args:
        manifest: of utterances.
        aligner: aligns them.
        folder: of the result.
        workers: threads that decode audio while the network runs.
        progress: called with (done, all) utterances after each batch.
        audio: gives an utterance's samples (N,), float in [-1, 1] or int16; by default they are decoded.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    header = {"format": STORE_VERSION, "model": aligner.identity}
    present: Mapping[str, dict] = {}
    if path.is_file():
        found, present = _read(path, repair=True)
        if found != header:
            path.unlink()
            present = {}
    pending = [one for one in manifest.utterances if present.get(one.id, {}).get("text") != one.text]
    done, total = len(manifest.utterances) - len(pending), len(manifest.utterances)
    with open(path, "a", encoding="utf-8") as file:
        if not file.tell():
            file.write(json.dumps(header) + "\n")
        for lines in _align_all(pending, aligner, workers, audio):
            file.writelines(json.dumps(line) + "\n" for line in lines)
            file.flush()
            done += len(lines)
            if progress is not None:
                progress(done, total)
    return AlignmentStore.open(folder)


def _align_all(
    utterances: Sequence[Utterance],
    aligner: PhoneAligner,
    workers: int,
    audio: Callable[[Utterance], np.ndarray] | None = None,
) -> Iterator[list[dict]]:
    """Lines of the file, batch by batch; the audio of a batch is decoded while the one before is aligned."""
    rate = aligner.network.config.frontend.sample_rate
    read = audio or (lambda utterance: load_audio(utterance, rate))
    frames = [aligner.frames(round(utterance.seconds * rate)) for utterance in utterances]
    most = BATCH_FRAMES.get(aligner.device.type, BATCH_FRAMES["cpu"])
    batches = [[utterances[number] for number in batch] for batch in batches_by_length(frames, most)]
    with ThreadPoolExecutor(max(1, workers)) as pool:

        def decode(batch: list[Utterance]) -> list:
            return [pool.submit(read, utterance) for utterance in batch]

        coming = decode(batches[0]) if batches else []
        for number, batch in enumerate(batches):
            ready, coming = coming, decode(batches[number + 1]) if number + 1 < len(batches) else []
            yield _align_some(batch, [future.result for future in ready], aligner)


def _align_some(
    utterances: Sequence[Utterance], audio: Sequence[Callable[[], np.ndarray]], aligner: PhoneAligner
) -> list[dict]:
    lines = [{"id": utterance.id, "text": utterance.text} for utterance in utterances]
    rows, samples, graphs = [], [], []
    for row, (utterance, decoded) in enumerate(zip(utterances, audio, strict=True)):
        try:
            samples.append(decoded())
            graphs.append(aligner.graph(utterance.text))
            rows.append(row)
        except RillError as error:
            del samples[len(graphs) :]
            lines[row]["failure"] = str(error)
    for row, alignment in zip(rows, aligner.align(samples, graphs) if rows else (), strict=True):
        lines[row] |= {"failure": "its audio is too short for its text"} if alignment is None else _encode(alignment)
    return lines


def _encode(alignment: Alignment) -> dict:
    return {
        "mismatch": round(alignment.mismatch, 3),
        "phones": " ".join(_PHONES.decode(alignment.phones.tolist())),
        "ends": alignment.ends.tolist(),
        "words": alignment.words.tolist(),
    }


def _read(path: Path, repair: bool = False) -> tuple[dict | None, dict[str, dict]]:
    """The header, None where there is none, and complete lines by id; with `repair`, a torn last one is cut off."""
    content = path.read_bytes()
    complete = content.rfind(b"\n") + 1
    if repair and complete < len(content):
        with open(path, "r+b") as file:
            file.truncate(complete)
    header, lines = None, {}
    for number, raw in enumerate(content[:complete].splitlines(), start=1):
        try:
            line = json.loads(raw)
            if number == 1 and "format" in line:
                header = line
            else:
                lines[line["id"]] = line
                line["text"]
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path}, line {number} is damaged; delete the file to align anew") from None
    return header, lines
