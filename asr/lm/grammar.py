"""Grammars: a fixed set of phrases to recognise, in a small notation.

    # control of the lights
    room = kitchen | living room | bed room
    [please] turn (on | off) the lights [in the <room>]
    <digit>+
    digit = zero | oh | one | two | three

Each line is a phrase, or defines a rule; ``|`` separates alternatives, ``( )`` groups, ``[ ]`` is optional, ``+``
allows the item before it to be repeated, ``<rule>`` is replaced by the rule, ``#`` begins a comment.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import kaldifst
import numpy as np

from asr.errors import DataError, UsageError
from asr.graph.build import compose
from asr.graph.graph import Graph
from asr.lm.folder import CTC_WEIGHTS, DecodingWeights, LanguageModel
from asr.words.text import normalise
from asr.words.tokens import TokenTable

MOST_ARCS = 200_000  # of the grammar as an automaton, before it is minimised
MOST_DEPTH = 50  # of nested brackets and rules

_TOKEN = re.compile(r"<[^<>]*>|[\[\]()|+]|[^\s\[\]()|+<>]+|\S")
_DEFINITION = re.compile(r"\s*([A-Za-z][\w-]*)\s*=(.*)", re.DOTALL)
_CLOSING = {"(": ")", "[": "]"}


class Node(NamedTuple):
    """A piece of a grammar."""

    kind: str  # word, rule, sequence, either, optional, repeated
    text: str = ""  # of a word, or a rule's name
    parts: tuple[Node, ...] = ()
    line: int = 0


class Grammar(NamedTuple):
    """An acceptor of word sequences: arcs from state to state that read a word, "" for none."""

    arcs: tuple[tuple[int, int, str], ...]
    final: int  # the sentence is over; it begins at 0
    words: tuple[str, ...]


def grammar_model(path: Path, phones: TokenTable, weights: DecodingWeights = CTC_WEIGHTS) -> LanguageModel:
    """The words, pronunciations and graph of a grammar file.

    Silence is part of every grammar and gives no words. So is any sequence of phones, at a cost per phone: speech that
    matches it better than any sentence is rejected, so that a sentence of one word need not be surer than others. All
    sentences are equally likely, apart from the cost per word.

    Raises:
        UsageError: a grammar that `read_grammar` refuses, or a word of it that has no pronunciation.
    """
    from asr.words.lexicon import Lexicon

    grammar = read_grammar(path)
    lexicon = Lexicon.load()
    try:
        sounds = {word: tuple(tuple(phones.encode(s)) for s in lexicon.pronounce(word)) for word in grammar.words}
    except DataError as error:
        raise UsageError(f"grammar {path}: {error}") from None
    pronunciations = [(word, sound) for word, spoken in sounds.items() for sound in spoken]
    with tempfile.TemporaryDirectory(prefix="rill-grammar-") as scratch:
        graph = compose(_acceptor(grammar), pronunciations, len(phones), Path(scratch))
    graph = _with_other_speech(graph, len(phones), weights.other_speech_cost / weights.language_weight)
    weights = replace(weights, lone_confidence=0.0)
    return LanguageModel(path, ("", *sounds), ((), *sounds.values()), graph, weights)


def read_grammar(path: Path) -> Grammar:
    """Read a grammar file.

    Raises:
        UsageError: a file that cannot be read, brackets that do not match, a rule that is unknown, defined twice or
            made of itself, characters that cannot be spoken, no phrase, a grammar that is too large; with the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"grammar {path} cannot be read: {reason}") from None
    rules: dict[str, Node] = {}
    phrases = []
    for number, line in enumerate(lines, start=1):
        content = line.partition("#")[0]
        if not content.strip():
            continue
        definition = _DEFINITION.fullmatch(content)
        node = _Parser(definition.group(2) if definition else content, f"grammar {path}, line {number}", number).parse()
        if definition is None:
            phrases.append(node)
        elif definition.group(1) in rules:
            raise UsageError(f"grammar {path}, line {number}: rule {definition.group(1)!r} is defined a second time")
        else:
            rules[definition.group(1)] = node
    if not phrases:
        raise UsageError(f"grammar {path} has no phrase; write one on a line of its own, such as: turn on <room>")
    return _Compiler(path, rules).compile(phrases)


