"""What an operation at a location of a task looks at and writes, with constants and the task's number put in.

Some cells only *accuse*: nothing reads them but violations of single steps, and these only the more are true the more of
these cells are true.  Of what is written to such a cell it is enough that no accusation is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from kernelmodel.cells import CELLS, names
from kernelmodel.graphs.folded_graph import FoldedNode
from kernelmodel.terms import Cell, Term, atoms, const, lnot, lor, substitute, substitute_cells
from verify.explore.model import Model, TaskModel, cells_in, returns_of
from verify.explore.values import conjuncts

#: cells taken to be 0 always; a search that finds one that is not has to be done again without (see solve.py)
ASSUMED_ZERO = tuple(sorted(names(lambda kind: kind.usually_zero)))
Facts = dict[Cell, int]


@dataclass(slots=True, eq=False)
class Footprint:
    """An operation at a location of a task, with constants and its task's number put in."""

    task: TaskModel
    location: int
    node: FoldedNode
    guard: Term
    needs: Facts
    reads: frozenset[Cell]
    adds: dict[Cell, Term]
    joins: dict[Cell, Term]
    sets: dict[Cell, Term]
    seen: list[Term]
    #: what it sets cells to that only accuse; not among ``seen``
    accusing: dict[Cell, Term]
    violations: list[Term]
    #: cells that it changes
    writes: frozenset[Cell] = field(init=False)
    #: cells that it reads, or that a property which judges it does
    watches: frozenset[Cell] = field(init=False)

    def __post_init__(self) -> None:
        """What is asked for often is computed once."""
        self.writes = frozenset((*self.adds, *self.joins, *self.sets))
        self.watches = self.reads | cells_in(self.violations)


class Footprints:
    """The footprints of all operations of a model, by location, by node, and by the cells that they touch."""

    def __init__(self, model: Model, assumed_zero: Iterable[str] = ASSUMED_ZERO) -> None:
        """``assumed_zero``: names of cells that are taken to be 0 always."""
        self.model = model
        self.assumed = frozenset(assumed_zero)
        self.known = {
            c: Term("const", (v,), CELLS[c.name].sort)
            for c in model.initial_values
            if (v := model.analysis.constant(c)) is not None
        }
        self.known |= {c: const(0) for c in model.initial_values if c.name in self.assumed}
        self.accusers = accusers(model)
        self.prints: list[Footprint] = []
        self.at: dict[tuple[int, int], list[Footprint]] = {}
        for task in model.tasks:
            for location, numbers in enumerate(task.graph.locations):
                made = [self._footprint(task, location, task.graph.nodes[n]) for n in numbers]
                self.at[task.number, location] = made
                self.prints += made
        self._before: dict[tuple[int, int], list[tuple[int, Footprint]]] = {}
        self._of_node: dict[tuple[int, int], list[Footprint]] = {}
        for f in self.prints:
            self._of_node.setdefault((f.task.number, f.node.number), []).append(f)
            for _, target in f.node.edges:
                self._before.setdefault((f.task.number, target), []).append((f.location, f))
        self.writers: dict[Cell, list[Footprint]] = {}
        self.readers: dict[Cell, list[Footprint]] = {}
        for f in self.prints:
            for c in f.writes:
                self.writers.setdefault(c, []).append(f)
            for c in f.watches:
                self.readers.setdefault(c, []).append(f)

    def _closed(self, term: Term, task: TaskModel | None) -> Term:
        if task is not None:
            term = substitute(term, {"me": const(task.number)})
        return substitute_cells(term, self.known)

    def _footprint(self, task: TaskModel, location: int, node: FoldedNode) -> Footprint:
        op = node.op
        guard = self._closed(op.guard, task)
        adds: dict[Cell, Term] = {}
        joins: dict[Cell, Term] = {}
        sets: dict[Cell, Term] = {}
        accusing: dict[Cell, Term] = {}
        seen = [guard, *(self._closed(t, task) for t in (op.where, op.counted, *returns_of(op)))]
        for cell, term in op.updates:
            if cell in self.known or cell not in self.model.address:
                continue
            new = self._closed(term, task)
            delta = _delta(cell, new)
            if delta is not None and not any(a.args[0] == cell for a in atoms(delta, "cell")):
                if delta.op != "const" or delta.args[0]:
                    adds[cell] = delta
                    seen.append(delta)
            elif new.op == "or" and any(t.op == "cell" and t.args[0] == cell for t in new.args):
                joins[cell] = lor(*(t for t in new.args if not (t.op == "cell" and t.args[0] == cell)))
                seen.append(joins[cell])
            elif not (new.op == "cell" and new.args[0] == cell):
                sets[cell] = new
                if cell in self.accusers:
                    accusing[cell] = new
                else:
                    seen.append(new)
        checks = [c for _, c in self.model.step_checks(op)]
        violations = [self._closed(c.violation, task) for c in checks]
        # where nothing can be violated, when the premise is reached is all that there is to see
        violations += [
            self._closed(c.premise, task) for c, v in zip(checks, violations, strict=True) if v.op == "const"
        ]
        violations = [v for v in violations if v.op != "const"]
        return Footprint(
            task,
            location,
            node,
            guard,
            dict(literals(guard)),
            frozenset(cells_in((*seen, *accusing.values()))),
            adds,
            joins,
            sets,
            seen,
            accusing,
            violations,
        )


