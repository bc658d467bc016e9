"""The unreduced model for SPIN: one process, one option of its loop for each way in which a step may go.

Pages are counted per pageblock and place, as in the reduced searches, and each operation is one ``d_step``, so that SPIN
stores the states that a search without movers and symmetries counts, and one more: that before the initial states.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from kernelmodel.cells import CELLS
from kernelmodel.graphs.folded_graph import RETURNED, FoldedNode
from kernelmodel.ops import Op
from kernelmodel.terms import Cell, Notation, Term, const, constant, replaced, substitute, substitute_cells, visit
from kernelmodel.text import KernelText
from properties.property import Property
from verify.command import write_text
from verify.explore.finite import Finite
from verify.explore.model import Model, TaskModel, cells_in, returns_of
from verify.explore.search import Limits, Search, initial_rows
from verify.explore.table import Transitions
from verify.explore.values import choice_values

_PROMELA = Notation(conditional="({0} -> {1} : {2})", least="(({0}) <= ({1}) -> ({0}) : ({1}))")


def write_promela(path: str, kernel: type[KernelText], finite: Finite, properties: list[Property]) -> str:
    """Write the model; returns what to expect of SPIN, in words."""
    model = Model(kernel, finite, properties)
    text = promela(model)
    write_text(path, text)
    run = f"spin -a {path} && gcc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m1000000"
    return f"{text.count(':: d_step')} options; {run}"


def expected_states(model: Model) -> int:
    """The number of states that SPIN stores of ``promela(model)``: ours, and the one before the initial states."""
    return Search(Transitions(model), Limits(), 0).run(initial_rows(model, False)).states + 1


def promela(model: Model) -> str:
    """The model as Promela text."""
    printer = _Printer(model)
    names = [f"/* {i}: {_column(c)} */" for i, c in enumerate(model.columns)]
    widest = max(
        (len(n.op.updates) + len(returns_of(n.op)) for t in model.tasks for n in t.graph.kept),
        default=1,
    )
    lines = [
        f"/* {model.kernel.name}: {model.finite.bound(model.kernel)} */",
        *(f"short c{i}; {name}" for i, name in enumerate(names)),
        f"hidden short fresh[{widest + 1}];",
        "",
        "active proctype kernel()",
        "{",
        "    if",
    ]
    for row, _ in model.initial_rows(False):
        lines.append(f"    :: d_step {{ {'; '.join(f'c{i} = {x}' for i, x in enumerate(row) if x) or 'skip'} }}")
    lines += ["    fi;", "    do"]
    for task in model.tasks:
        for location in range(len(task.graph.locations)):
            for node in task.at(location):
                lines += printer.options(task, location, node)
    done = " && ".join(
        f"c{t.location} == {t.graph.entry[0][1] if t.spec.kind.serves else RETURNED}" for t in model.tasks
    )
    lines += [f"    :: d_step {{ ({done}) -> skip }} /* everybody has finished: no deadlock */", "    od", "}", ""]
    return "\n".join(lines)


def _column(column: object) -> str:
    return str(column) if isinstance(column, Cell) else " ".join(map(str, column)) if isinstance(column, tuple) else ""


class _Printer:
    def __init__(self, model: Model) -> None:
        self.model = model

    def options(self, task: TaskModel, location: int, node: FoldedNode) -> Iterator[str]:
        """The options of one operation."""
        op = node.op
        for picked in self._choices(op):
            parts = [f"c{task.location} == {location}", self._text(self.model.guard(task, node, True), task, {})]
            if op.choices and not op.does.computes_limits:
                parts += [self._text(op.where, task, picked), self._text(op.counted, task, picked)]
            returned = {f"{node.number}.{i}": _picked(t, picked) for i, t in enumerate(returns_of(op))}
            checks = self._judged(op, task, picked)
            for conditions, target in node.edges:
                ways = [self._text(substitute(c, returned), task, picked) for c in conditions]
                guard = " && ".join(p for p in (*parts, *ways) if p != "1")
                if "0" not in ways:
                    body = [*checks, *self._changes(task, node, target, returned, picked), *self._states(op)]
                    yield f"    :: d_step {{ ({guard}) -> {'; '.join(body)} }} /* {task.spec.name}: {_safe(op.text)} */"

    def _choices(self, op: Op) -> Iterator[dict[str, int]]:
        names = [c.args[0] for c in op.choices]
        values = choice_values(op, self.model.analysis.of, {}, self.model.finite.pages)
        if op.does.computes_limits:
            for limits in self.model.finite.limits_for(op.does.computes_limits):
                yield dict(zip(names, limits, strict=True))
        else:
            for combination in itertools.product(*(values[n] for n in names)):
                yield {n: int(x) for n, x in zip(names, combination, strict=True)}

    def _changes(
        self, task: TaskModel, node: FoldedNode, target: int, returned: Mapping[str, Term], picked: Mapping[str, int]
    ) -> list[str]:
        live = task.live[target] if target != RETURNED else frozenset()
        new: dict[int, str] = {}
        for cell, term in node.op.updates:
            if cell in self.model.address:
                new[self.model.address[cell]] = self._text(term, task, picked)
        kept = {task.slots[r]: r for r in live if r in task.slots}
        for slot in sorted(set(task.slots.values())):
            register = kept.get(slot)
            if register is None:
                new[slot] = "0"
            elif register in returned:
                new[slot] = self._text(returned[register], task, picked)
        # updates are simultaneous: first all values, then all stores
        plain = {a: x for a, x in new.items() if x.lstrip("-").isdigit()}
        rest = {a: x for a, x in new.items() if a not in plain}
        first = [f"fresh[{i}] = {x}" for i, x in enumerate(rest.values())]
        stores = [f"c{a} = fresh[{i}]" for i, a in enumerate(rest)]
        resets = [f"fresh[{i}] = 0" for i in range(len(rest))]
        return [*first, *stores, *resets, *(f"c{a} = {x}" for a, x in plain.items()), f"c{task.location} = {target}"]

    def _judged(self, op: Op, task: TaskModel, picked: Mapping[str, int]) -> list[str]:
        found = []
        for _, check in self.model.step_checks(op):
            text = self._text(check.violation, task, picked)
            if text != "0":
                found.append(f"assert(!({text}))")
        return found

    def _states(self, op: Op) -> list[str]:
        """What must hold after an operation: the state properties of which it changes a cell."""
        written = {c for c, _ in op.updates}
        found = []
        for check in (c for c in self.model.state_checks if not c.rest):
            text = self._text(check.check.violation, None, {})
            if text != "0" and written & cells_in([check.check.violation]):
                found.append(f"assert(!({text}))")
        return found

    def _text(self, term: Term, task: TaskModel | None, picked: Mapping[str, int]) -> str:
        term = _picked(term, picked)
        if task is not None:
            term = substitute(term, {"me": const(task.number)})
        return self._print(term, task)

    def _print(self, term: Term, task: TaskModel | None) -> str:

        def leaf(atom: Term) -> str:
            if atom.op == "const":
                return str(int(atom.args[0]))
            if atom.op == "cell":
                return f"c{self.model.address[atom.args[0]]}"
            assert task is not None
            return f"c{task.slots[atom.args[0]]}"

        return visit(self._known(term), leaf, _PROMELA)

    def _known(self, term: Term) -> Term:
        """The term in which cells that keep one value are constants."""
        values = {c: self.model.analysis.constant(c) for c in cells_in([term])}
        kept = {c: constant(v, CELLS[c.name].sort) for c, v in values.items() if v is not None}
        return substitute_cells(term, kept)


def _picked(term: Term, picked: Mapping[str, int]) -> Term:
    """``term`` with its choices made."""

    def leaf(atom: Term) -> Term:
        return constant(picked[atom.args[0]], atom.sort) if atom.op == "choice" else atom

    return replaced(term, leaf)


def _safe(text: str) -> str:
    return text.replace("/*", "").replace("*/", "")