class _Parser:
    """Reads one line by recursive descent."""

    def __init__(self, text: str, where: str, line: int) -> None:
        self._where, self._line = where, line
        self._tokens = _TOKEN.findall(text)
        self._place = 0

    def parse(self) -> Node:
        node = self._either(depth=0)
        if self._place < len(self._tokens):
            raise self._wrong(f"{self._tokens[self._place]!r} closes no bracket")
        return node

    def _either(self, depth: int) -> Node:
        if depth > MOST_DEPTH:
            raise self._wrong(f"more than {MOST_DEPTH} brackets within one another")
        choices = [self._sequence(depth)]
        while self._next() == "|":
            self._place += 1
            choices.append(self._sequence(depth))
        return choices[0] if len(choices) == 1 else Node("either", parts=tuple(choices))

    def _sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while (token := self._next()) not in (None, "|", ")", "]"):
            self._place += 1
            if token == "+":
                if not parts:
                    raise self._wrong("'+' follows nothing that could be repeated")
                parts[-1] = Node("repeated", parts=(parts[-1],))
            elif token in _CLOSING:
                inner = self._either(depth + 1)
                if self._next() != _CLOSING[token]:
                    raise self._wrong(f"{token!r} is not closed by {_CLOSING[token]!r}")
                self._place += 1
                parts.append(Node("optional", parts=(inner,)) if token == "[" else inner)
            elif token.startswith("<") and token.endswith(">") and len(token) > 1:
                parts.append(Node("rule", token[1:-1].strip(), line=self._line))
            else:
                parts += [Node("word", word) for word in self._words(token)]
        if not parts:
            raise self._wrong("a phrase or an alternative is empty")
        return parts[0] if len(parts) == 1 else Node("sequence", parts=tuple(parts))

    def _words(self, token: str) -> list[str]:
        try:
            words = normalise(token).split() if token not in ("<", ">") else []
        except DataError as error:
            raise self._wrong(f"{token!r}: {error}") from None
        if not words:
            raise self._wrong(f"{token!r} is no word, bracket, <rule>, '|' or '+'")
        return words

    def _next(self) -> str | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _wrong(self, what: str) -> UsageError:
        return UsageError(f"{self._where}: {what}")


class _Compiler:
    """Expands the rules and makes an automaton."""

    def __init__(self, path: Path, rules: dict[str, Node]) -> None:
        self._path, self._rules = path, rules
        self._arcs: list[tuple[int, int, str]] = []
        self._states = 1

    def compile(self, phrases: list[Node]) -> Grammar:
        for name, node in self._rules.items():  # those that no phrase uses too
            for reference in _references(node):
                self._rule(reference)
            self._refuse_recursion(name, ())
        final = self._new_state()
        for phrase in phrases:
            self._arc(self._add(phrase, self._from(0)), final, "")
        words = dict.fromkeys(word for _, _, word in self._arcs if word)
        return Grammar(tuple(self._arcs), final, tuple(words))

    def _add(self, node: Node, state: int) -> int:
        """Add what a node accepts after ``state``; returns the state after it."""
        if node.kind == "sequence":
            for part in node.parts:
                state = self._add(part, state)
            return state
        if node.kind == "rule":
            return self._add(self._rule(node), state)
        end = self._new_state()
        if node.kind == "word":
            self._arc(state, end, node.text)
            return end
        begin = self._from(state)  # so that a loop inside leads back to here, and not to what came before
        for part in node.parts:
            self._arc(self._add(part, begin), end, "")
        if node.kind == "optional":
            self._arc(state, end, "")
        if node.kind == "repeated":
            self._arc(end, begin, "")
            return self._from(end)
        return end

    def _refuse_recursion(self, name: str, above: tuple[str, ...]) -> None:
        for reference in _references(self._rules[name]):
            if reference.text in (*above, name):
                raise UsageError(
                    f"grammar {self._path}, line {reference.line}: rule {reference.text!r} is made of itself; "
                    "use '+' for what may be repeated"
                )
            if len(above) > MOST_DEPTH:
                raise UsageError(f"grammar {self._path}, line {reference.line}: more than {MOST_DEPTH} rules deep")
            self._refuse_recursion(reference.text, (*above, name))

    def _rule(self, reference: Node) -> Node:
        if reference.text not in self._rules:
            raise UsageError(f"grammar {self._path}, line {reference.line}: rule {reference.text!r} is not defined")
        return self._rules[reference.text]

    def _from(self, state: int) -> int:
        new = self._new_state()
        self._arc(state, new, "")
        return new

    def _new_state(self) -> int:
        self._states += 1
        return self._states - 1

    def _arc(self, source: int, target: int, word: str) -> None:
        if len(self._arcs) >= MOST_ARCS:
            raise UsageError(f"grammar {self._path} is too large once its rules are expanded")
        self._arcs.append((source, target, word))


def _references(node: Node) -> Iterator[Node]:
    if node.kind == "rule":
        yield node
    for part in node.parts:
        yield from _references(part)


def _with_other_speech(graph: Graph, phones: int, cost: float) -> Graph:
    """The graph, or any phones at this cost each: with two more states, a new start and one for the phones."""
    start = len(graph.counts)
    other = start + 1
    loop = range(1, phones)

    def joined(column: np.ndarray, *more: float) -> np.ndarray:
        return np.concatenate([column, np.asarray(more, column.dtype)])

    return Graph(
        start,
        joined(graph.counts.astype(np.int32), 2, len(loop)),
        joined(graph.finals, np.inf, 0.0),
        joined(graph.phones.astype(np.int32), 0, 0, *loop),
        joined(graph.words, 0, 0, *[0] * len(loop)),
        joined(graph.weights, 0.0, 0.0, *[cost] * len(loop)),
        joined(graph.targets, graph.start, other, *[other] * len(loop)),
        joined(graph.word_starts, True, True),
    )


def _acceptor(grammar: Grammar) -> kaldifst.StdVectorFst:
    ids = {word: number for number, word in enumerate(grammar.words, start=1)}
    lines = [f"{source} {target} {ids.get(word, 0)}" for source, target, word in grammar.arcs]
    acceptor = kaldifst.compile("\n".join([*lines, f"{grammar.final}", "0"]) + "\n", acceptor=True)
    kaldifst.determinize_star(acceptor)
    kaldifst.minimize_encoded(acceptor)
    return acceptor
