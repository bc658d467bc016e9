"""Registers that tell nothing apart: of a task's values at a location only what its terms make of them counts.

What C keeps in one local variable is a term over several registers here: how many pages to free follows from limits, a
count and what adapts, and all of these are live until the last page is freed.  Two valuations of the registers of a
location are *alike* if each term in which the operations from there on look at them has the same value, whatever values
the cells and choices in it have.  Then the same operations may follow, with the same effects, returns and judgements: the
two states are bisimilar (Milner 1989; an abstraction of data as in Bustan and Grumberg 2003), and one stands for both.

A term is looked at as a whole where its table is small, and otherwise part by part, which tells more apart and never less.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from kernelmodel.cells import CELLS
from kernelmodel.graphs.folded_graph import RETURNED, FoldedNode, registers_of
from kernelmodel.terms import Cell, Term, atoms, substitute
from verify.explore.compiled import Compiler
from verify.explore.model import Model, TaskModel, returns_of

#: a location of a task, with the columns of its registers in an order that means the same at each of some places
Values = TypeVar("Values", bound=list[int])
Place = tuple[TaskModel, int, Sequence[int]]
#: by place and values those that stand for them, and by place and what is looked at the first that were found
Chosen = tuple[
    dict[tuple[int, int], dict[tuple[int, ...], tuple[int, ...]]],
    dict[tuple[int, int, tuple[int, ...]], tuple[int, ...]],
]
#: a table of a term has at most so many entries
_LARGEST_TABLE = 64


class Observed:
    """For each location of each task the terms in which its registers are looked at, and who stands for whom."""

    def __init__(self, model: Model, compiler: Compiler, places: Callable[[TaskModel, int], list[Place]]) -> None:
        """``places``: a location and those that are its images under the renamings that a search makes use of."""
        self.model, self.compiler, self.places = model, compiler, places
        self._terms: dict[int, list[list[Term]]] = {}
        self._looks: dict[tuple[int, int], Callable[[list[int]], tuple[int, ...]]] = {}
        self._stands: dict[tuple[int, int], dict[tuple[int, ...], tuple[int, ...]]] = {}
        self._first: dict[tuple[int, int, tuple[int, ...]], tuple[int, ...]] = {}
        self._columns: dict[tuple[int, int], Sequence[int]] = {}

    def chosen(self) -> Chosen:
        """Who stands for whom."""
        return self._stands, self._first

    def take(self, chosen: Chosen) -> None:
        """Have those stand for others that stood for them in an equal model, before anybody is looked for."""
        self._stands, self._first = chosen

    def canonical(self, task: TaskModel, v: Values) -> Values:
        """The values ``v``, or others with registers of the task that stand for its own."""
        location = v[task.location]
        if location == RETURNED:
            return v
        here = (task.number, location)
        if here not in self._columns:
            found = self.places(task, location)
            self._columns[here] = next(c for t, x, c in found if (t.number, x) == here)
            self._stands.setdefault(here, {})
        columns = self._columns[here]
        if not columns:
            return v
        own = tuple([v[c] for c in columns])
        stands = self._stands[here]
        if own not in stands:
            stands[own] = self._find(here, len(v), own)
        other = stands[own]
        if other == own:
            return v
        w: Values = v[:]  # type: ignore[assignment]
        for c, x in zip(columns, other, strict=True):
            w[c] = x
        return w

    def _find(self, here: tuple[int, int], width: int, own: tuple[int, ...]) -> tuple[int, ...]:
        """Who stands for the values ``own``: the first that were found to be alike, here or at an image of this place."""
        tasks = {t.number: t for t in self.model.tasks}
        stands = own
        for task, location, columns in self.places(tasks[here[0]], here[1]):
            blank = [0] * width
            for c, x in zip(columns, own, strict=True):
                blank[c] = x
            # an image's classes are images of the classes here; were they not, one would only stand for itself
            key = (task.number, location, self._look(task, location)(blank))
            first = self._first.setdefault(key, own)
            if (task.number, location) == here:
                stands = first
        return stands

    # --- what is looked at ---

    def _look(self, task: TaskModel, location: int) -> Callable[[list[int]], tuple[int, ...]]:
        """The values of the terms of a location, as a function of a row's values."""
        key = (task.number, location)
        if key not in self._looks:
            if task.number not in self._terms:
                self._terms[task.number] = self._observed(task)
            parts: dict[str, None] = {}
            for term in self._terms[task.number][location]:
                for part in self._tables(term, task):
                    parts.setdefault(part)
            body = "".join(f"{part}, " for part in parts)
            namespace: dict[str, Any] = {}
            exec(f"def f(v): return ({body})", namespace)
            self._looks[key] = namespace["f"]
        return self._looks[key]

    def _tables(self, term: Term, task: TaskModel) -> Iterable[str]:
        """Expressions over the registers that say all that a term makes of them."""
        if not _others(term):
            return
        cells = sorted({a.args[0] for a in atoms(term, "cell")} - self._constants(term))
        values = [self.model.analysis.of(c) for c in cells]
        choices = sorted({(a.args[0], a.sort) for a in atoms(term, "choice")})
        domains: list[Sequence[int]] = [(0, 1) if sort == "bool" else range(self._largest + 1) for _, sort in choices]
        known = [sorted(int(x) for x in found) for found in values if found is not None]
        if len(known) < len(cells) or math.prod(map(len, (*domains, *known))) > _LARGEST_TABLE:
            for part in term.args:
                if isinstance(part, Term):
                    yield from self._tables(part, task)
            return
        for assignment in itertools.product(*domains, *known):
            picked = {name: str(x) for (name, _), x in zip(choices, assignment, strict=False)}
            in_cells = dict(zip(cells, assignment[len(choices) :], strict=True))
            yield f"int({self.compiler.source(term, task, picked, in_cells)})"

    def _constants(self, term: Term) -> set[Cell]:
        return {a.args[0] for a in atoms(term, "cell") if self.model.analysis.constant(a.args[0]) is not None}

    @property
    def _largest(self) -> int:
        """No choice of a search is larger; one above the largest limit stands for all that are."""
        return 1 + self.model.finite.largest(CELLS[name].limit for name in self.model.config.limits)

    def _observed(self, task: TaskModel) -> list[list[Term]]:
        """For each location the terms in which registers are looked at there or later, before they are given new values."""
        graph = task.graph
        own = {n: self._looked_at(task, graph.nodes[n]) for numbers in graph.locations for n in numbers}
        found: list[dict[int, Term]] = [{} for _ in graph.locations]
        again = True
        while again:
            again = False
            for location in range(len(graph.locations) - 1, -1, -1):
                new: dict[int, Term] = {}
                for n in graph.locations[location]:
                    node = graph.nodes[n]
                    gone = {f"{node.number}.{i}" for i in range(len(node.op.returns))}
                    terms = list(own[n])
                    terms += [t for _, x in node.edges if x != RETURNED for t in found[x].values()]
                    for term in terms:
                        for part in _without(term, gone):
                            new[id(part)] = part
                if len(new) != len(found[location]):
                    found[location], again = new, True
        return [list(terms.values()) for terms in found]

    def _looked_at(self, task: TaskModel, node: FoldedNode) -> list[Term]:
        op = node.op
        returned = {f"{node.number}.{i}": t for i, t in enumerate(returns_of(op))}
        terms = [op.guard, op.where, op.counted, *(t for c, t in op.updates if c in self.model.address)]
        kept = {r for _, x in node.edges if x != RETURNED for r in task.live[x]}
        terms += [t for r, t in returned.items() if r in kept]
        terms += [substitute(c, returned) for conditions, _ in node.edges for c in conditions]
        for _, check in self.model.step_checks(op):
            terms += [check.premise, check.violation]
        return terms


def _others(term: Term) -> set[str]:
    """The registers of a term that are columns."""
    return registers_of((term,)) - {"me"}


def _without(term: Term, gone: set[str]) -> list[Term]:
    """The largest parts of a term that have registers and none of ``gone``."""
    others = _others(term)
    if not others - gone:
        return []
    if not others & gone:
        return [term]
    return [p for a in term.args if isinstance(a, Term) for p in _without(a, gone)]
