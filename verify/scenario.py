"""The bound of a verification: which tasks run on how many CPUs."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kernelmodel.config import Config
from kernelmodel.errors import ModelError
from kernelmodel.graphs.continuation import constant
from kernelmodel.mmzone import PCPTYPES, MigrateType, Page, PageRange, Zone
from kernelmodel.ops import Op, Routine
from kernelmodel.tasks import TASKS, WORKER, Given, TaskKind, options, shared_options
from kernelmodel.terms import IntTerm, reg
from kernelmodel.text import KernelText, has_routine

#: more tasks or CPUs than this are refused as a slip of the keyboard
LARGEST = 64
#: numbers of a scenario beside those of its tasks, and the least of each
_OTHERS = {"cpus": 1, "rounds": 1, "blocks": 1, "migrations": 0}


def default_migrations(allocs: int, offlines: int) -> int:
    """How many pages there are to migrate: where no other task allocates, offline_pages() does, for a page of its own."""
    return int(allocs == 0 and offlines > 0)


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task of the scenario; ``number`` as in the machine that replays it, ``cpu`` None if it may be on any CPU.

    ``parameters`` are its open inputs: register name, least and greatest value.
    """

    name: str
    number: int
    kind: TaskKind
    given: Given
    cpu: int | None = None
    parameters: tuple[tuple[str, int, int], ...] = ()
    #: of a worker the CPU whose work it does; elsewhere than on that CPU only if that has gone
    home: int | None = None

    @property
    def key(self) -> Hashable:
        """What its graphs follow from; equal terms make equal keys."""
        return (self.name, self.number, self.kind, constant(self.given), self.cpu, self.parameters, self.home)

    def make(self, kernel: Any, migratetype: IntTerm | None = None, page: Page | None = None) -> Routine:
        """The task's routine on a kernel, with its inputs open, or with those given."""
        if not self.is_in(type(kernel)):
            cure = f"leave {option_of(self.kind.option)} out"
            raise ModelError(
                f"{kernel.name} has no {self.kind.needs}(), without which {self.kind.name} is nothing: {cure}"
            )
        given = self.given
        if migratetype is not None:
            given = replace(given, migratetype=migratetype)
        if page is not None:
            given = replace(given, page=page)
        return self.kind.make(kernel, given)

    def is_in(self, kernel: type) -> bool:
        """Whether a kernel has such tasks."""
        return self.kind.is_in(kernel)

    def register(self, what: str) -> str:
        """The name of the register that has an open input."""
        return f"{self.name}.{what}"


def usual(kernel: type[KernelText] | None) -> dict[str, int]:
    """How many tasks of the kinds that are a kernel's own are run where nothing is said, by option."""
    kinds = kernel.tasks if kernel is not None else ()
    return {k.option: k.usual for k in kinds if k.usual and k.is_in(kernel)}


