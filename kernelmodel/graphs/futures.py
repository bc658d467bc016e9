"""Which nodes of a control graph have equal futures: the coarsest partition by what they do and by what comes after.

A node is looked at again only when a node that it speaks of has left its class, and of a class that falls apart the
largest piece keeps the name (Hopcroft, "An n log n algorithm for minimizing states in a finite automaton", 1971): a long
straight text costs little more than its length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kernelmodel.graphs.shapes import Shapes

#: conditions over registers, and the location that they lead to, negative where the routine has returned
Way = tuple[tuple[Any, ...], int]
#: a shape, and for each of its registers the node that returned it, or -1, and which one it is
Found = tuple[int, tuple[tuple[int, str], ...]]


def futures(
    keys: Sequence[Any],
    ways: Sequence[Sequence[Way]],
    locations: Sequence[tuple[int, ...]],
    place: Mapping[str, int] | None = None,
    shapes: Shapes | None = None,
) -> list[int]:
    """The class of each node, two nodes of one class having equal futures.

    ``keys[n]`` is what node n does, as nested tuples and frozensets in which ``("reg", sort, "<name>.<i>")`` is the i-th
    value that a node returned: the node at ``place[name]``, by default the one of that number; other registers stand for
    themselves.  ``ways[n]`` are its edges; ``locations`` are sets of nodes.  ``shapes`` may be kept for the next graph.
    """
    if place is None:
        place = {str(n): n for n in range(len(keys))}
    return _Refinement(keys, ways, locations, place, shapes or Shapes()).classes


class _Refinement:
    def __init__(
        self, keys: Sequence[Any], ways: Sequence[Sequence[Way]], locations: Sequence[tuple[int, ...]],
        place: Mapping[str, int], shapes: Shapes,
    ) -> None:  # fmt: skip
        self._locations = locations

        def found(key: Any) -> Found:
            shape, names = shapes.of(key)
            registers = []
            for name in names:
                node, _, i = name.partition(".")
                registers.append((place.get(node, -1), i if node in place else name))
            return shape, tuple(registers)

        self._keys = [found(k) for k in keys]
        self._ways = [[([found(c) for c in conditions], to) for conditions, to in some] for some in ways]
        nodes = range(len(keys))
        self._speak_of: list[list[int]] = [[] for _ in nodes]
        for n in nodes:
            for other in self._spoken_of(n):
                self._speak_of[other].append(n)
        self.classes = [0] * len(keys)
        self._members = [set(nodes)]
        self._said: list[Any] = [None] * len(keys)
        dirty = set(nodes)
        while dirty:
            dirty = self._round(dirty)

    def _round(self, dirty: set[int]) -> set[int]:
        """Look at some nodes again, and the nodes that speak of those that leave their class by it."""
        for n, said in [(n, self._says(n)) for n in dirty]:
            self._said[n] = said
        again: set[int] = set()
        for name in sorted({self.classes[n] for n in dirty}):
            pieces: dict[Any, list[int]] = {}
            # nobody of whom the others speak has moved, so what they said is what they say
            for n in sorted(self._members[name]):
                pieces.setdefault(self._said[n], []).append(n)
            for piece in sorted(pieces.values(), key=len, reverse=True)[1:]:
                self._members[name].difference_update(piece)
                for n in piece:
                    self.classes[n] = len(self._members)
                    again.update(self._speak_of[n])
                self._members.append(set(piece))
        return again

    def _says(self, n: int) -> Any:
        ways = frozenset((frozenset(map(self._by_class, c)), self._location(to)) for c, to in self._ways[n])
        return self._by_class(self._keys[n]), ways

    def _location(self, number: int) -> Any:
        return number if number < 0 else frozenset(self.classes[n] for n in self._locations[number])

    def _by_class(self, found: Found) -> Any:
        shape, registers = found
        if not registers:
            return shape
        return shape, tuple((self.classes[n] if n >= 0 else -1, i) for n, i in registers)

    def _spoken_of(self, n: int) -> set[int]:
        registers = [r for _, some in (self._keys[n], *(f for c, _ in self._ways[n] for f in c)) for r in some]
        spoken = {node for node, _ in registers if node >= 0}
        return spoken.union(*(self._locations[to] for _, to in self._ways[n] if to >= 0))
