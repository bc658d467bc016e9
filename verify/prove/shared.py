"""Solvers that are shared: before most transitions of a part, most of what the lemmas say is the same.

What a lemma says where the part that moves stands at one step is a conjunction, and most of its conjuncts are about the
parts that stand still.  Those stay in a solver, in the form that it reasons with; what is only said of this step is put on
top and taken away again.  Which conjuncts are the same is seen by their being the same expression, so that a text in which
none is costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import z3

from verify.smt import Expr

#: a place at which no part ever stands: what lemmas say there they say at most places
NOWHERE = z3.IntVal(-(1 << 20))
#: that all parts but the one that moves are idle: an assumption
IDLE = "idle!"

Parts = dict[int, Expr]


class Shared:
    """Solvers by what they know."""

    def __init__(self, always: Iterable[Expr], idle: Callable[[str], Iterable[Expr]]) -> None:
        """``always`` is known of each state; ``idle``: what it means that all parts are, but for the one of that place."""
        self._always, self._idle = list(always), idle
        self._solvers: dict[tuple[str, frozenset[int]], z3.Solver] = {}
        self._common: dict[str, frozenset[int]] = {}
        #: with the formulas themselves, so that no other one is known by the number of one that is gone
        self._parts: dict[int, tuple[Expr, Parts]] = {}

    @contextmanager
    def knowing(
        self, place: str, lemmas: Mapping[str, Expr], nowhere: Callable[[], Mapping[str, Expr]], more: Iterable[Expr]
    ) -> Iterator[z3.Solver]:
        """A solver that knows lemmas, and ``more``, until the context ends.

        ``lemmas`` are cut down to where the part stands whose ``place`` that is, ``nowhere`` gives them for :data:`NOWHERE`.
        """
        if place not in self._common:
            self._common[place] = frozenset(i for f in nowhere().values() for i in self.parts(f))
        here: Parts = {}
        for formula in lemmas.values():
            here |= self.parts(formula)
        common = self._common[place].intersection(here)
        solver = self._solvers.get((place, common))
        if solver is None:
            solver = self._solvers[place, common] = z3.SimpleSolver()
            solver.add(*self._always, *(here[i] for i in sorted(common)))
            solver.add(*(z3.Implies(z3.Bool(IDLE), e) for e in self._idle(place)))
        solver.push()
        try:
            solver.add(*(e for i, e in here.items() if i not in common), *more)
            yield solver
        finally:
            solver.pop()

    def parts(self, formula: Expr) -> Parts:
        """The conjuncts of a formula, by what Z3 knows them by."""
        known = self._parts.get(formula.get_id())
        if known is not None:
            return known[1]
        found: Parts = {}
        todo = [formula]
        while todo:
            part = todo.pop()
            if z3.is_and(part):
                todo += reversed(part.children())
            else:
                found[part.get_id()] = part
        self._parts[formula.get_id()] = formula, found
        return found
