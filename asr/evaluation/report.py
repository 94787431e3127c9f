"""The report of an evaluation: one HTML file with scores, confusions, and the worst utterances with their audio."""

from __future__ import annotations

import base64
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from html import escape
from itertools import zip_longest
from pathlib import Path

import jiwer
import numpy as np

from asr.audio.recording import SoundFile
from asr.evaluation.score import TOTAL, Hypothesis, Score, score

LENGTHS = (2, 4, 8, 16)  # seconds between which error rates are told apart
CONFUSIONS = 25  # rows of each table of words

STYLE = """
:root { color-scheme: light dark; --wrong: #c62828; --added: #1565c0; --faint: #8886; }
@media (prefers-color-scheme: dark) { :root { --wrong: #ff8a80; --added: #82b1ff; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid var(--faint); }
th:first-child, td:first-child { text-align: left; }
.columns { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: flex-start; }
.utterance { border-top: 1px solid var(--faint); padding: .7rem 0; }
.pair { display: inline-block; text-align: center; margin: .1rem .18rem; vertical-align: top; }
.pair > * { display: block; min-height: 1.5em; text-decoration: none; }
.wrong { color: var(--wrong); font-weight: 600; }
.added { color: var(--added); font-weight: 600; }
audio { display: block; margin: .3rem 0; height: 2rem; }
small { opacity: .75; }
"""


def write_report(
    path: Path, title: str, hypotheses: Sequence[Hypothesis], worst: int, audio: Callable[[str], np.ndarray], rate: int
) -> None:
    """Write a report that needs nothing but itself.

    Args:
        path: of the HTML file.
        title: of the report.
        hypotheses: what was recognised.
        worst: how many utterances to show and to play.
        audio: gives the samples (N,) float32 of the utterance of an id.
        rate: of the samples, in Hz.
    """
    shown = sorted(hypotheses, key=_badness, reverse=True)[:worst]
    parts = [
        "<!doctype html>",
        '<html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        "<h2>By source</h2>",
        _scores("source", score(hypotheses)),
        "<h2>By length</h2>",
        _scores("seconds", _by_length(hypotheses)),
        "<h2>Words</h2>",
        _words(hypotheses),
        f"<h2>The {len(shown)} worst utterances</h2>",
        "<p><small>Above the reference, below what was recognised. "
        '<span class="wrong">Substituted or deleted</span>, <span class="added">inserted</span>.</small></p>',
        *(_utterance(hypothesis, audio, rate) for hypothesis in shown),
        "</html>",
    ]
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _badness(hypothesis: Hypothesis) -> tuple[float, int]:
    aligned = jiwer.process_words(hypothesis.reference, hypothesis.text)
    errors = aligned.substitutions + aligned.deletions + aligned.insertions
    return errors / max(1, len(hypothesis.reference.split())), errors


def _by_length(hypotheses: Sequence[Hypothesis]) -> list[Score]:
    names = [
        f"below {LENGTHS[0]}",
        *(f"{low} to {high}" for low, high in zip(LENGTHS, LENGTHS[1:], strict=False)),
        f"from {LENGTHS[-1]}",
    ]
    places = np.searchsorted(LENGTHS, [hypothesis.seconds for hypothesis in hypotheses], side="right")
    named = [replace(hypothesis, source=names[place]) for hypothesis, place in zip(hypotheses, places, strict=True)]
    scores = {row.source: row for row in score(named)}
    return [scores[name] for name in (*names, TOTAL) if name in scores]


def _scores(what: str, rows: Iterable[Score]) -> str:
    head = (what, "utterances", "words", "WER %", "substituted", "deleted", "inserted", "CER %", "real-time factor")
    return html_table(
        head,
        (
            (
                row.source or "(none)",
                row.utterances,
                row.words,
                f"{100 * row.word_error_rate:.1f}",
                row.substitutions,
                row.deletions,
                row.insertions,
                f"{100 * row.character_error_rate:.1f}",
                f"{row.real_time_factor:.4f}",
            )
            for row in rows
        ),
    )


def _words(hypotheses: Sequence[Hypothesis]) -> str:
    """The most frequent substitutions, deletions and insertions."""
    confused: Counter[tuple[str, str]] = Counter()
    deleted: Counter[str] = Counter()
    inserted: Counter[str] = Counter()
    for hypothesis in hypotheses:
        for spoken, found in _aligned(hypothesis):
            if spoken and found and spoken != found:
                confused[spoken, found] += 1
            elif not found:
                deleted[spoken] += 1
            elif not spoken:
                inserted[found] += 1
    tables = (
        html_table(("reference", "recognised", "times"), ((*pair, n) for pair, n in confused.most_common(CONFUSIONS))),
        html_table(("deleted", "times"), deleted.most_common(CONFUSIONS)),
        html_table(("inserted", "times"), inserted.most_common(CONFUSIONS)),
    )
    return '<div class="columns">' + "".join(tables) + "</div>"


def _aligned(hypothesis: Hypothesis) -> list[tuple[str, str]]:
    """Words of the reference and recognised ones side by side, "" where there is none."""
    spoken, found = hypothesis.reference.split(), hypothesis.text.split()
    pairs: list[tuple[str, str]] = []
    for piece in jiwer.process_words(hypothesis.reference, hypothesis.text).alignments[0]:
        pairs += zip_longest(
            spoken[piece.ref_start_idx : piece.ref_end_idx],
            found[piece.hyp_start_idx : piece.hyp_end_idx],
            fillvalue="",
        )
    return pairs


def _utterance(hypothesis: Hypothesis, audio: Callable[[str], np.ndarray], rate: int) -> str:
    rates, errors = _badness(hypothesis)
    pairs = "".join(
        f'<span class="pair"><span{_class(spoken != found, "wrong")}>{escape(spoken)}</span>'
        f"<span{_class(spoken != found, 'wrong' if spoken else 'added')}>{escape(found)}</span></span>"
        for spoken, found in _aligned(hypothesis)
    )
    about = f"{hypothesis.id}, {hypothesis.source}, {hypothesis.seconds:.1f} s, {errors} errors, {100 * rates:.0f} %"
    sound = base64.b64encode(_flac(audio(hypothesis.id), rate)).decode()
    player = f'<audio controls preload="metadata" src="data:audio/flac;base64,{sound}"></audio>'
    return f'<div class="utterance"><small>{escape(about)}</small>{player}{pairs}</div>'


def _class(condition: bool, name: str) -> str:
    return f' class="{name}"' if condition else ""


def _flac(samples: np.ndarray, rate: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "utterance.flac"
        with SoundFile(path, rate) as file:
            file.write(samples)
        return path.read_bytes()


def html_table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """An HTML table, its texts escaped."""

    def line(tag: str, cells: Iterable[object]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + line("th", head) + "".join(line("td", row) for row in rows) + "</table>"
