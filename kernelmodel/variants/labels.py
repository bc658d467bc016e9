"""The goto labels of a kernel's text: a name that is jumped to is there, and one that is there is jumped to.

C's labels are strings here.  A routine that has some keeps the one it is going to in its variable ``label`` (empty: it
goes straight on) and compares that with the names in the order in which they stand; a part of the routine that was
given a name of its own returns the label beside an errno.  A misspelt name would run past its clean-up in silence.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType

from kernelmodel.errors import ModelError

_VARIABLE = "label"


def check_labels(kernel: type) -> None:
    """ModelError if a routine of ``kernel`` jumps to a label that it does not have, or has one that nothing jumps to."""
    routines = dict(_routines(kernel))
    for name, code in routines.items():
        told = _labels(code) if _named_in(code) else None
        if told is None or not told.used:
            continue
        places, jumps = told.places, set(told.jumps)
        for helper in told.helpers:
            given = _labels(routines[helper]) if helper in routines else None
            jumps |= given.returned if given is not None else set()
        for label in sorted(jumps - places):
            close = difflib.get_close_matches(label, places, 1, 0.6)
            hint = f"did you mean {close[0]}?" if close else f"compare {_VARIABLE} with it where it stands"
            raise ModelError(f"{kernel.__name__}.{name}() jumps to the label {label!r}, which is not there: {hint}")
        for label in sorted(places - jumps):
            raise ModelError(
                f"{kernel.__name__}.{name}() has the label {label!r}, to which nothing jumps: jump to it, or remove it"
            )


@dataclass(frozen=True, slots=True)
class _Labels:
    """What a text says of labels: which stand in it, to which it jumps or lets what it calls jump, and which it returns."""

    used: bool
    places: frozenset[str]
    jumps: frozenset[str]
    helpers: tuple[str, ...]
    returned: frozenset[str]


def _routines(kernel: type) -> Iterator[tuple[str, CodeType]]:
    for name in dir(kernel):
        function = inspect.getattr_static(kernel, name)
        if inspect.isfunction(function) and not name.startswith("__"):
            yield name, inspect.unwrap(function).__code__


@lru_cache(maxsize=4096)
def _labels(code: CodeType) -> _Labels | None:
    """None where there is no source.  A code says where it stands, so that two texts are never taken for one."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, SyntaxError):
        return None
    places, jumps = frozenset(_places(tree)), frozenset(label for label, _ in _jumps(tree))
    used = bool(places) or any(map(_is_variable, ast.walk(tree)))
    return _Labels(used, places, jumps, tuple(_gives_label(tree)), frozenset(_returned(tree)))


def _named_in(code: CodeType) -> bool:
    """Whether a text, or a function in it, may speak of the variable: a cheap look before its source is read."""
    names = (*code.co_varnames, *code.co_cellvars, *code.co_freevars, *code.co_names)
    return _VARIABLE in names or any(_named_in(c) for c in code.co_consts if isinstance(c, CodeType))


def _is_variable(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == _VARIABLE and isinstance(node.ctx, ast.Store)


def _names(node: ast.AST) -> Iterator[str]:
    """The non-empty string constants of an expression that stand for its value: not those of calls in it."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and node.value:
            yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _names(node.body)
        yield from _names(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for part in node.values:
            yield from _names(part)


def _assigned(tree: ast.AST) -> Iterator[ast.AST]:
    """What is assigned to the variable; where it is unpacked from a call, the call."""
    for node in ast.walk(tree):
        value = getattr(node, "value", None)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) or value is None:
            continue
        for target in targets:
            if target is not None and _is_variable(target):
                yield value
            elif isinstance(target, ast.Tuple):
                for i, part in enumerate(target.elts):
                    if _is_variable(part):
                        yield value.elts[i] if isinstance(value, ast.Tuple) and len(value.elts) > i else value


def _jumps(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for value in _assigned(tree):
        yield from ((name, value) for name in _names(value))


def _gives_label(tree: ast.AST) -> Iterator[str]:
    for value in _assigned(tree):
        call = value.value if isinstance(value, (ast.YieldFrom, ast.Await)) else value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            yield call.func.attr


def _returned(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Return) and node.value is not None:
            branches = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value]
            for value in branches:
                if isinstance(value, ast.Tuple):
                    for part in value.elts:
                        yield from _names(part)


def _places(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(n, ast.Name) and n.id == _VARIABLE for n in ast.walk(node)):
            for side in (node.left, *node.comparators):
                parts = side.elts if isinstance(side, (ast.Tuple, ast.List, ast.Set)) else [side]
                for part in parts:
                    yield from _names(part)