@dataclass(frozen=True, init=False)
class Scenario:
    """So many CPUs and tasks of each kind (:mod:`kernelmodel.tasks`), and one drain worker a CPU.

    ``rounds`` bounds the loop of offline_pages().  With ``spread`` the i-th free and the i-th alloc run on CPU
    i mod cpus, else each may be on any CPU.  Pageblock 0 stands for all memory that is not offlined; each task with a range
    has one of ``blocks`` pageblocks of its own.
    So many pages as ``migrations`` are in use at the start by nobody who frees them, for offline_pages() to migrate;
    with none it finds no page to migrate, whatever there is.
    The number of tasks of a kind is given, and asked for, by the kind's option: ``Scenario(frees=1).frees``.
    """

    cpus: int
    rounds: int
    spread: bool
    blocks: int
    migrations: int
    #: how many tasks of each kind, by its option
    counts: tuple[tuple[str, int], ...]

    def __init__(
        self, cpus: int = 3, *, rounds: int = 1, spread: bool = False, blocks: int = 1, migrations: int = 0,
        counts: tuple[tuple[str, int], ...] = (), **numbers: int,
    ) -> None:  # fmt: skip
        """``numbers`` are those of tasks, by option; ModelError where there is no such option, or a number is out of range."""
        known = options()
        for name in numbers:
            if name not in known:
                raise ModelError(f"no task has the option {name!r}: there are {', '.join(known)}")
        given = {**{o: k.default for o, k in known.items()}, **dict(counts), **numbers}
        values = {
            "cpus": cpus, "rounds": rounds, "spread": spread, "blocks": blocks, "migrations": migrations,
            "counts": tuple((o, given[o]) for o in known),
        }  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)
        for name, least in {**_OTHERS, **dict.fromkeys(known, 0)}.items():
            n = getattr(self, name)
            if not least <= n <= LARGEST:
                raise ModelError(f"{option_of(name)} {n} is out of range: give {least} to {LARGEST}")
        for option, kind in known.items():
            if kind.takes_down and given[option] and cpus < 2:
                raise ModelError(
                    f"{option_of(option)} {given[option]} needs another CPU: the last one online stays; give --cpus 2"
                )

    def __getattr__(self, name: str) -> int:
        """The number of tasks of the kind with that option."""
        if not name.startswith("_"):
            for option, n in self.counts:
                if option == name:
                    return n
            if name in options():
                # a kernel has declared such a task since
                return 0
        raise AttributeError(name)

    def having(self, **numbers: Any) -> Scenario:
        """The scenario with other numbers."""
        return Scenario(**{**self.numbers(), **numbers})

    def number_of(self, kind: TaskKind) -> int:
        """How many tasks of a kind there are, its workers aside."""
        return dict(self.counts).get(kind.option, 0)

    def numbers(self) -> dict[str, Any]:
        """All that makes the scenario, as arguments for another one like it."""
        others = {name: getattr(self, name) for name in ("cpus", "rounds", "spread", "blocks", "migrations")}
        # a kind that another kernel has of its own is none of theirs
        return {**others, **{o: n for o, n in self.counts if n or o in shared_options()}}

    @property
    def config(self) -> Config:
        """The abstract machine."""
        ranges = sum(n for option, n in self.counts if options()[option].has_range)
        return Config(nr_cpus=self.cpus, block_types=(MigrateType.MOVABLE,) * (1 + ranges * self.blocks))

    @property
    def comes_and_goes(self) -> tuple[int, ...]:
        """The CPUs that some task takes down, and maybe up."""
        leaves = any(n and options()[option].takes_down for option, n in self.counts)
        return (self.cpus - 1,) if leaves else ()

    def bound(self, kernel: type | None = None) -> str:
        """The bound in words, on a kernel or on any that has drain workers."""
        where = "the i-th free and alloc on CPU i" if self.spread else "each free and alloc on any CPU"
        others = "".join(f" and {routine}()'s" for routine in getattr(kernel, "loops", ()))
        rounds = f"{count(self.rounds, 'round')} of offline_pages()'s{others} loop, with {self.migrations_in_words()}"
        return (
            f"{count(self.cpus, 'CPU')}, {self.tasks_in_words()}{workers_in_words(kernel)}; {where}; "
            f"{rounds}; all values of high, batch and initial list lengths; all interleavings"
        )

    def migrations_in_words(self) -> str:
        """How many pages offline_pages() may find to migrate."""
        if not self.migrations:
            return "no migration of its own"
        return f"{count(self.migrations, 'page')} in use that it may have to migrate"

    def tasks_in_words(self, absent: bool = True) -> str:
        """The tasks, but for the workers; without ``absent`` only those of which there are some."""
        told = sorted(options().values(), key=lambda kind: (kind.takes_down, not kind.equal, not kind.always_told))
        found = []
        for kind in told:
            n = self.number_of(kind)
            if kind.takes_down and n:
                times = f" {n} times" if n > 1 else ""
                found.append(kind.words.format(cpu=self.cpus - 1) + times)
            elif n or (absent and kind.always_told):
                ranges = f" of {self.blocks} pageblocks" if kind.has_range and self.blocks > 1 else ""
                found.append(count(n, kind.words) + ranges)
        return ", ".join(found) or "no tasks"

    def suffices(self) -> str:
        """That a counterexample needs no more than this, in words."""
        return f"{count(self.cpus, 'CPU')}, {self.tasks_in_words(absent=False)} suffice"

    def visits(self, op: Op) -> int:
        """How often a path may come to the same operation of a loop."""
        if op.does.bounded_by:
            bounds = self.turns
            if op.does.bounded_by not in bounds:
                known = " or ".join(bounds)
                raise ModelError(
                    f"{op.text} is bounded by {op.does.bounded_by!r}, which is no bound of loops: give {known}"
                )
            return bounds[op.does.bounded_by]
        if op.does.begins or op.does.ends:
            return LARGEST
        return self.rounds + self.migrations

    @property
    def turns(self) -> dict[str, int]:
        """The bounds of loops, by name: all that :meth:`visits` depends on."""
        return {"rounds": self.rounds, "migrations": self.migrations}

    def tasks(self) -> list[TaskSpec]:
        """The tasks, numbered as a machine numbers them: workers first, then by kind."""
        return list(_tasks(self, tuple(options().values())))


