"""From a solver's model to a counterexample: a simple model is preferred, replayed on the concrete machine, shortened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import z3

from kernelmodel.cells import CELLS, cached_limit, initial, layout
from kernelmodel.config import Config
from kernelmodel.memory_model import Memory
from kernelmodel.mmzone import MigrateType
from kernelmodel.terms import Cell
from kernelmodel.text import KernelText
from properties.property import Property
from verify.bmc.encode import Encoding
from verify.bmc.events import Event
from verify.bmc.fewest import at_most
from verify.counterexample import Counterexample
from verify.scenario import Scenario
from verify.shorten import shorten
from verify.smt import Expr
from verify.trace import MismatchError, Start, TraceStep, reaches, replay

#: asks the solver with further assumptions; returns its answer and, if satisfiable, a model
Check = Callable[..., tuple[z3.CheckSatResult, Any]]


def counterexample(
    kernel: type[KernelText],
    scenario: Scenario,
    encoding: Encoding,
    solver: z3.Solver,
    prop: Property,
    check: Check,
    memory: Memory = "sc",
    fewest: bool = False,
) -> Counterexample:
    """The counterexample in a satisfiable ``solver``; ``replayed`` is false if the concrete machine disagrees.

    ``fewest``: with as few acting tasks as there can be, and simple in every way; else the first one that is plain will do, if
    there is one, for it shows who has to act.
    """
    if not fewest:
        answer, model = check(solver, *_plain_wishes(encoding))
        if answer == z3.sat:
            found = _shown(kernel, scenario, encoding, prop, *_of(scenario, encoding, model, memory))
            if found.replayed:
                return found
    return _shown(kernel, scenario, encoding, prop, *_traced(scenario, encoding, solver, check, memory, fewest))


def _shown(
    kernel: type[KernelText], scenario: Scenario, encoding: Encoding, prop: Property, start: Start, steps: list[TraceStep]
) -> Counterexample:  # fmt: skip
    """What the concrete machine makes of a solver's run."""
    try:
        found = replay(kernel, scenario, start, steps, prop)
    except MismatchError as error:
        return Counterexample.unconfirmed(f"the solver's trace does not replay: {error}")
    if not found.violations:
        return Counterexample.unconfirmed("the solver's trace replays, and does not violate the property there")
    start, found = shorten(kernel, scenario, start, found, prop)
    cpu = encoding.piece.cpu if encoding.piece.cpu >= 0 and prop.name != "lock_order" else None
    return Counterexample.of(start, found, cpu)


def witnessed(
    kernel: type[KernelText],
    scenario: Scenario,
    encoding: Encoding,
    solver: z3.Solver,
    prop: Property,
    check: Check,
    memory: Memory = "sc",
) -> bool | None:
    """Whether a run in the ``solver`` is one of the whole scenario that reaches the premise, when replayed; None: it has none."""
    answer, model = check(solver, *_plain_wishes(encoding))
    if answer == z3.sat and reaches(kernel, scenario, *_of(scenario, encoding, model, memory), prop):
        return True
    if answer != z3.sat and check(solver)[0] != z3.sat:
        return None
    return reaches(kernel, scenario, *_traced(scenario, encoding, solver, check, memory), prop)


def _traced(
    scenario: Scenario, encoding: Encoding, solver: z3.Solver, check: Check, memory: Memory, fewest: bool = False
) -> tuple[Start, list[TraceStep]]:  # fmt: skip
    """A simple run in a satisfiable ``solver``: its start and its steps."""
    return _of(scenario, encoding, _simple_model(encoding, solver, check, fewest), memory)


def _of(scenario: Scenario, encoding: Encoding, model: Any, memory: Memory) -> tuple[Start, list[TraceStep]]:
    """The run in a model."""
    return replace(_start(scenario, encoding, model), memory=memory), _steps(encoding, model)


