"""Extension of griffe: how the reference reads this repository's docstrings and comments."""

from __future__ import annotations

import ast
import re
from typing import Any

import griffe

SECTION = re.compile(r"(?<!\n)\n(Args|Attributes|Returns|Yields|Raises):\n")
SESSION = re.compile(r"(?:^(?:>>>|\.\.\.).*\n?)+", re.MULTILINE)


class Docstrings(griffe.Extension):
    """A field's trailing comment is its description; sections of a docstring need no empty line between them."""

    def on_attribute_instance(self, *, node: ast.AST | griffe.ObjectNode, attr: griffe.Attribute, **_: Any) -> None:
        if attr.docstring is None and attr.lines:
            _, separator, comment = attr.lines[-1].partition("  # ")
            if separator:
                attr.docstring = griffe.Docstring(comment[:1].upper() + comment[1:] + ".", parent=attr)

    def on_function_instance(self, *, node: ast.AST | griffe.ObjectNode, func: griffe.Function, **_: Any) -> None:
        _part(func)

    def on_class_members(self, *, node: ast.AST | griffe.ObjectNode, cls: griffe.Class, **_: Any) -> None:
        _part(cls)


def _part(thing: griffe.Function | griffe.Class) -> None:
    if thing.docstring is not None:
        text = SECTION.sub(r"\n\n\1:\n", thing.docstring.value)
        thing.docstring.value = SESSION.sub(_as_code, text)


def _as_code(session: re.Match[str]) -> str:
    """Lines with prompts as a block of code that can be copied."""
    lines = (line[4:] for line in session[0].splitlines())
    return "\n".join(["```python", *lines, "```", ""])