def accusers(model: Model) -> frozenset[Cell]:
    """The cells that only accuse: the ghosts that nothing reads but what is judged of a step, each never to excuse it."""
    found = {
        c for c in model.address if c in model.initial_values and CELLS[c.name].ghost and CELLS[c.name].sort == "bool"
    }
    found -= cells_in(s.check.violation for s in model.state_checks)
    written: list[tuple[Cell, Term]] = []
    for node in (n for t in model.tasks for n in t.graph.kept):
        op = node.op
        found -= cells_in((op.guard, op.where, op.counted, *returns_of(op), *(c for cs, _ in node.edges for c in cs)))
        for _, check in model.step_checks(op):
            found -= {c for c in cells_in([check.violation]) if not _rises(check.violation, c)}
        written += op.updates
    while True:
        read = {r for c, t in written for r in cells_in([t]) & found if c not in found or not _rises(t, r)}
        if not read:
            return frozenset(found)
        found -= read


def _rises(term: Term, cell: Cell) -> bool:
    """Whether a term that is true stays so where the cell becomes true, as far as its form tells."""
    if term.op in ("cell", "const"):
        return True
    if term.op in ("and", "or"):
        return all(_rises(t, cell) for t in term.args)
    if term.op == "ite":
        return cell not in cells_in([term.args[0]]) and all(_rises(t, cell) for t in term.args[1:])
    return cell not in cells_in([term])


def _delta(cell: Cell, term: Term) -> Term | None:
    """What is added where ``term`` is ``cell + something`` or ``cell - something``."""
    if term.op not in "+-" or len(term.args) != 2:
        return None
    a: Term = term.args[0]
    b: Term = term.args[1]
    if a.op == "cell" and a.args[0] == cell:
        return b if term.op == "+" else const(0) - b
    inner = _delta(cell, a)
    if inner is None:
        return None
    return inner + b if term.op == "+" else inner - b


def literals(term: Term) -> Iterator[tuple[Cell, int]]:
    """The conjuncts of ``term`` that give a cell's value."""
    for part in conjuncts(term):
        if part.op == "cell" and part.sort == "bool":
            yield part.args[0], 1
        elif part.op == "not" and part.args[0].op == "cell":
            yield part.args[0].args[0], 0
        elif part.op == "==":
            a, b = part.args
            if a.op == "cell" and b.op == "const":
                yield a.args[0], int(b.args[0])
        elif part.op == "not" and part.args[0].op in ("and", "or"):
            inner = part.args[0]
            if inner.op == "or":
                for x in inner.args:
                    yield from literals(lnot(x))
