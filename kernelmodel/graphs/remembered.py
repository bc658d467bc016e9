"""Graphs kept for the next time that the same one is asked for.

A graph follows from the routine with all that it can come to (:mod:`kernelmodel.graphs.reach`), the kernel's configuration
and what is taken for constant.  Where all of that is straypage's own, kernels have their graphs in common, a user's change
those of the routines that it does not touch, and they are kept in the user's cache as well, for the next process
(:mod:`kernelmodel.graphs.on_disk`).  A graph of anybody else's text stays in this process, and counts only as long as the
whole text of the kernel is what it was: every attribute, what its functions close over, and the globals that they name
are the same objects.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from kernelmodel.graphs import on_disk
from kernelmodel.graphs.reach import functions_in, is_ours, reach, words_of
from kernelmodel.terms import Cell
from kernelmodel.text import KernelText

Made = TypeVar("Made")

#: how many graphs are kept, those asked for last
KEPT = 400
#: with each graph what its text is made of, so that nothing else can be at the same address
_kept: OrderedDict[tuple[Hashable, Hashable], tuple[object, list[object]]] = OrderedDict()


class _Asks(Protocol):
    """A graph that was made with constants, of which it says which ones had a part in it."""

    asked: frozenset[Cell]


#: by all but the constants the places of graphs that were made with some
_with_constants: dict[Hashable, list[tuple[Mapping[Cell, int], tuple[Hashable, Hashable]]]] = {}


def remembered(
    kernel: type[KernelText], begin: Callable[..., Any], key: Hashable, make: Callable[..., Made],
    copied: Callable[[Made], Made], constants: Mapping[Cell, int] | None = None,
) -> Made:  # fmt: skip
    """The graph of the routine that ``begin(kernel, ...)`` starts; ``key`` says all that it depends on besides.

    ``constants`` are cells that keep one value: those count of which the graph says that it has asked for them.
    It comes from ``make()``, or from ``make(twice=False)`` where the text need not be run through twice (see
    :func:`kernelmodel.graphs.folded.fold`).  What is ``copied`` from it is the caller's: engines put operations of their
    own into the nodes of a graph.
    """
    reached = reach(kernel, begin)
    ours = reached.is_ours
    text = list(reached.parts()) if ours else list(_text_of(kernel))
    begun = (ours or kernel, tuple(map(id, text)), key)
    given = frozenset((constants or {}).items())
    place = _alike(begun, constants) or (begun, given)
    if place not in _kept:
        made = on_disk.kept(reached, (key, given, copied), partial(make, twice=False)) if ours else make()
        _kept[place] = made, text
        if constants is not None:
            _with_constants.setdefault(begun, []).append((dict(constants), place))
        if len(_kept) > KEPT:
            oldest, _ = _kept.popitem(last=False)
            _with_constants.pop(oldest[0], None)
    _kept.move_to_end(place)
    return copied(_kept[place][0])  # type: ignore[arg-type]


def _alike(begun: Hashable, constants: Mapping[Cell, int] | None) -> tuple[Hashable, Hashable] | None:
    """The place of a graph that was made with constants of which only equal ones had a part in it."""
    if constants is None:
        return None
    for before, place in _with_constants.get(begun, ()):
        if place in _kept:
            graph: _Asks = _kept[place][0]  # type: ignore[assignment]
            if all(before.get(c) == constants.get(c) for c in graph.asked):
                return place
    return None


def _text_of(kernel: type) -> Iterator[object]:
    """All that a kernel's text is made of."""
    for kind in kernel.__mro__:
        yield kind
        for name, value in vars(kind).items():
            yield from (name, value)
            if not is_ours(kind):
                yield from _behind(value)


def _behind(value: Any) -> Iterator[object]:
    """What a routine reads where it stands in no attribute of its class."""
    for function in functions_in(value):
        yield from (function.__code__, function.__defaults__, function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:
                yield cell
        yield from (function.__globals__.get(name) for name in sorted(words_of(function.__code__)))
