"""Every small change of a C function: a statement that is gone, a condition the other way round, two statements swapped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kernelmodel.ctext.functions import matching

#: what a statement may begin with that is not dropped: a jump, a branch, a declaration
_STAYS = re.compile(
    r"(?:return|goto|break|continue|if|else|do|while|for|switch|case|default|static|const|struct|enum|unsigned|signed|int|long"
    r"|short|char|bool|void|LIST_HEAD)\b|[us](?:8|16|32|64)\b|\w+_t\b|\w+\s*:"
)
#: what may stand before a statement on its line: the head of a branch or loop, or a label
_HEAD = re.compile(r"\s*(?:(?:if|while|for|switch|for_each_\w+|list_for_each_\w+)\s*\(|(?:else|do)\b|\w+\s*:(?!:))")


@dataclass(frozen=True, slots=True)
class SmallChange:
    """A change of some characters of a function's text; it is an edit (:mod:`kernelmodel.ctext.edits`)."""

    words: str
    #: lines after the function's first
    line: int
    start: int
    end: int
    by: str

    def apply(self, body: str, plain: str) -> str:
        """The function's text with it."""
        del plain
        return body[: self.start] + self.by + body[self.end :]


def small_changes(plain: str) -> Iterator[SmallChange]:
    """Each change of a function; ``plain`` is its text with blanks for comments and for what is configured away."""
    before: tuple[int, int] | None = None
    for start, end in _statements(plain):
        text = " ".join(plain[start:end].split())
        line = plain.count("\n", 0, start)
        if _STAYS.match(plain, start) or text == ";":
            before = None
            continue
        yield SmallChange(f"no {text}", line, start, end, ";")
        if before is not None and not plain[before[1] : start].strip():
            one = plain[before[0] : before[1]]
            by = plain[start:end] + plain[before[1] : start] + one
            yield SmallChange(f"{text} before {' '.join(one.split())}", line, before[0], end, by)
        before = (start, end)
    for head in re.finditer(r"\b(if|while)\s*\(", plain):
        end = matching(plain, head.end() - 1)
        if end > 0:
            condition = " ".join(plain[head.end() : end - 1].split())
            line = plain.count("\n", 0, head.start())
            yield SmallChange(
                f"not: {head[1]} ({condition})", line, head.end() - 1, end, f"(!({plain[head.end() : end - 1]}))"
            )


def _statements(plain: str) -> Iterator[tuple[int, int]]:
    """Where each statement that ends with a semicolon begins, without the head of what it stands in, and where it ends."""
    start = at = plain.index("{") + 1
    depth = 0
    while at < len(plain):
        c = plain[at]
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(c, 0)
        at += 1
        if depth or c not in "{};":
            continue
        if c == ";":
            begins = _begin(plain, start)
            if begins < at:
                yield begins, at
        start = at


def _begin(plain: str, start: int) -> int:
    while head := _HEAD.match(plain, start):
        start = matching(plain, head.end() - 1) if plain[head.end() - 1] == "(" else head.end()
    return start + len(plain[start:]) - len(plain[start:].lstrip())
