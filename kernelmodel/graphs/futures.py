"""Which nodes of a control graph have equal futures: the coarsest partition by what they do and by what comes after.

A node is looked at again only when a node that it speaks of has left its class, and of a class that falls apart the
largest piece keeps the name (Hopcroft, "An n log n algorithm for minimizing states in a finite automaton", 1971): a long
straight text costs little more than its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

#: conditions over registers, and the location that they lead to, negative where the routine has returned
Way = tuple[tuple[Any, ...], int]


def futures(keys: Sequence[Any], ways: Sequence[Sequence[Way]], locations: Sequence[tuple[int, ...]]) -> list[int]:
    """The class of each node, two nodes of one class having equal futures.

    ``keys[n]`` is what node n does, as nested tuples and frozensets in which ``("reg", sort, "<node>.<i>")`` is the i-th
    value that a node returned; ``ways[n]`` are its edges; ``locations`` are sets of nodes.
    """
    return _Refinement(keys, ways, locations).classes


class _Refinement:
    def __init__(
        self, keys: Sequence[Any], ways: Sequence[Sequence[Way]], locations: Sequence[tuple[int, ...]]
    ) -> None:
        self._keys, self._ways, self._locations = keys, ways, locations
        self._named: dict[int, bool] = {}
        nodes = range(len(keys))
        self._speak_of: list[list[int]] = [[] for _ in nodes]
        for n in nodes:
            for other in sorted(set(self._spoken_of(n))):
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

    def _by_class(self, key: Any) -> Any:
        if not isinstance(key, (tuple, frozenset)) or not self._names_a_register(key):
            return key
        if isinstance(key, frozenset):
            return frozenset(map(self._by_class, key))
        if _is_register(key):
            number, _, i = key[2].partition(".")
            return ("reg", key[1], self.classes[int(number)], i)
        return tuple(map(self._by_class, key))

    def _names_a_register(self, key: Any) -> bool:
        """Whether a register is named in a key; keys live as long as this object, so they are known by their address."""
        if not isinstance(key, (tuple, frozenset)):
            return False
        found = self._named.get(id(key))
        if found is None:
            found = self._named[id(key)] = _is_register(key) or any(map(self._names_a_register, key))
        return found

    def _spoken_of(self, n: int) -> Iterator[int]:
        yield from self._registers(self._keys[n])
        for conditions, to in self._ways[n]:
            yield from self._registers(conditions)
            if to >= 0:
                yield from self._locations[to]

    def _registers(self, key: Any) -> Iterator[int]:
        if self._names_a_register(key):
            if _is_register(key):
                yield int(key[2].partition(".")[0])
            else:
                for part in key:
                    yield from self._registers(part)


def _is_register(key: Any) -> bool:
    return (
        len(key) == 3 and isinstance(key, tuple) and key[0] == "reg" and isinstance(key[2], str)
        and key[2].partition(".")[0].isdigit()
    )  # fmt: skip
