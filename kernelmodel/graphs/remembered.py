"""Graphs kept for the next time that the same one is asked for.

A graph follows from the kernel's class, its configuration, the routine and what is taken for constant.  What is kept stays
in this process.  Graphs of the kernels that straypage ships are kept in the user's cache as well, for the next process
(:mod:`kernelmodel.graphs.on_disk`).  Of a class that is made while a program runs (a text from a file or a tree) a graph
counts only as long as the class's text is what it was: every attribute, what its functions close over, and the globals
that they name are the same objects.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any, TypeVar

from kernelmodel.graphs import on_disk
from kernelmodel.text import KernelText

Made = TypeVar("Made")

#: how many graphs are kept, those asked for last
KEPT = 400
#: with each graph what its text is made of, so that nothing else can be at the same address
_kept: OrderedDict[Hashable, tuple[object, list[object]]] = OrderedDict()


def remembered(
    kernel: type[KernelText], key: Hashable, make: Callable[[], Made], copied: Callable[[Made], Made]
) -> Made:
    """What ``make`` makes for a kernel and a key that says all that it depends on besides; ``copied`` where it is kept.

    Engines put operations of their own into the nodes of a graph.
    """
    shipped = _shipped(kernel)
    text = [] if shipped else list(_text_of(kernel))
    place = (kernel, tuple(map(id, text)), key)
    if place not in _kept:
        _kept[place] = on_disk.kept(kernel, (key, copied), make) if shipped else make(), text
        if len(_kept) > KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(place)
    return copied(_kept[place][0])  # type: ignore[arg-type]


def _shipped(kernel: type[KernelText]) -> bool:
    return all(_is_ours(k) for k in kernel.__mro__)


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("kernelmodel", "builtins")


def _text_of(kernel: type) -> Iterator[object]:
    """All that a kernel's text is made of."""
    for kind in kernel.__mro__:
        yield kind
        for name, value in vars(kind).items():
            yield from (name, value)
            if not _is_ours(kind):
                yield from _behind(value)


def _behind(value: Any) -> Iterator[object]:
    """What a routine reads where it stands in no attribute of its class."""
    if isinstance(value, (staticmethod, classmethod, MethodType)):
        yield from _behind(value.__func__)
    elif isinstance(value, partial):
        yield from (value.func, *value.args, *value.keywords.values())
        yield from _behind(value.func)
    elif isinstance(value, property):
        for f in (value.fget, value.fset, value.fdel):
            yield from _behind(f)
    elif isinstance(value, FunctionType):
        yield from (value.__code__, value.__defaults__, value.__kwdefaults__)
        for cell in value.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:
                yield cell
        yield from (value.__globals__.get(name) for name in _names(value.__code__))


def _names(code: CodeType) -> Iterator[str]:
    """The globals that some code names, and attributes, for they look alike there."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)
