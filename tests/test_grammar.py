"""Grammars: the notation, what it allows, and real speech held to it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLES
from small_lm import PHONE_TABLE
from test_graph_decoder import SURE, rows
from test_graph_decoder import text as decoded
from test_transcribe_command import one_line

from asr.decoding.beam import GraphDecoder
from asr.errors import UsageError
from asr.lm.grammar import Grammar, grammar_model, read_grammar
from asr.recognizer import Recognizer

LIGHTS = """\ufeff# what lamps are told
room = kitchen | living-room   # two words
[Please] turn (on | off) the lights [in the <room>]
stop+
"""
NUMBERS = """(my number is <digits> | <digits>)
digits = <digit>+
digit = zero | one | two | three | four | five | six | seven | eight | nine
"""

HOUSE = """please turn (on | off) the <thing> in the <room> [and (lock | open) the front door]
thing = lights | heating
room = kitchen | living room
"""


def accepts(grammar: Grammar, sentence: str) -> bool:
    def closed(states: set[int]) -> set[int]:
        found = set(states)
        while more := {t for s, t, w in grammar.arcs if s in found and not w} - found:
            found |= more
        return found

    states = closed({0})
    for word in sentence.split():
        states = closed({target for source, target, read in grammar.arcs if source in states and read == word})
    return grammar.final in states


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "grammar.txt"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_what_is_allowed_and_what_is_not(write) -> None:
    grammar = read_grammar(write(LIGHTS))
    for please, which, where in product(["please ", ""], ["on", "off"], ["", " in the kitchen", " in the living room"]):
        assert accepts(grammar, f"{please}turn {which} the lights{where}")
    assert accepts(grammar, "stop") and accepts(grammar, "stop stop stop")
    for sentence in (
        "turn the lights",
        "please",
        "turn on the lights in the room",
        "stop turn on the lights",
        "please stop",
        "turn on off the lights",
    ):
        assert not accepts(grammar, sentence)


@pytest.mark.parametrize(
    ("text", "allowed", "refused"),
    [
        ("a [b]+ c", ["a c", "a b c", "a b b c"], ["a", "b c", "c"]),
        ("a (b | c)+", ["a b", "a c b c"], ["a", "a a b"]),
        ("(a+ | b) c", ["a a c", "b c"], ["b a c", "a b c", "c"]),
        ("<x> d\nx = [a] b | c", ["a b d", "b d", "c d"], ["a d", "a c d"]),
        ("a | b c+", ["a", "b c c"], ["a c", "b"]),
        ("[a+] b", ["b", "a a b"], ["a", "b a"]),
    ],
)
def test_small_grammars(write, text: str, allowed: list[str], refused: list[str]) -> None:
    grammar = read_grammar(write(text))
    assert all(accepts(grammar, sentence) for sentence in allowed)
    assert not any(accepts(grammar, sentence) for sentence in refused)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("yes\n(no", "line 2: '(' is not closed by ')'"),
        ("no)", "closes no bracket"),
        ("[a | b)", "is not closed"),
        ("a\n\n<b>", "line 3: rule 'b' is not defined"),
        ("<a>\na = b <a>", "line 2: rule 'a' is made of itself"),
        ("a\nb = <c>\nc = <b>", "line 3: rule 'b' is made of itself"),
        ("", "has no phrase"),
        ("# x\n", "has no phrase"),
        ("digit = one", "has no phrase"),
        ("a | ", "is empty"),
        ("()", "is empty"),
        ("[]", "is empty"),
        ("+ a", "follows nothing"),
        ("turn 2 left", "spell them out"),
        ("<digit", "is no word"),
        ("a < b", "is no word"),
        ("?", "is no word"),
        ("a = ", "is empty"),
        ("x\na = b\na = c", "line 3: rule 'a' is defined a second time"),
        ("(" * 60 + "a" + ")" * 60, "more than 50 brackets"),
        ("ja, straße", "line 1: 'straße'"),
        ("\n".join(["<r19>", "r0 = a b", *(f"r{n} = <r{n - 1}> <r{n - 1}>" for n in range(1, 20))]), "too large"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(write, text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_grammar(write(text))
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


def test_the_decoder_says_nothing_but_what_the_grammar_allows(write) -> None:
    decoder = GraphDecoder(grammar_model(write("see [a] cat | sea"), PHONE_TABLE), SURE)
    assert decoded(decoder, rows("S IY - AH K AE T")) == "see a cat"
    assert decoded(decoder, rows("S IY K AE T")) == "see cat"
    assert decoded(decoder, rows("S IY")) == "sea"
    assert decoded(decoder, rows("- - -")) == ""


def test_words_without_a_dictionary_entry_are_guessed(write) -> None:
    model = grammar_model(write("flabbergastrix"), PHONE_TABLE)
    assert model.words == ("", "flabbergastrix") and model.pronunciations[1]


def test_real_speech_is_held_to_the_grammar(shipped_recognizer: Recognizer, write) -> None:
    house = Recognizer.load(grammar=write(HOUSE))
    spoken = (SAMPLES / "request.txt").read_text().strip()
    assert shipped_recognizer.transcribe(SAMPLES / "request.wav").text != spoken
    result = house.transcribe(SAMPLES / "request.wav")
    assert result.text == spoken
    assert all(word.start_seconds < word.end_seconds for word in result.words)
    assert house.transcribe(np.zeros(3 * house.sample_rate, np.float32)).text == ""


def test_speech_outside_the_grammar_gives_nothing(shipped_recognizer: Recognizer, write) -> None:
    numbers = Recognizer.load(grammar=write(NUMBERS))
    for name in ("request", "greeting", "weather", "directions"):
        assert numbers.transcribe(SAMPLES / f"{name}.wav").text == ""


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "rule 'digit' is not defined"),
        (["--lm", "x"], "leave out lm"),
        (["--hotwords", "x"], "leave out hotwords"),
        (["--decoder", "greedy"], "leave out decoder greedy"),
    ],
)
def test_the_command_complains_in_one_line(asr, write, options: list[str], complaint: str) -> None:
    run = asr("transcribe", "--grammar", write("<digit>+"), *options, SAMPLES / "numbers.wav")
    assert run.returncode == 2 and run.stdout == "" and one_line(run.stderr) and complaint in run.stderr


def test_a_grammar_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="No such file"):
        Recognizer.load(grammar="missing/grammar.txt")
