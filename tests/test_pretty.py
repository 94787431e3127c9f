"""Capitals, figures and full stops."""

from __future__ import annotations

import json

import pytest
from conftest import SAMPLES
from hypothesis import given
from hypothesis import strategies as st

from asr.audio.files import AudioFile
from asr.recognizer import Recognizer
from asr.streaming.endpoint import EndpointRule
from asr.streaming.results import Result, Word
from asr.words.pretty import pretty

WORDS = (
    "one two three twenty hundred thousand and point a zero first second five oh minus of million nineteen four "
    "third london cat the seen i i'm"
).split()


def result(text: str, final: bool = True, committed: int = 0) -> Result:
    words = [Word(word, float(place), place + 0.5, 0.5 + 0.1 * (place % 2)) for place, word in enumerate(text.split())]
    return Result.of(words, final, committed)


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ("i think i'm late", "I think I'm late."),
        ("we met in london on monday", "We met in London on Monday."),
        ("london's bridges", "London's bridges."),
        ("call four one seven two", "Call 4 1 7 2."),
        ("a hundred and five people", "105 people."),
        ("twenty five", "25."),
        ("no one knows", "No one knows."),
        ("it weighs three point five pounds", "It weighs 3.5 pounds."),
        ("the twenty first day", "The 21st day."),
        ("one of them will do", "One of them will do."),
        ("", ""),
    ],
)
def test_it_is_written_as_people_write(spoken: str, written: str) -> None:
    assert pretty(result(spoken)).text == written


def test_words_keep_their_times_and_those_of_a_number_are_joined() -> None:
    found = pretty(result("it cost two hundred and five pounds"))
    assert [(word.text, word.start_seconds, word.end_seconds) for word in found.words] == [
        ("It", 0, 0.5),
        ("cost", 1, 1.5),
        ("205", 2, 5.5),
        ("pounds.", 6, 6.5),
    ]
    assert found.words[2].confidence == pytest.approx(0.55)
    assert found.text == " ".join(word.text for word in found.words)
    assert (found.start_seconds, found.end_seconds, found.committed) == (0, 6.5, 4)


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=14), st.data())
def test_committed_words_stay_as_they_are_written(spoken: list[str], data: st.DataObject) -> None:
    committed = data.draw(st.integers(0, len(spoken)))
    heard = data.draw(st.integers(committed, len(spoken)))
    partial = pretty(result(" ".join(spoken[:heard]), final=False, committed=committed))
    final = pretty(result(" ".join(spoken)))
    assert final.words[: partial.committed] == partial.words[: partial.committed]
    assert partial.committed <= committed and not partial.text.endswith(".")


def test_plain_words_are_committed_soon() -> None:
    assert pretty(result("the cat sat on the mat", final=False, committed=4)).committed == 3


def test_real_speech_live_and_whole(shipped_recognizer: Recognizer) -> None:
    recognizer = Recognizer.load(pretty=True)
    with AudioFile(SAMPLES / "telephone.wav", recognizer.sample_rate) as audio:
        results = list(recognizer.stream(audio))
    plain = shipped_recognizer.transcribe(SAMPLES / "telephone.wav")
    whole = recognizer.transcribe(SAMPLES / "telephone.wav")
    assert results[-1].text == whole.text == pretty(plain).text
    assert whole.text.startswith("I would like to book") and whole.text.endswith("half past 7.")
    same = recognizer.with_endpoint(EndpointRule())
    assert same.transcribe(SAMPLES / "telephone.wav").text == whole.text
    assert any(partial.text and not partial.final and partial.text[0] == "I" for partial in results)


def test_the_command_writes_all_formats_so(asr) -> None:
    run = asr("transcribe", "--pretty", "--format", "jsonl", SAMPLES / "greeting.wav")
    line = json.loads(run.stdout)
    assert line["text"] == "Good morning and welcome to the show."
    assert [word["word"] for word in line["words"]] == line["text"].split()
    run = asr("transcribe", "--pretty", "--format", "srt", SAMPLES / "greeting.wav")
    assert run.stdout.splitlines()[2] == "Good morning and welcome to the show."
