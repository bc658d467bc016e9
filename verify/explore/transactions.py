"""What a task does at once: a step is a transaction in the sense of Lipton, and what follows is worked out once.

An operation that moves to the right, then one of any kind, then operations that move to the left (movers.py): nobody else need
come between them.  The rest of a way from a location is kept for all values that agree where it looks at them (decisions.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from kernelmodel.graphs.folded_graph import RETURNED
from verify.explore.compiled import Compiler, Function
from verify.explore.decisions import Changes, Decisions, Noted
from verify.explore.identities import Identities
from verify.explore.model import Model, TaskModel
from verify.explore.moving import Condition, Moving
from verify.explore.observed import Observed, Place

#: where a way ends, as values or as what is written over those that it began with, and the bits of what it violates
End = tuple[list[int] | Changes, int]
#: a task, and locations at which it must not be
Away = tuple[TaskModel, frozenset[int]]


class Beginning(Protocol):
    """An operation of a location of a task, with the state checks that are judged after each step of its transactions."""

    task: TaskModel
    location: int
    which: int
    inline: list[int]


class Transactions:
    """What follows the operations of a model, with all that is performed at once."""

    def __init__(
        self, model: Model, movers: Moving | None, exact: bool, checks: Sequence[int],
        images: Callable[[TaskModel, int], list[Place]] | None,
    ) -> None:  # fmt: skip
        """``images``: of values of registers that tell nothing apart, one stands for all (observed.py); None keeps each."""
        self.model, self.movers, self.exact = model, movers, exact
        self.compiler = Compiler(model, exact)
        self.identities = Identities(model) if model.identities else None
        #: what stands for whom among the values of registers; None where each value is kept
        self.observed = Observed(model, self.compiler, images) if images is not None else None
        self.predicates = {i: self.compiler.predicate(model.state_checks[i].check.violation) for i in checks}
        #: bits of Model.premises()
        self.premises_seen = 0
        self._functions: dict[tuple[int, int], list[Function]] = {}
        #: what follows where a task goes on at once, by task, location and what is judged on the way
        self._ways: dict[tuple[int, ...], Decisions] = {}
        # whether a task is away from some locations is a value behind the columns and counts
        self.away: dict[Away, int] = {}
        for condition in movers.conditions.values() if movers else ():
            for task, bad in condition.away:
                self.away.setdefault((task, bad), model.extent + len(self.away))
        self.extent = model.extent + len(self.away)

    def functions(self, task: TaskModel, location: int) -> list[Function]:
        """The compiled operations of a location."""
        key = (task.number, location)
        if key not in self._functions:
            self._functions[key] = self.compiler.functions(task, task.at(location))
        return self._functions[key]

    def outcomes(self, beginning: Beginning, v: list[int], at_once: bool = False) -> list[End]:
        """What may follow ``v``, with bits of violated properties: new values, or of noted ones what is written over them.

        With ``at_once`` only operations that move to the left are performed.

        A step is a transaction in the sense of Lipton: operations that move to the right, then one of any kind, then
        operations that move to the left.
        """
        found: list[End] = []
        for w, target, bad, number in self.step(beginning.task, beginning.location, v, beginning.which):
            wrong = bad | self._judged(beginning, w)
            early = (
                not at_once
                and self.movers is not None
                and self.movers.right(beginning.task, beginning.location, number)
            )
            found += _after(w, wrong, None if bad else self._gone_on(beginning, w, target, early, 1))
        if self.observed is not None:
            found = [
                (self.observed.canonical(beginning.task, w) if isinstance(w, list) else w, wrong) for w, wrong in found
            ]
        return _different(found)

    def _gone_on(self, beginning: Beginning, v: list[int], location: int, early: bool, depth: int) -> list[End] | None:
        """The same as :meth:`_go_on`: what follows is worked out once for all values that agree where it looks at them."""
        if location == RETURNED:
            return None
        if not isinstance(v, Noted):
            return self._go_on(beginning, v, location, early, depth)
        key = (beginning.task.number, location, early, *beginning.inline)
        ways = self._ways.get(key)
        if ways is None:
            ways = self._ways[key] = Decisions()
        found = ways.find(v)
        if found is None:
            fresh = Noted(v, {}, {})
            found = [self._go_on(beginning, fresh, location, early, depth)]
            ways.learn(v, fresh.looked, found)
            v.looked.update(fresh.looked)
        ends: list[End] | None = found[0]
        return ends

    def _go_on(self, beginning: Beginning, v: list[int], location: int, early: bool, depth: int) -> list[End] | None:
        """Where a task comes to rest that goes on from ``v``: None if it rests right there, nothing if it has to wait.

        Where operations that only look may lead to one that waits, it rests before it looks, to choose again later.
        """
        if not (early or self._goes_on(beginning.task, location, v)):
            return None
        if depth > 1000:
            raise AssertionError("operations performed at once go round in a circle")
        task = beginning.task
        found: list[End] = []
        stepped = self.step(task, location, v)
        if len({number for *_, number in stepped}) < len(task.graph.locations[location]):
            return []
        for w, target, bad, number in stepped:
            right = self.movers is not None and self.movers.right(task, location, number)
            ends = None if bad else self._gone_on(beginning, w, target, early and right, depth + 1)
            if ends == [] and right and self.movers is not None and self.movers.only_looks(task, location, number):
                return []
            found += _after(w, bad | self._judged(beginning, w), ends)
        return _different(found)

    def step(
        self, task: TaskModel, location: int, values: list[int], only: int | None = None
    ) -> list[tuple[list[int], int, int, int]]:
        """What an operation at ``location``, or ``only`` one, makes of values: (values, location, violated, which)."""
        if self.identities is not None:
            self.identities.fill(values)
        result: list[tuple[list[int], int, int, int]] = []
        for number, function in enumerate(self.functions(task, location)):
            if only is not None and number != only:
                continue
            raw: list[Any] = []
            function(values, raw)
            for w, target, bad, seen, _ in raw:
                self.premises_seen |= seen
                if isinstance(w, Noted) and self.observed is not None:
                    result.append((self.observed.canonical(task, w), target, bad, number))
                elif self.identities is None:
                    result.append((w, target, bad, number))
                else:
                    result += [(x, target, bad, number) for x in self.identities.moves(values, w, task.number)]
        return result

    def condition(self, task: TaskModel, location: int) -> Condition | None:
        """On what condition the task goes on at once at a location; None if never."""
        if self.movers is None or location == RETURNED:
            return None
        return self.movers.conditions.get((task.number, location))

    def _goes_on(self, task: TaskModel, location: int, w: list[int]) -> bool:
        condition = self.condition(task, location)
        return (
            condition is not None
            and all(w[self.model.address[c]] == x for c, x in condition.values)
            and all(w[self.away[a]] for a in condition.away)
        )

    def _judged(self, beginning: Beginning, w: list[int]) -> int:
        wrong = 0
        for i in beginning.inline:
            if self.predicates[i](w):
                wrong |= 1 << self.model.state_checks[i].prop
        return wrong


def listed(end: list[int] | Changes) -> list[int]:
    """Where a way ends that began with plain values."""
    assert isinstance(end, list)
    return end


def _different(ends: list[End]) -> list[End]:
    """Where ways end, once each: a loop over CPUs in any order comes by as many ways as there are orders to one end."""
    if len(ends) < 2:
        return ends
    found: dict[Any, End] = {}
    for w, wrong in ends:
        found.setdefault((tuple(w) if isinstance(w, list) else frozenset(w.items()), wrong), (w, wrong))
    return list(found.values())


def _after(w: list[int], wrong: int, ends: list[End] | None) -> list[End]:
    """Where a way ends that has come to ``w``: there, or where it goes on to; ``wrong`` has been violated on it."""
    if not isinstance(w, Noted):
        return [(v, wrong | more) for v, more in ends] if ends else [(w, wrong)]
    if not ends:
        return [(w.changes, wrong)]
    before = w.changes
    return [({**before, **changes}, wrong | more) for changes, more in ends]  # type: ignore[dict-item]
