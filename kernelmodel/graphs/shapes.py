"""Nested keys apart from the registers in them: what two keys have in common that differ in registers only.

A *shape* is a number for a key with holes where registers are; with it go the registers' names in the order of the holes.
Keys are compared by shape and registers then, whatever becomes of the registers, and each is walked through once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

#: the number of a key with holes, and the registers in the holes
Shape = tuple[int, tuple[str, ...]]
#: more keys than this are not kept from one graph to the next
_MOST = 500_000


class Shapes:
    """The shapes of keys: nested tuples and frozensets in which ``("reg", sort, name)`` is a register."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        # keys, and what has one, are known by their addresses as long as they are kept here
        self._known: dict[int, tuple[Any, Shape]] = {}
        self._keys: dict[int, tuple[Any, Any]] = {}

    def key(self, thing: T, make: Callable[[T], Any]) -> Any:
        """The key of something, made once."""
        found = self._keys.get(id(thing))
        if found is None:
            found = self._keys[id(thing)] = (thing, make(thing))
        return found[1]

    def forget(self) -> None:
        """Begin anew where too much is kept."""
        if len(self._known) > _MOST:
            self._numbers, self._known, self._keys = {}, {}, {}

    def of(self, key: Any) -> Shape:
        """The shape of a key."""
        if not isinstance(key, (tuple, frozenset)):
            return self._number(("leaf", key)), ()
        known = self._known.get(id(key))
        if known is None:
            known = self._known[id(key)] = (key, self._find(key))
        return known[1]

    def _find(self, key: Any) -> Shape:
        if len(key) == 3 and isinstance(key, tuple) and key[0] == "reg" and isinstance(key[2], str):
            return self._number(("reg", key[1])), (key[2],)
        parts = [self.of(k) for k in key]
        if isinstance(key, frozenset):
            # parts of one shape stay in some order, by which more is told apart and never less
            parts.sort()
        kind = "set" if isinstance(key, frozenset) else "tuple"
        return self._number((kind, *(n for n, _ in parts))), tuple(r for _, names in parts for r in names)

    def _number(self, what: Any) -> int:
        return self._numbers.setdefault(what, len(self._numbers))
