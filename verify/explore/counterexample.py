"""From a path of the search to a trace that the concrete model has replayed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from kernelmodel.cells import CELLS, cpu_there, layout, stops_others
from kernelmodel.memory_model import Memory
from kernelmodel.tasks import TaskKind, options
from kernelmodel.text import KernelText
from properties.property import Property
from verify.counterexample import Counterexample
from verify.explore.finite import ALLOC_TYPE, Finite, held
from verify.explore.model import Model
from verify.explore.shortest import Path
from verify.trace import MismatchError, Start, TraceStep, rerun

#: orders of the buddy's pages are tried up to this number
_MOST_ORDERS = 1000


def shown(kernel: type[KernelText], model: Model, path: Path, prop: Property, memory: Memory = "sc") -> Counterexample:
    """Replay a path on the concrete model, and print it as columns."""
    start, steps = trace_of(model, path, memory)
    why = "the concrete model does not violate the property on this trace"
    for ordered in itertools.islice(_in_every_order(steps), _MOST_ORDERS):
        try:
            found = rerun(kernel, model.finite.scenario, start, ordered, prop)
        except MismatchError as error:
            why = f"the trace does not fit the concrete model: {error}"
            continue
        if found.violations:
            break
    else:
        return Counterexample.unconfirmed(why)
    return Counterexample.of(start, found, found.about_cpu)


def _in_every_order(steps: list[TraceStep]) -> Iterator[list[TraceStep]]:
    """The steps with each order in which rmqueue_bulk() may find pages of several blocks: the search knows how many."""
    refills = [i for i, s in enumerate(steps) if sum(n > 0 for k, n in s.choices.items() if k.startswith("got")) > 1]
    orders = []
    for i in refills:
        blocks = [int(k[3:]) for k, n in steps[i].choices.items() if k.startswith("got") for _ in range(n)]
        orders.append(sorted(set(itertools.islice(itertools.permutations(blocks), _MOST_ORDERS))))
    for chosen in itertools.product(*orders):
        made = list(steps)
        for i, order in zip(refills, chosen, strict=True):
            nth = {f"nth{n}": block for n, block in enumerate(order)}
            made[i] = replace(steps[i], choices={**steps[i].choices, **nth})
        yield made


def trace_of(model: Model, path: Path, memory: Memory = "sc") -> tuple[Start, list[TraceStep]]:
    """The start and the steps of a path, each with the CPU on which it is made."""
    homes = _homes(model, path)
    start = Start(
        limits=(model.finite.high, model.finite.batch),
        block_types=tuple(int(t) for t in model.config.block_types),
        cpu_of={t.spec.name: homes[t.number] for t in model.tasks if not t.spec.kind.serves},
        block_of={
            t.spec.name: path.first[t.slots[t.spec.register("block")]]
            for t in model.tasks
            if t.spec.kind.holds_page and t.spec.register("block") in t.slots
        },
        type_of={t.spec.name: ALLOC_TYPE for t in model.tasks if t.spec.kind.asks_for_page},
        in_use=_in_use(model, path),
        memory=memory,
    )
    owner: dict[int, int] = {}
    down: set[int] = set()
    where = dict(homes)
    steps = []
    for move in path.moves:
        node = move.task.at(move.location)[move.which]
        number = move.task.number
        cpu = node.cpu
        if cpu < 0:
            # whoever has interrupts on leaves a CPU that somebody else has for himself
            mine = [c for c in model.cpus_of(move.task.spec) if c not in down]
            if move.task.spec.cpu in mine:
                mine = [move.task.spec.cpu]
            free = [c for c in mine if owner.get(c, number) == number]
            cpu = where[number] if where[number] in free else free[0]
        where[number] = cpu
        does = node.op.does
        for cell, term in node.op.updates:
            for c in model.config.cpus:
                if cell == cpu_there(c) and term.op == "const":
                    down = down - {c} if term.args[0] else down | {c}
        if stops_others(does.acquires):
            owner[cpu] = number
        elif stops_others(does.releases):
            owner.pop(cpu, None)
        choices = {c.args[0]: _value(c.sort, x) for c, x in zip(node.op.choices, move.choices, strict=True)}
        steps.append(TraceStep(move.task.spec.name, "", choices, cpu))
    return start, steps


def _in_use(model: Model, path: Path) -> tuple[int, ...]:
    """The blocks of the pages in use at the start; where nobody looks at them, all of them are outside any range."""
    counts = {c for c in layout(model.config) if CELLS[c.name].in_use == "unowned"}
    columns = sorted((c, x) for c, x in model.address.items() if c in counts and x < model.width)
    found = [int(c.index[0]) for c, x in columns for _ in range(path.first[x])]
    return (*found, *[0] * (model.finite.scenario.migrations - len(found)))


def _value(sort: str, x: int) -> int:
    return bool(x) if sort == "bool" else x


def _homes(model: Model, path: Path) -> dict[int, int]:
    """A CPU for each task: where it first has to be; the others keep away from those, if there are enough CPUs."""
    homes: dict[int, int] = {}
    for task in model.tasks:
        if task.spec.cpu is not None:
            homes[task.number] = task.spec.cpu
    for move in path.moves:
        cpu = move.task.at(move.location)[move.which].cpu
        if cpu >= 0:
            homes.setdefault(move.task.number, cpu)
    acting = {m.task.number for m in path.moves}
    serve = {t.number for t in model.tasks if t.spec.kind.serves}
    taken = {c for n, c in homes.items() if n in acting - serve}
    spare = [c for c in model.config.cpus if c not in taken] or list(model.config.cpus)
    for task in model.tasks:
        if task.number not in homes:
            homes[task.number] = spare[0]
            if task.number in acting and len(spare) > 1:
                spare = spare[1:]
    return homes


def smaller(finite: Finite) -> list[Finite]:
    """Configurations within ``finite``, the smaller ones first, itself last."""
    s = finite.scenario
    varied = {o: s.number_of(k) for o, k in options().items() if _varies(k) and s.number_of(k)}
    found = []
    for numbers in itertools.product(*(range(n + 1) for n in varied.values())):
        for cpus in range(min(2, s.cpus), s.cpus + 1):
            scenario = s.having(cpus=cpus, **dict(zip(varied, numbers, strict=True)))
            asks = any(t.kind.asks_for_page for t in scenario.tasks())
            pages = finite.pages if asks or s.migrations else max(1, held(scenario))
            found.append(Finite(scenario, pages, finite.high, finite.batch))
    found.sort(key=_size)
    return found if finite in found else [*found, finite]


def _varies(kind: TaskKind) -> bool:
    return kind.equal or bool(kind.wants)


def _size(finite: Finite) -> tuple[int, ...]:
    kinds = [t.kind for t in finite.scenario.tasks() if _varies(t.kind)]
    cpus = finite.scenario.cpus
    # a CPU more costs a search about as much as three tasks more
    return len(kinds) + 3 * cpus, cpus, sum(bool(k.wants) for k in kinds), sum(k.asks_for_page for k in kinds)
