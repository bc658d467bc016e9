"""Whether a part of straypage is what its text says: a test may have put another function or number into it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from types import FunctionType, ModuleType
from typing import Any

#: what every engine works with
_SHARED = ("kernelmodel.terms", "kernelmodel.cells", "kernelmodel.graphs")
_KINDS = (FunctionType, type, int, float, str, tuple, frozenset, ModuleType)


class Written:
    """The functions, classes and numbers of some modules, and what their classes are made of, as they were at first."""

    def __init__(self, *packages: str) -> None:
        """Of the modules of ``packages`` that are there by now: made where they are imported, before anybody can change them."""
        self._first = list(_parts((*packages, *_SHARED)))

    def still(self) -> bool:
        """Whether all of them are what they were."""
        return all(vars(thing).get(name) is value for thing, name, value in self._first)


def _parts(packages: Sequence[str]) -> Iterator[tuple[object, str, Any]]:
    for module in [m for n, m in sys.modules.items() if any(n == p or n.startswith(f"{p}.") for p in packages)]:
        for name, value in list(vars(module).items()):
            if isinstance(value, type) and value.__module__ == module.__name__:
                yield from ((value, n, v) for n, v in list(vars(value).items()) if not n.startswith("__abc"))
            if isinstance(value, _KINDS):
                yield module, name, value
