"""What the frame of a suspended generator holds: its variables, and its evaluation stack.

It is read through :func:`gc.get_referents`, which is CPython's; :func:`check_interpreter` tries that on a known routine
before the first use.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Generator
from types import CellType, CodeType, FrameType
from typing import Any

from kernelmodel.errors import ModelError


def frame_parts(generator: Any) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """The locals of a suspended generator by name (of a closure's variable its cell), and what is on its evaluation stack."""
    found = _parts(generator, _prefix())
    if found is None:
        raise ModelError(_UNREADABLE)
    return found


def _parts(generator: Any, prefix: int) -> tuple[dict[str, Any], tuple[Any, ...]] | None:
    frame = generator.gi_frame
    values = frame.f_locals
    held = gc.get_referents(generator)
    slots, cells = _slots(frame.f_code)
    names: dict[str, Any] = {}
    i = prefix
    for name in slots:
        if name in cells:
            if i >= len(held) or not isinstance(held[i], CellType):
                return None
        elif name in values:
            if i >= len(held) or held[i] is not values[name]:
                return None
        else:
            continue
        names[name] = held[i]
        i += 1
    stack = tuple([x for x in held[i:] if type(x) is not FrameType])
    return names, stack


@functools.lru_cache(maxsize=10_000)
def _slots(code: CodeType) -> tuple[tuple[str, ...], frozenset[str]]:
    """A frame's variables in the order in which it holds them, and those among them that stand in cells."""
    cells = frozenset((*code.co_cellvars, *code.co_freevars))
    return (*code.co_varnames, *(n for n in code.co_cellvars if n not in code.co_varnames), *code.co_freevars), cells


_UNREADABLE = (
    f"this Python ({sys.implementation.name} {sys.version.split()[0]}) keeps the frames of its generators in a way that"
    " straypage cannot read: use CPython 3.11, 3.12 or 3.13"
)


@functools.cache
def _prefix() -> int:
    """How many referents of a generator come before its locals, found on a known routine."""
    first, second = object(), object()

    def known(a: object, b: object) -> Generator[Any, Any, Any]:
        reader = lambda: b  # noqa: E731 - makes b a variable of a closure
        for x in (a, a):
            yield (second, (yield x), reader)

    generator: Any = known(first, second)
    next(generator)
    values = generator.gi_frame.f_locals
    held = gc.get_referents(generator)
    if values["a"] is not first:
        raise ModelError(_UNREADABLE)
    at = next((i for i, x in enumerate(held) if x is first), -1)
    found = _parts(generator, at) if at >= 0 else None
    if found is None:
        raise ModelError(_UNREADABLE)
    names, stack = found
    iterators = [x for x in stack if type(x) is type(iter(()))]
    waiting = any(x is second for x in stack)
    if names["a"] is not first or not isinstance(names["b"], CellType) or len(iterators) != 1 or not waiting:
        raise ModelError(_UNREADABLE)
    left = iterators[0].__reduce__()
    if left[1:] != (((first, first),), 1):
        raise ModelError(_UNREADABLE)
    return at


def check_interpreter() -> None:
    """ModelError if this Python's generators cannot be read."""
    _prefix()
