"""Small changes of a C function: a call dropped, an argument changed, two calls in the other order, a loop gone round once."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kernelmodel.ctext.configured import configured
from kernelmodel.ctext.functions import matching, span
from kernelmodel.ctext.small_changes import SmallChange
from kernelmodel.errors import ModelError
from kernelmodel.vocabulary.words import PAGE_ALLOC


@dataclass(frozen=True, slots=True)
class Drop:
    """A call that is a statement, gone; of several, the one after a label."""

    call: str
    after: str = ""

    def apply(self, body: str, plain: str) -> str:
        """The function's text without it; ``plain`` is the same without comments."""
        start, end = _statement(plain, self.call, self.after)
        return body[:start] + ";" + body[end:]


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a call, another one instead; of several such calls, the last."""

    call: str
    index: int
    by: str

    def apply(self, body: str, plain: str) -> str:
        """The function's text with it."""
        opening = _last(plain, self.call)
        end = matching(plain, opening)
        parts, depth, start = [], 0, opening + 1
        for i in range(opening + 1, end):
            depth += {"(": 1, ")": -1}.get(plain[i], 0)
            if (plain[i] == "," and depth == 0) or i == end - 1:
                parts.append((start, i))
                start = i + 1
        if not -len(parts) <= self.index < len(parts):
            raise ModelError(f"{self.call}() has no argument {self.index}")
        first, last = parts[self.index]
        return body[:first] + " " * (first != opening + 1) + self.by + body[last:]


@dataclass(frozen=True, slots=True)
class Swap:
    """Two calls that are statements, in the other order: the first two, where both are of one function."""

    one: str
    other: str

    def apply(self, body: str, plain: str) -> str:
        """The function's text with them."""
        first = _statement(plain, self.one)
        second = _statement(plain, self.other, begin=first[1] if self.one == self.other else 0)
        (a, b), (c, d) = sorted((first, second))
        return body[:a] + body[c:d] + body[b:c] + body[a:b] + body[d:]


@dataclass(frozen=True, slots=True)
class Once:
    """The condition of its do/while loop, never true."""

    def apply(self, body: str, plain: str) -> str:
        """The function's text with it."""
        found = list(re.finditer(r"\}\s*while\s*\(", plain))
        if not found:
            raise ModelError("there is no do/while loop")
        opening = found[-1].end() - 1
        return body[: opening + 1] + "0" + body[matching(plain, opening) - 1 :]


@dataclass(frozen=True, slots=True)
class Whole:
    """Another function in its place."""

    text: str

    def apply(self, body: str, plain: str) -> str:
        """It."""
        del body, plain
        return self.text


Edit = Drop | Argument | Swap | Once | Whole | SmallChange


def edited(text: str, function: str, edit: Edit, symbols: set[str], file: str = PAGE_ALLOC) -> str:
    """A file with one function changed; ModelError where it has no such function, or the function no such place."""
    plain = configured(text, symbols).text
    where = span(plain, function)
    if where is None:
        raise ModelError(f"{file} has no function {function}()")
    start, end = where
    try:
        return text[:start] + edit.apply(text[start:end], plain[start:end]) + text[end:]
    except ModelError as error:
        raise ModelError(f"{file}: {function}(): {error}") from error


def _last(plain: str, call: str) -> int:
    found = list(re.finditer(rf"(?<!\w){re.escape(call)}\s*\(", plain[plain.index("{") :]))
    if not found:
        raise ModelError(f"there is no call of {call}()")
    return plain.index("{") + found[-1].end() - 1


def _statement(plain: str, call: str, after: str = "", begin: int = 0) -> tuple[int, int]:
    """Where a call that is a statement begins, and where the place after its semicolon is."""
    begin = begin or plain.index("{")
    if after:
        label = re.search(rf"^\s*{re.escape(after)}\s*:", plain, re.M)
        if label is None:
            raise ModelError(f"there is no label {after}")
        begin = label.end()
    found = re.search(rf"(?<![\w=(,!&|?:<>+*/-])\b{re.escape(call)}\s*\(", plain[begin:])
    if found is None:
        raise ModelError(f"there is no statement that calls {call}()")
    start = begin + found.start()
    end = matching(plain, begin + found.end() - 1)
    semicolon = re.compile(r"\s*;").match(plain, end)
    if semicolon is None:
        raise ModelError(f"the call of {call}() is no statement")
    return start, semicolon.end()