def _simple_model(encoding: Encoding, solver: z3.Solver, check: Check, fewest: bool) -> Any:
    """A model that has as many of the wishes as go together, the first ones first."""
    _, model = check(solver)
    kept: list[Expr] = []
    plain = list(_plain_wishes(encoding))
    wishes = [*plain, *_bold_wishes(encoding)]
    answer, better = check(solver, *plain)
    if answer == z3.sat:
        model, kept, wishes = better, plain, wishes[len(plain) :]
    for few in at_most(encoding, model) if fewest else ():
        answer, better = check(solver, *kept, few)
        if answer == z3.sat:
            model, kept = better, [*kept, few]
            break
    for wish in wishes:
        if z3.is_true(model.eval(wish, model_completion=True)):
            kept.append(wish)
            continue
        answer, better = check(solver, *kept, wish)
        if answer == z3.sat:
            kept.append(wish)
            model = better
    return model


def _bold_wishes(encoding: Encoding) -> Iterator[Expr]:
    """What cannot always be had: nothing goes wrong, lists are empty at the start, few tasks act."""
    faults = [v for e in encoding.events if e.node.op.external for v in e.choices.values()]
    yield z3.Not(z3.Or([False, *faults]))
    yield z3.And([v == 0 for c, v in encoding.start.items() if CELLS[c.name].where == "pcplist"])
    backwards = encoding.piece.tasks[::-1]
    for task in sorted(backwards, key=lambda t: (t.spec.kind.equal, t.spec.kind.holds_page)):
        events = encoding.by_task[task.spec.number]
        if events and not task.spec.kind.serves and not task.spec.kind.has_range:
            yield z3.Not(z3.Or([e.happened for e in events.values()]))


def _plain_wishes(encoding: Encoding) -> Iterator[Expr]:
    """What makes a counterexample easy to read: other CPUs quiet, small numbers, no odd types, no faults."""
    away = [
        v
        for e in encoding.events
        for c, v in e.reads.items()
        if CELLS[c.name].starts_as_sum and c not in encoding.piece.cells
    ]
    yield z3.And([v == 0 for v in away])
    yield encoding.nobody_migrates()
    yield z3.And([v == int(MigrateType.MOVABLE) for c, v in encoding.start.items() if CELLS[c.name].values == "type"])
    yield z3.And([p == int(MigrateType.MOVABLE) for name, p in encoding.parameters.items() if "migratetype" in name])
    yield z3.And([v == 0 for v in encoding.elsewhere.values()])
    high, batch, *greatest = (encoding.start.get(c) for c in _limits(encoding.piece.config))
    if high is not None and batch is not None:
        yield z3.And(batch <= high, high <= 6, batch <= 3, *(g <= 9 for g in greatest if g is not None))
    for e in encoding.events:
        if e.node.op.told.value == "pages" and e.choices:
            yield z3.Implies(e.happened, e.returned[0] == encoding.shown(e))
        if e.node.op.does.computes_limits and e.choices:
            new = dict(zip(e.node.op.does.computes_limits, e.choices.values(), strict=True))
            yield z3.And(new["batch"] <= new["high"], new["high"] <= 8)
    for e in encoding.events:
        if e.section is not None and e.section.cpu != encoding.piece.cpu and e.node.op.text.startswith("list_empty"):
            yield z3.Implies(e.happened, e.returned[0])
    lists = {c: v for c, v in encoding.start.items() if CELLS[c.name].where == "pcplist"}
    yield z3.And([v <= 2 for v in lists.values()])
    yield z3.And([v == 0 for c, v in lists.items() if c.index[2] != MigrateType.MOVABLE])


def _limits(config: Config) -> list[Cell]:
    """The cells with a zone's limits: high, batch, and the greatest high where that is one of its own."""
    found = [cached_limit(config, which, 0) for which in ("high", "batch", "high_max")]
    return [c for c in found if c is not None]


