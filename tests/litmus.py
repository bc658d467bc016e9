"""Litmus tests as kernels: threads of loads and stores, what may come of them, and a memory model in forty lines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kernelmodel.config import Config
from kernelmodel.machine import Machine
from kernelmodel.memory_model import Memory
from kernelmodel.ops import Kind, Op, Routine, full_barrier, read, read_once, write, write_once
from kernelmodel.schema import CellKind
from kernelmodel.tasks import TaskKind
from kernelmodel.terms import TRUE, Cell, const, land, lift, load
from kernelmodel.versions.v5_11 import V5_11
from properties.property import Check, Property
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.scenario import Scenario

#: variables, and registers with what was loaded, of all threads together
VARIABLES, REGISTERS, THREADS = "xyz", 4, 4
#: an operation: ("W", variable, value), ("R", variable), ("xchg", variable, value) or ("mb",); "w" and "r" are plain accesses
Thread = tuple[tuple[Any, ...], ...]
Program = tuple[Thread, ...]
Outcome = tuple[int, ...]


def _kind(ghost: bool = False) -> CellKind:
    return CellKind(meaning="a variable of a litmus test", ghost=ghost)


def _task(n: int) -> TaskKind:
    return TaskKind(
        name=f"litmus{n}", make=lambda k, _: k.thread(n), option=f"litmus{n}s", words="thread of a litmus test", proved=False,
        needs="thread",
    )  # fmt: skip


class Litmus(V5_11):
    """The threads of ``program``; each load goes to the next register."""

    name = "litmus"
    program: ClassVar[Program] = ()
    cells = (
        *((f"litmus.{v}", _kind()) for v in VARIABLES),
        *((f"litmus.r{i}", _kind(ghost=True)) for i in range(REGISTERS)),
        ("litmus.done", _kind(ghost=True)),
    )
    tasks = tuple(_task(n) for n in range(THREADS))

    def thread(self, n: int) -> Routine:
        """One thread."""
        register = sum(loads(t) for t in self.program[:n])
        for what, *args in self.program[n]:
            if what == "mb":
                yield full_barrier()
                continue
            cell = Cell(f"litmus.{args[0]}")
            if what in ("W", "w"):
                yield (write_once if what == "W" else write)(args[1], cell.name)
                continue
            if what in ("R", "r"):
                value = yield (read_once if what == "R" else read)(cell.name)
            else:
                old = load(cell)
                value = yield Op(f"xchg({args[0]})", Kind.RMW, updates=((cell, const(args[1])),), returns=(old,))
            yield Op(f"r{register} = {{0}}", Kind.LOCAL, updates=((Cell(f"litmus.r{register}"), lift(value)),))
            register += 1
        done = Cell("litmus.done")
        yield Op("the end", Kind.LOCAL, updates=((done, load(done) + 1),))


def loads(thread: Thread) -> int:
    """How many registers a thread fills."""
    return sum(op[0] in ("R", "r", "xchg") for op in thread)


def values(program: Program) -> list[Outcome]:
    """Everything that could come of a program, on any machine: the registers."""
    stored = sorted({0, *(op[2] for t in program for op in t if op[0] in ("W", "w", "xchg"))})
    return list(itertools.product(stored, repeat=sum(map(loads, program))))


def _property(program: Program, outcome: Outcome) -> Property:
    def state(_: Config) -> list[Check]:
        seen = [load(Cell(f"litmus.r{i}")) == x for i, x in enumerate(outcome)]
        return [Check(TRUE, land(load(Cell("litmus.done")) == len(program), *seen), "it happens")]

    return Property(f"not {outcome}", "", "", "", "", state=state)


def explored(program: Program, memory: Memory) -> set[Outcome]:
    """What may come of a program by exhaustive search; ModelError where its buffers are not of the kind that there is."""
    outcomes = values(program)
    found = _search(program, [_property(program, o) for o in outcomes], memory)
    return {o for i, o in enumerate(outcomes) if found >> i & 1}


def _search(program: Program, properties: list[Property], memory: Memory) -> int:
    """The bits of the properties that are violated."""
    kernel = type("Litmus_", (Litmus,), {"program": program, "__module__": Litmus.__module__})
    numbers = {f"litmus{n}s": 1 for n in range(len(program))}
    kernel(Config())
    scenario = Scenario(cpus=len(program), frees=0, allocs=0, updates=0, offlines=0, **numbers)
    explorer = Explorer(kernel, Finite(scenario, 1), compiler="none", memory=memory)
    return explorer.search(properties).found.violated


def last(program: Program, memory: Memory) -> set[Outcome]:
    """What x and y may be in the end, by exhaustive search."""
    stored = sorted({0, *(op[2] for t in program for op in t if op[0] in ("W", "w"))})
    outcomes = list(itertools.product(stored, repeat=2))

    def ends_with(outcome: Outcome) -> Property:
        def state(_: Config) -> list[Check]:
            here = [load(Cell(f"litmus.{v}")) == x for v, x in zip("xy", outcome, strict=True)]
            return [Check(TRUE, land(load(Cell("litmus.done")) == len(program), *here), "it ends so")]

        return Property(f"not {outcome} in the end", "", "", "", "", state=state)

    found = _search(program, [ends_with(o) for o in outcomes], memory)
    return {o for i, o in enumerate(outcomes) if found >> i & 1}


def one_run(program: Program, memory: Memory, random: Any) -> Outcome:
    """What comes of a program on the concrete machine, under a random schedule."""
    kernel = type("Litmus_", (Litmus,), {"program": program, "__module__": Litmus.__module__})
    machine = Machine(kernel, Config(nr_cpus=len(program)), (2, 2), memory=memory)
    tasks = [machine.spawn(f"P{n}", machine.kernel.thread(n), n) for n in range(len(program))]
    while any(not t.done for t in tasks):
        task = random.choice([t for t in tasks if not t.done])
        machine.step(task, {name: random.random() < 0.4 for name in machine.may_miss(task)})
    return tuple(machine.state.load(Cell(f"litmus.r{i}")) for i in range(sum(map(loads, program))))


@dataclass(frozen=True)
class _State:
    """A state of the x86-TSO machine: program counters, registers, buffers, memory."""

    at: tuple[int, ...]
    registers: tuple[tuple[int, int], ...]
    buffers: tuple[tuple[tuple[str, int], ...], ...]
    memory: tuple[tuple[str, int], ...]


def abstract(program: Program, memory: Memory, at_first: Mapping[str, int] | None = None) -> set[Outcome]:
    """What may come of a program on the abstract machine of the x86-TSO paper, or with no buffers.

    ``at_first``: the variables and what they hold, where they are not ours with 0.
    """
    variables = at_first or dict.fromkeys(VARIABLES, 0)
    first = [sum(loads(t) for t in program[:n]) for n in range(len(program))]
    start = _State((0,) * len(program), (), ((),) * len(program), tuple(sorted(variables.items())))
    todo, seen, found = [start], {start}, set()
    while todo:
        state = todo.pop()
        for new in _steps(program, first, state, memory == "tso"):
            if new not in seen:
                seen.add(new)
                todo.append(new)
        if all(a == len(t) for a, t in zip(state.at, program, strict=True)):
            found.add(tuple(x for _, x in sorted(state.registers)))
    return found


def _steps(program: Program, first: list[int], s: _State, buffered: bool) -> Iterator[_State]:
    memory = dict(s.memory)
    for n, thread in enumerate(program):
        buffer = s.buffers[n]

        def after(
            buffer: Any = buffer, memory: Any = memory, got: int | None = None, n: int = n, step: int = 1
        ) -> _State:
            at = tuple(a + step * (i == n) for i, a in enumerate(s.at))
            register = first[n] + loads(program[n][: s.at[n]])
            registers = s.registers if got is None else tuple(sorted((*s.registers, (register, got))))
            buffers = tuple(buffer if i == n else b for i, b in enumerate(s.buffers))
            return _State(at, registers, buffers, tuple(sorted(memory.items())))

        if buffer:
            yield after(buffer[1:], {**memory, buffer[0][0]: buffer[0][1]}, step=0)
        if s.at[n] == len(thread):
            continue
        what, *args = thread[s.at[n]]
        if what == "W":
            yield after((*buffer, (args[0], args[1]))) if buffered else after(memory={**memory, args[0]: args[1]})
        elif what == "R":
            mine = [x for v, x in buffer if v == args[0]]
            yield after(got=mine[-1] if mine else memory[args[0]])
        elif not buffer:
            yield after() if what == "mb" else after(memory={**memory, args[0]: args[1]}, got=memory[args[0]])
