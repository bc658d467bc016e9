"""The functions of a C file: cut out by name, so that nothing elsewhere in the file can hide them, and parsed one by one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

from kernelmodel.ctext.switches import without_switches
from kernelmodel.errors import ModelError

#: attributes and the like that stand in the way of a parser of plain C; blanked in place
_ATTRIBUTES = re.compile(
    r"\b(__maybe_unused|__always_unused|__ref|__init|__meminit|__init_refok|__always_inline|__sched|noinline|__cold|__must_check|"
    r"__no_sanitize_\w+|__releases|__acquires)\b(\([^()]*\))?"
)
#: a bracket after an operator, and the name that it begins with; what may follow a name; the bracket's end
_BRACKETED = re.compile(r"(?:(?<=[(!=&|,<>?:+*-])|\breturn)\s*(\()\s*(\w+)")
_POSTFIX = re.compile(r"\s*(?:\(|\[|->\s*\w+|\.\s*\w+)")
_CLOSED = re.compile(r"\s*\)(?=\s*[-+*&)])")
_TYPE_ARGUMENT = re.compile(r"(\(\s*[^(),]+,)\s*struct\s+(\w+)(\s*,\s*\w+\))")


@dataclass(frozen=True)
class Function:
    """One C function: its tree, and where it is in its file."""

    name: str
    file: str
    line: int
    text: str
    node: Any
    #: (type, name) of each parameter
    parameters: tuple[tuple[str, str], ...]
    returns: str
    #: why it cannot be read, where it is no plain C
    broken: str = ""
    #: as it stands in the file, with its comments
    original: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """What it does, as a number: its tokens, without comments and line breaks."""
        return fingerprint(self.text)

    @property
    def end(self) -> int:
        """Its last line."""
        return self.line + self.text.count("\n")


def fingerprint(text: str) -> str:
    """A number for some C, whatever its blanks and line breaks."""
    tokens = re.findall(r"\w+|[^\w\s]", text)
    return hashlib.sha256(" ".join(tokens).encode()).hexdigest()[:16]


@cache
def _parser() -> Any:
    try:
        import tree_sitter
        import tree_sitter_c
    except ImportError as error:
        raise ModelError(
            "reading C needs the packages tree-sitter and tree-sitter-c: pip install tree-sitter tree-sitter-c"
        ) from error
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_c.language()))


def parse(text: str) -> Any:
    """The syntax tree of some C."""
    return _parser().parse(text.encode()).root_node


def find(text: str, name: str, file: str, loops: frozenset[str]) -> Function | None:
    """The definition of a function in a file (:func:`configured`), or None; ModelError where not even its head parses.

    ``loops`` are macros that begin a loop.
    """
    for start, end in _definitions(text, name):
        raw = text[start:end]
        line = text.count("\n", 0, start) + 1
        readable = _readable(raw, loops)
        root = parse(readable)
        node = next((n for n in root.children if n.type == "function_definition"), None)
        broken = ""
        if node is None or root.has_error:
            at, what = _error(root)
            broken = f"{file}:{line + at}: {name}(): does not parse as C: {what!r}"
        if node is None:
            raise ModelError(broken)
        if not broken and "switch" in raw:
            root = without_switches(readable, root, parse)
            node = next(n for n in root.children if n.type == "function_definition")
        declarator = node.child_by_field_name("declarator")
        pointer = ""
        while declarator.type != "function_declarator":
            pointer += "*"
            declarator = declarator.child_by_field_name("declarator")
        parameters = tuple(_parameter(p) for p in declarator.child_by_field_name("parameters").named_children)
        returns = node.child_by_field_name("type").text.decode() + pointer
        return Function(name, file, line, raw, node, tuple(p for p in parameters if p[1]), returns, broken)
    return None


@lru_cache(maxsize=16)
def _heads(text: str) -> dict[str, list[tuple[int, int]]]:
    """Where a line begins that may be the head of a function, and its opening bracket, by name."""
    found: dict[str, list[tuple[int, int]]] = {}
    for head in re.finditer(r"^(?:[A-Za-z_][^\n;#=()]*[\s*])?(\w+)[ \t]*\(", text, re.M):
        found.setdefault(head[1], []).append((head.start(), head.end() - 1))
    return found


def span(text: str, name: str) -> tuple[int, int] | None:
    """Where the definition of a function begins and ends in a file, or None."""
    return next(_definitions(text, name), None)


def _definitions(text: str, name: str) -> Iterator[tuple[int, int]]:
    for begins, opening in _heads(text).get(name, ()):
        after = matching(text, opening)
        brace = re.compile(r"\s*(?:__\w+(?:\([^()]*\))?\s*)*\{").match(text, after)
        if after < 0 or brace is None:
            continue
        end = re.compile(r"^\}", re.M).search(text, brace.end())
        if end is None:
            continue
        start = begins
        # a return type, or `static inline`, on the lines before
        while True:
            before = text.rfind("\n", 0, start - 1) + 1 if start else 0
            previous = text[before : start - 1].rstrip() if start else ""
            if not re.fullmatch(r"[A-Za-z_][\w \t*]*", previous) or before >= start:
                break
            start = before
        yield start, end.end()


def matching(text: str, opening: int) -> int:
    """The place after the bracket that closes the one at ``opening``; -1 if none does."""
    depth = 0
    for i in range(opening, len(text)):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(text[i], 0)
        if depth == 0:
            return i + 1
    return -1


def is_type(name: str) -> bool:
    """Whether an identifier names a type, as far as a parser without declarations can tell."""
    return bool(re.fullmatch(r"void|int|long|unsigned|signed|short|char|bool|_Bool|[us](8|16|32|64)|\w+_t", name))


def _uncast(text: str) -> str:
    """The text without the brackets of (x) && y and (f(x)) && y: to a parser that knows no variables they are casts.

    Nothing binds tighter than a name with the calls, indices and members after it, so such brackets say nothing.
    """
    out = list(text)
    changed = False
    for opening in _BRACKETED.finditer(text):
        at = opening.end()
        while follows := _POSTFIX.match(text, at):
            at = matching(text, follows.end() - 1) if text[follows.end() - 1] in "([" else follows.end()
            if at < 0:
                break
        closing = _CLOSED.match(text, at) if at >= 0 else None
        if closing and not is_type(opening[2]):
            out[opening.start(1)] = out[closing.end() - 1] = " "
            changed = True
    # ((x)) has brackets within brackets
    return _uncast("".join(out)) if changed else text


def _readable(text: str, loops: frozenset[str]) -> str:
    text = _uncast(_ATTRIBUTES.sub(lambda m: " " * len(m[0]), text))
    text = _TYPE_ARGUMENT.sub(r"\1 \2\3", text)
    out, at = [], 0
    for macro in re.finditer(r"\b(\w+)[ \t]*\(", text):
        if macro[1] in loops:
            end = matching(text, macro.end() - 1)
            if end > 0 and macro.start() >= at:
                out += [text[at : macro.start()], "for (", text[macro.start() : end], ";;)"]
                at = end
    return "".join([*out, text[at:]])


def _parameter(node: Any) -> tuple[str, str]:
    declarator = node.child_by_field_name("declarator")
    if declarator is None:
        return node.text.decode(), ""
    pointer = ""
    while declarator.type != "identifier":
        pointer += "*" if declarator.type == "pointer_declarator" else ""
        declarator = declarator.child_by_field_name("declarator") or declarator.named_children[-1]
    return node.child_by_field_name("type").text.decode() + pointer, declarator.text.decode()


def _error(node: Any) -> tuple[int, str]:
    if node.type == "ERROR" or node.is_missing:
        return node.start_point[0], node.text.decode()[:50] or f"missing {node.type}"
    for child in node.children:
        if child.has_error or child.is_missing:
            return _error(child)
    return node.start_point[0], node.text.decode()[:50]
