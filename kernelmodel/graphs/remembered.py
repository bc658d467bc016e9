"""Graphs of the kernels that straypage ships, kept for the next time that the same one is asked for.

A graph follows from the kernel's class, its configuration, the routine and what is taken for constant.  Classes that are
made while a program runs (texts from files and trees, mutants) are not kept: their text is what changes.  What is kept
stays in this process, and in the user's cache for the next one (:mod:`kernelmodel.graphs.on_disk`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

from kernelmodel.graphs import on_disk
from kernelmodel.text import KernelText

Made = TypeVar("Made")

#: how many graphs are kept, those asked for last
KEPT = 400
_kept: OrderedDict[Hashable, object] = OrderedDict()


def remembered(
    kernel: type[KernelText], key: Hashable, make: Callable[[], Made], copied: Callable[[Made], Made]
) -> Made:
    """What ``make`` makes for a kernel and a key that says all that it depends on besides; ``copied`` where it is kept.

    Engines put operations of their own into the nodes of a graph.
    """
    if not _shipped(kernel):
        return make()
    place = (kernel, key)
    if place not in _kept:
        _kept[place] = on_disk.kept(kernel, (key, copied), make)
        if len(_kept) > KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(place)
    return copied(_kept[place])  # type: ignore[arg-type]


def _shipped(kernel: type[KernelText]) -> bool:
    return all(k.__module__.partition(".")[0] in ("kernelmodel", "builtins") for k in kernel.__mro__)
