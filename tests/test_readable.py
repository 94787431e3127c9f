"""Text for readers: marks and capitals by the punctuation model, numbers in figures, what is committed stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import SAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio.files import AudioFile
from asr.errors import ModelError
from asr.output.formats import as_ctm, as_json, as_srt, as_text, as_tsv
from asr.recognizer import Recognizer
from asr.recognizer_options import open_readable
from asr.remote import words_of
from asr.streaming.endpoint import EndpointRule
from asr.streaming.results import Result, Word
from asr.words.readable import ReadableText

WORDS = (
    "one two three twenty hundred thousand and point a zero first second five oh minus of million nineteen four "
    "third london cat the seen i i'm mister doctor smith what is for to you so t v a street numbers"
).split()


@pytest.fixture(scope="module")
def readable() -> ReadableText:
    return open_readable()


def result(text: str, final: bool = True, committed: int = 0, start: float = 0.0, pauses: dict | None = None) -> Result:
    words, now = [], start
    for place, word in enumerate(text.split()):
        now += (pauses or {}).get(place, 0.0)
        words.append(Word(word, now, now + 0.25, 0.5 + 0.1 * (place % 2)))
        now += 0.25
    return Result.of(words, final, committed)


def written(readable: ReadableText, text: str) -> str:
    return readable.write(result(text), readable.start(), last=True)[0].text


@pytest.mark.parametrize(
    ("spoken", "found"),
    [
        ("i think i'm late", "I think I'm late."),
        ("we met in london on monday", "We met in London on Monday."),
        ("call four one seven two", "Call 4172."),
        ("twenty five", "25."),
        ("no one knows", "No one knows."),
        ("it weighs three point five pounds", "It weighs 3.5 pounds."),
        ("i live in the united states", "I live in the United States."),
        ("he came at five p m", "He came at 5 p.m."),
        ("i met mister smith", "I met Mr. Smith."),
        ("take the second street on the left", "Take the second street on the left."),
        ("we walked down oxford street", "We walked down Oxford Street."),
        ("doctor smith is a doctor", "Dr. Smith is a doctor."),
        ("i saw it on t v", "I saw it on TV."),
        ("my numbers for one seven to nine zero five six", "My number's 41729056."),
        ("", ""),
    ],
)
def test_it_is_written_as_people_write(readable: ReadableText, spoken: str, found: str) -> None:
    assert written(readable, spoken) == found


def test_words_keep_their_times_and_those_of_a_number_are_joined(readable: ReadableText) -> None:
    found, _ = readable.write(result("it cost two hundred and five euros today"), readable.start(), last=True)
    assert [word.text for word in found.words] == ["It", "cost", "€205", "today."]
    euros = found.words[2]
    assert (euros.start_seconds, euros.end_seconds) == (0.5, 1.75)
    assert euros.confidence == pytest.approx(0.54)
    assert euros.normalized == "two hundred and five euros"
    assert found.normalized == "it cost two hundred and five euros today"
    assert [word.text for word in found.spoken] == found.normalized.split()
    assert found.text == " ".join(word.text for word in found.words)
    assert found.words[2].shifted(1.0).spoken[-1].end_seconds == 2.75


def test_a_sentence_goes_on_after_a_pause(readable: ReadableText) -> None:
    first, state = readable.write(result("i would like to go to the"), readable.start())
    assert first.text == "I would like to go to the"
    second, state = readable.write(result("station in london", start=3.0), state, last=True)
    assert second.text == "station in London."
    third, _ = readable.write(result("the end", start=6.0), state, last=True)
    assert third.text == "The end."


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=16), st.data())
def test_committed_words_stay_as_they_are_written(spoken: list[str], data: st.DataObject) -> None:
    readable = open_readable()
    state, kept = readable.start(), ()
    heard = committed = 0
    for _ in range(data.draw(st.integers(1, 4))):
        committed = data.draw(st.integers(committed, len(spoken)))
        heard = data.draw(st.integers(max(heard, committed), len(spoken)))
        partial, state = readable.write(result(" ".join(spoken[:heard]), final=False, committed=committed), state)
        assert partial.words[: len(kept)] == kept and partial.committed >= len(kept)
        kept = partial.words[: partial.committed]
        assert sum(len(word.spoken) for word in kept) <= committed
    final, _ = readable.write(result(" ".join(spoken)), state, last=True)
    assert final.words[: len(kept)] == kept
    at_once, _ = readable.write(result(" ".join(spoken)), readable.start(), last=True)
    assert final == at_once


def test_words_are_committed_once_the_look_ahead_is_there(readable: ReadableText) -> None:
    partial = result("the cat sat on the mat by the door", final=False, committed=7)
    assert readable.write(partial, readable.start())[0].committed == 4


def test_real_speech_live_and_whole(shipped_recognizer: Recognizer) -> None:
    recognizer = Recognizer.load(readable=True, engine="onnx")
    with AudioFile(SAMPLES / "telephone.wav", recognizer.sample_rate) as audio:
        results = list(recognizer.stream(audio))
    plain = shipped_recognizer.transcribe(SAMPLES / "telephone.wav")
    whole = recognizer.transcribe(SAMPLES / "telephone.wav")
    assert " ".join(result.text for result in results if result.final) == whole.text
    assert whole.normalized == plain.text
    assert whole.text.startswith("I would like to book") and whole.text.endswith("half past seven.")
    same = recognizer.with_endpoint(EndpointRule())
    assert same.transcribe(SAMPLES / "telephone.wav").text == whole.text
    assert recognizer.with_readable(False).transcribe(SAMPLES / "telephone.wav") == plain
    assert shipped_recognizer.with_readable().transcribe(SAMPLES / "telephone.wav") == whole
    assert any(partial.text and not partial.final and partial.text[0] == "I" for partial in results)


def test_formats_have_both_forms(readable: ReadableText) -> None:
    found, _ = readable.write(result("we paid five dollars mister smith"), readable.start(), last=True)
    line = json.loads(as_json("talk.wav", found))
    assert line["text"] == found.text
    assert line["normalized"] == "we paid five dollars mister smith"
    assert [word["word"] for word in line["words"]] == line["normalized"].split()
    assert " ".join(word["written"] for word in line["words"] if word["written"]) == line["text"]
    assert words_of(line["words"])[2].spoken[1].text == "dollars"
    assert "five" in as_ctm("talk.wav", found) and "$5" not in as_ctm("talk.wav", found)
    assert "\t$5" in as_tsv("talk.wav", found)
    plain = json.loads(as_json("talk.wav", result("we paid five dollars")))
    assert "normalized" not in plain and "written" not in plain["words"][0]


def test_subtitles_end_where_sentences_end() -> None:
    spoken = [(f"word{k}", k * 0.3) for k in range(12)]
    words = [
        Word.written(f"{text}{'.' if k == 5 else ''}", [Word(text, at, at + 0.3, 1.0)])
        for k, (text, at) in enumerate(spoken)
    ]
    cues = as_srt("talk", Result.of(words, True)).split("\n\n")
    assert len(cues) == 2 and cues[0].endswith("word5.") and cues[1].endswith("word11")


def test_long_text_has_paragraphs() -> None:
    words, now = [], 0.0
    for k in range(400):
        now += 1.0 if k % 50 == 0 else 0.05
        words.append(Word.written(f"w{k}{'.' if k % 10 == 9 else ''}", [Word(f"w{k}", now, now + 0.3, 1.0)]))
        now += 0.35
    long = Result(" ".join(word.text for word in words), tuple(words), 0.0, now, True)
    paragraphs = as_text("talk", long).split("\n\n")
    assert len(paragraphs) == 8 and all(part.endswith(".") for part in paragraphs)
    assert as_text("talk", long).split() == long.text.split()
    plain = Result.of([one for word in words for one in word.spoken], True)
    assert "\n" not in as_text("talk", plain)


def test_the_command_writes_for_readers_unless_plain(asr) -> None:
    greeting = SAMPLES / "greeting.wav"
    text = asr("transcribe", greeting).stdout.strip()
    assert text[0] == "G" and text[-1] == "."
    assert asr("transcribe", "--plain", greeting).stdout == (SAMPLES / "greeting.txt").read_text(encoding="utf-8")
    run = asr("transcribe", "--pretty", greeting)
    assert run.stdout.strip() == text and "no longer needed" in run.stderr
    run = asr("transcribe", "--pretty", "--plain", greeting)
    assert run.returncode == 2 and len(run.stderr.splitlines()) == 1


def test_a_folder_that_is_no_punctuation_model(asr, tmp_path: Path) -> None:
    run = asr("transcribe", "--punctuation", tmp_path, SAMPLES / "greeting.wav")
    assert run.returncode != 0 and "punctuation model" in run.stderr and len(run.stderr.splitlines()) == 1
    with pytest.raises(ModelError, match="language"):
        open_readable(language="de")


def test_the_former_name_still_loads() -> None:
    with pytest.deprecated_call():
        recognizer = Recognizer.load(pretty=True)
    assert recognizer.transcribe(SAMPLES / "greeting.wav").text.startswith("Good morning")
