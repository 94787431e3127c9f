"""The picture of docs/readable.md: a page that was read aloud, as it is printed, recognised and written for readers.

python docs/tools/draw_readable.py TABLE TEXT [--words 13260 13520] [--output docs/images/readable.png]

Takes the utterances of TABLE whose transcripts lie between two words of TEXT, joins them to a recording as
benchmarks/spoken_punctuation.py does, and recognises it. Needs chromium and Pillow.
"""

import argparse
import html
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import jiwer
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from spoken_punctuation import recording  # noqa: E402
from spoken_references import Spoken, found_in  # noqa: E402

from asr import Recognizer  # noqa: E402
from asr.data.manifest import read_manifest  # noqa: E402
from asr.streaming.results import Word  # noqa: E402
from asr.words.tagger import MARKS  # noqa: E402

SIZE = (1200, 745)  # pixels
COLOURS = 64
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 22px; background: white; color: #1d2430; display: grid; gap: 26px;
        grid-template-columns: 1fr 1fr 1fr; font: 16px/1.55 "DejaVu Serif", serif; }}
h2 {{ margin: 0 0 8px; font: bold 14px "DejaVu Sans", sans-serif; color: #58627a; }}
p {{ margin: 0; }}
b {{ font-weight: normal; background: #ffe3d6; }}
</style>{}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--words", type=int, nargs=2, default=(13_260, 13_520), help="of the text, from and to")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "readable.png")
    options = parser.parse_args()
    first, last = options.words
    spoken = [
        one
        for one in found_in(read_manifest(options.table).utterances, [options.text])
        if first <= one.place[1] and one.place[1] + len(one.words) <= last
    ]
    recognizer = Recognizer.load(readable=True)
    samples, true = recording(spoken, recognizer.sample_rate)
    words = recognizer.transcribe(samples).words
    wrong = wrongly_heard([word for word, _ in true], [one.text for word in words for one in word.spoken])
    columns = {
        "The book": html.escape(printed(spoken)),
        "Recognised": marked(((one.text, (one,)) for word in words for one in word.spoken), wrong),
        "Written for readers": marked(((word.text, word.spoken) for word in words), wrong),
    }
    body = "".join(f"<section><h2>{title}</h2><p>{text}</p></section>" for title, text in columns.items())
    draw(PAGE.format(body), options.output)
    print(
        f"{options.output}: {len(spoken)} utterances, {len(samples) / recognizer.sample_rate:.0f} s, {sum(wrong)} "
        f"of {len(wrong)} words wrong"
    )


def printed(spoken: Iterable[Spoken]) -> str:
    """The words of the book, dots where some were not read or are not in the table."""
    pieces, end = [], None
    for one in spoken:
        if end is not None and one.place[1] > end:
            pieces.append("[...]")
        pieces += [word.written + MARKS[word.mark] for word in one.words]
        end = one.place[1] + len(one.words)
    return " ".join(pieces)


def wrongly_heard(true: Sequence[str], heard: Sequence[str]) -> list[bool]:
    """Of each word that was heard."""
    wrong = [True] * len(heard)
    for chunk in jiwer.process_words(" ".join(true), " ".join(heard)).alignments[0]:
        if chunk.type == "equal":
            wrong[chunk.hyp_start_idx : chunk.hyp_end_idx] = [False] * (chunk.hyp_end_idx - chunk.hyp_start_idx)
    return wrong


def marked(texts: Iterable[tuple[str, Sequence[Word]]], wrong: Sequence[bool]) -> str:
    """Texts with the words that each is made of, as HTML; wrong ones stand out."""
    pieces, place = [], 0
    for text, spoken in texts:
        bad = any(wrong[place : place + len(spoken)])
        pieces.append(f"<b>{html.escape(text)}</b>" if bad else html.escape(text))
        place += len(spoken)
    return " ".join(pieces)


def draw(page: str, output: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "page.html"
        source.write_text(page, encoding="utf-8")
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/user")
        size = f"--window-size={SIZE[0]},{SIZE[1]}"
        command = ["chromium", *options, size, f"--screenshot={output.resolve()}", source.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(output) as image:
        reduced = image.convert("RGB").quantize(COLOURS)
    reduced.save(output, optimize=True)


if __name__ == "__main__":
    main()