@functools.lru_cache(maxsize=64)
def _tasks(scenario: Scenario, kinds: tuple[TaskKind, ...]) -> tuple[TaskSpec, ...]:
    specs: list[TaskSpec] = []
    for c in range(scenario.cpus):
        specs.append(TaskSpec(_worker_of(c), len(specs) + 1, WORKER, _given(c), c, (), c))
    ranges = 0
    last = {"block": scenario.config.nr_blocks - 1, "migratetype": PCPTYPES - 1}
    for kind in kinds:
        for i in range(scenario.number_of(kind)):
            first = 1 + ranges * scenario.blocks
            name = f"{kind.name}{i}"
            inputs = {what: reg(f"{name}.{what}") for what in kind.inputs}
            page_range = PageRange(first, first + scenario.blocks - 1)
            given = _given(scenario.cpus - 1, inputs.get("block", 0), inputs.get("migratetype", 0), page_range)
            ranges += kind.has_range
            parameters = tuple((f"{name}.{what}", 0, last[what]) for what in kind.inputs)
            cpu = i % scenario.cpus if scenario.spread and kind.on_lists else None
            specs.append(TaskSpec(name, len(specs) + 1, kind, given, cpu, parameters))
    return tuple(specs)


def option_of(name: str) -> str:
    """The command line option that gives a number of that name."""
    return f"--{name.replace('_', '-')}"


def _given(
    cpu: int, block: IntTerm = 0, migratetype: IntTerm = 0, page_range: PageRange | None = None
) -> Given:  # fmt: skip
    return Given(cpu, Zone(0), Page(-1, block, Zone(0)), migratetype, page_range or PageRange(0, 0))


def _worker_of(cpu: int) -> str:
    return f"kworker/{cpu}"


def workers_in_words(kernel: type | None) -> str:
    """The workers, in the words of a bound; nothing where a kernel has none."""
    return ", a drain worker on each CPU" if kernel is None or has_routine(kernel, WORKER.needs) else ""


def tasks_of(scenario: Scenario, kernel: type) -> list[TaskSpec]:
    """The tasks of a scenario on a kernel: without the workers, where that has none; their numbers stay free."""
    return [t for t in scenario.tasks() if not t.kind.serves or t.is_in(kernel)]


def workers_elsewhere(scenario: Scenario, first: int) -> list[TaskSpec]:
    """The workers of CPUs that come and go as they are on each other CPU, numbered from ``first``: one task in two places."""
    places = [(c, d) for c in scenario.comes_and_goes for d in scenario.config.cpus if d != c]
    return [TaskSpec(f"{_worker_of(c)}@{d}", first + i, WORKER, _given(c), d, (), c) for i, (c, d) in enumerate(places)]


def numbers_of(tasks: Mapping[str, int]) -> dict[str, int]:
    """Numbers of tasks by kind (``{"free": 1}``) as numbers by option; pages to migrate too (``migration``)."""
    return {_OPTION_OF.get(kind) or TASKS[kind].option: n for kind, n in tasks.items()}


#: what may stand among the kinds of tasks, and is none
_OPTION_OF = {"migration": "migrations"}


def kinds() -> list[str]:
    """What may be counted: the kinds of tasks, and pages to migrate."""
    return [*(kind.name for kind in options().values()), *_OPTION_OF]


def shared_kinds() -> list[str]:
    """The same, without the kinds that some kernel has of its own."""
    return [*(kind.name for kind in shared_options().values()), *_OPTION_OF]


def count(n: int, what: str) -> str:
    """``n`` of something in words."""
    plural = "" if n == 1 or what.endswith(")") else "s"
    return f"{n} {what}{plural}"
