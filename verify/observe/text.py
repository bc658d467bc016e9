"""What a kernel's text lets a memory offlining do, as a probe sees it: which recorded functions are entered and left, and how.

The routine's control graph is followed as a nondeterministic automaton.  Its silent steps are the operations; a mark stands
where a recorded function is entered or returns.  What a task has written under a mutex that it still holds is known, so that
a drain that was told to drain every CPU drains every CPU; all else that the text reads may be anything.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kernelmodel import ops
from kernelmodel.cells import CELLS, cpu_there, initial, layout, mutex_owner
from kernelmodel.graphs.folded import fold
from kernelmodel.graphs.folded_graph import RETURNED, FoldedGraph, FoldedNode
from kernelmodel.ops import Op, Routine
from kernelmodel.terms import Cell, Term, const, constant, substitute, substitute_cells
from kernelmodel.text import KernelText
from verify.observe.probes import PROBES, Probe
from verify.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Mark:
    """A recorded function is entered, or returns (the name ends in ``_r``); what is known of its values, by field."""

    name: str
    values: tuple[tuple[str, int], ...] = ()

    def fits(self, name: str, fields: dict[str, int]) -> bool:
        """Whether an event may be this; a field that was not recorded says nothing."""
        return self.name == name and all(_alike(f, fields.get(f, x), x) for f, x in self.values)

    def __str__(self) -> str:
        probe = next(p for p in PROBES if self.name in (p.name, f"{p.name}_r"))
        values = ", ".join(f"{f}={x}" for f, x in self.values)
        if self.name == probe.name:
            return f"{probe.function}({values})"
        return f"{probe.function}() returns" + (f" {self.values[0][1]}" if self.values else "")


def _alike(field: str, seen: int, said: int) -> bool:
    # which error it is depends on what is not modelled
    return (seen < 0) == (said < 0) if field == "ret" else seen == said


@dataclass(frozen=True, slots=True)
class _At:
    """A location, and what is known there of cells and registers."""

    location: int
    cells: frozenset[tuple[Cell, int]] = frozenset()
    registers: frozenset[tuple[str, int]] = frozenset()


class Text:
    """A kernel's offline_pages() on a machine of some CPUs."""

    def __init__(self, kernel: type[KernelText], cpus: int) -> None:
        """ModelError where the routine cannot be folded."""
        self.kernel = kernel
        scenario = Scenario(cpus=cpus)
        made = _watched(kernel)(scenario.config)
        made.migrates = True
        spec = next(s for s in scenario.tasks() if s.kind.name == "offline")
        steady = {cpu_there(0).name, *(n for n, k in CELLS.items() if k.never_zero)}
        fixed = {c: initial(made.config, c) for c in layout(made.config) if c.name in steady}
        self._graph: FoldedGraph = fold(made, lambda: spec.make(made), (0,), fixed)
        self._closures: dict[_At, tuple[tuple[Mark, _At], ...]] = {}

    def begin(self) -> frozenset[_At]:
        """Before the routine is entered."""
        return frozenset(_At(t) for _, t in self._graph.entry)

    def after(self, states: Iterable[_At], name: str, fields: dict[str, int]) -> frozenset[_At]:
        """Where the text may be after an event; empty where it allows none such."""
        return frozenset(to for s in states for mark, to in self.next(s) if mark.fits(name, fields))

    def allowed(self, states: Iterable[_At]) -> list[Mark]:
        """What the text lets come next, in the order of the text."""
        return list(dict.fromkeys(mark for s in sorted(states, key=lambda s: s.location) for mark, _ in self.next(s)))

    def before(self, states: frozenset[_At], name: str, fields: dict[str, int]) -> list[Mark] | None:
        """The fewest marks that would have had to come first for an event to fit; None where it never does."""
        queue: list[tuple[_At, list[Mark]]] = [(s, []) for s in states]
        met = set(states)
        for state, way in queue:
            for mark, to in self.next(state):
                if mark.fits(name, fields):
                    return way
                if to not in met:
                    met.add(to)
                    queue.append((to, [*way, mark]))
        return None

    def next(self, state: _At) -> tuple[tuple[Mark, _At], ...]:
        """The marks that may come next, each with where the text is after it."""
        if state not in self._closures:
            self._closures[state] = tuple(self._find(state))
        return self._closures[state]

    def _find(self, state: _At) -> Iterator[tuple[Mark, _At]]:
        queue, met = [state], {state}
        for at in queue:
            if at.location == RETURNED:
                continue
            for number in self._graph.locations[at.location]:
                node = self._graph.nodes[number]
                for to in self._step(node, at):
                    if "mark" in node.op.info:
                        yield node.op.info["mark"], to
                    elif to not in met:
                        met.add(to)
                        queue.append(to)

    def _step(self, node: FoldedNode, at: _At) -> Iterator[_At]:
        here = {c: constant(x, CELLS[c.name].sort) for c, x in at.cells}
        given = {r: const(x) for r, x in at.registers}

        def now(term: Term) -> Term:
            return substitute(substitute_cells(term, here), given)

        # what is returned here is given anew in each round of a loop
        registers = {r: x for r, x in at.registers if not r.startswith(f"{node.number}.")}
        returned = {f"{node.number}.{i}": now(t) for i, t in enumerate(node.op.returns)}
        registers |= {r: t.args[0] for r, t in returned.items() if t.op == "const"}
        written = {c: now(t) for c, t in node.op.updates}
        cells = {c: x for c, x in at.cells if c not in written}
        cells |= {
            c: int(t.args[0])
            for c, t in written.items()
            if t.op == "const" and CELLS[c.name].guard not in ("", "section")
        }
        if node.op.does.releases is not None:
            cells = {c: x for c, x in cells.items() if mutex_owner(CELLS[c.name].guard) != node.op.does.releases}
        known = {r: const(x) for r, x in registers.items()}
        for conditions, target in node.edges:
            if not any(substitute(c, known).key == ("const", "bool", False) for c in conditions):
                yield _At(target, frozenset(cells.items()), frozenset(registers.items()))


# --- marks in the text ---


def _watched(kernel: type[KernelText]) -> type[KernelText]:
    """The kernel with a mark where a recorded function is entered and where it returns."""
    made = {p.routine: _marked(getattr(kernel, p.routine), p) for p in PROBES if _has(kernel, p)}
    return type(f"Watched{kernel.__name__}", (kernel,), {"__module__": kernel.__module__, **made})


def _has(kernel: type[KernelText], probe: Probe) -> bool:
    return bool(probe.routine) and callable(getattr(kernel, probe.routine, None))


def _marked(routine: Callable[..., Routine], probe: Probe) -> Callable[..., Routine]:
    parameters = list(inspect.signature(routine).parameters)

    def watched(self: KernelText, *given: Any) -> Routine:
        values = [(field, given[parameters.index(name) - 1]) for field, name in probe.compared if name in parameters]
        yield _mark(probe.name, values)
        result = yield from routine(self, *given)
        if probe.returns:
            yield _mark(f"{probe.name}_r", [("ret", result)] if probe.value else [])
        return result

    return watched


def _mark(name: str, values: Sequence[tuple[str, Any]]) -> Op:
    known = tuple((field, int(x)) for field, x in values if isinstance(x, int))
    # marks of other values are other operations: of equal ones a graph keeps one
    return ops.happens(f"{name} {known}", tag=f"{name} {known}", mark=Mark(name, known))