def _start(scenario: Scenario, encoding: Encoding, model: Any) -> Start:
    def number(expression: Expr | None, otherwise: int) -> int:
        return otherwise if expression is None else model.eval(expression, model_completion=True).as_long()

    cpu, config = max(encoding.piece.cpu, 0), scenario.config
    start = {c: number(v, 0) for c, v in encoding.start.items()}
    lists = [
        (int(c.index[1]), int(c.index[2]), int(c.index[3]), n)
        for c, n in sorted(start.items())
        if CELLS[c.name].where == "pcplist" and n
    ]
    for c, n in _first_counts_elsewhere(encoding, model).items():
        lists.append((c, int(MigrateType.MOVABLE), 0, n))
    block_of, type_of = (
        {
            s.name: number(encoding.parameters.get(s.register(what)), otherwise)
            for s in scenario.tasks()
            if what in s.kind.inputs
        }
        for what, otherwise in (("block", 0), ("migratetype", int(MigrateType.MOVABLE)))
    )
    there = [t for t in encoding.piece.tasks if t.spec.kind.on_lists and not t.spec.kind.serves]
    here = any(
        z3.is_true(model.eval(e.happened)) for t in there for e in encoding.by_task[t.spec.number].values()
    )  # fmt: skip
    # where nobody works on the lists of the followed CPU, its column is free for another task
    elsewhere = (cpu + min(2, config.nr_cpus - (1 if here else 0))) % config.nr_cpus
    placed = dict(encoding.piece.places)
    in_use = [int(c.index[0]) for c, n in sorted(start.items()) if CELLS[c.name].in_use == "unowned" for _ in range(n)]
    limits: dict[Cell, int] = {}
    for cell, otherwise in zip(_limits(encoding.piece.config), (4, 2, 5), strict=False):
        least = limits.get(Cell(CELLS[cell.name].starts_above, cell.index), 0)
        limits[cell] = start.get(cell, max(otherwise, least))
    return Start(
        limits=tuple(limits.values()),
        block_types=tuple(start.get(c, initial(config, c)) for c in layout(config) if CELLS[c.name].values == "type"),
        lists=tuple(lists),
        cpu_of={
            s.name: placed.get(
                s.name, cpu if s.kind.on_lists else (cpu + 1) % config.nr_cpus if s.kind.has_range else elsewhere
            )
            for s in scenario.tasks()
            if not s.kind.serves
        },
        block_of=block_of,
        type_of=type_of,
        in_use=(*in_use, *[0] * (scenario.migrations - len(in_use))),
    )


def _first_counts_elsewhere(encoding: Encoding, model: Any) -> dict[int, int]:
    """What the first look at another CPU's count saw: as many pages are put there."""
    found: dict[int, int] = {}
    for e in _in_order(encoding, model):
        for c, v in e.reads.items():
            if CELLS[c.name].starts_as_sum and c not in encoding.piece.cells:
                found.setdefault(int(c.index[1]), min(model.eval(v, model_completion=True).as_long(), 8))
    return {c: n for c, n in found.items() if n}


def _in_order(encoding: Encoding, model: Any) -> list[Event]:
    happened = [e for e in encoding.events if z3.is_true(model.eval(e.happened, model_completion=True))]
    moments = {e: model.eval(e.moment, model_completion=True).as_long() for e in happened if e.timed}
    first = min(moments.values(), default=0) - 1
    last = {e: max((moments[b] for b in e.since if b in moments), default=first) for e in happened}
    return sorted(happened, key=lambda e: (last[e], e.task.spec.number, e.place))


def _steps(encoding: Encoding, model: Any) -> list[TraceStep]:
    found = []
    for e in _in_order(encoding, model):
        elsewhere = e.task.spec.kind.serves and e.task.cpu != encoding.piece.cpu
        if elsewhere:
            continue
        choices = {}
        for name, v in e.choices.items():
            value = model.eval(v, model_completion=True)
            choices[name] = value.as_long() if z3.is_int(v) else z3.is_true(value)
        found.append(TraceStep(e.task.spec.name.partition("@")[0], e.node.op.text, choices))
    return found
