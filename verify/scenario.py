"""The bound of a verification: which tasks run on how many CPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kernelmodel.config import Config
from kernelmodel.errors import ModelError
from kernelmodel.mmzone import MigrateType, Page, PageRange, Zone
from kernelmodel.ops import Op, Routine
from kernelmodel.terms import Term, reg

#: more tasks or CPUs than this are refused as a slip of the keyboard
LARGEST = 64


#: each kind of task, and the number of the scenario that says how many there are
TASKS = {
    "free": "frees", "alloc": "allocs", "update": "updates", "offline": "offlines", "hotplug": "hotplugs",
    "reclaim": "reclaims", "hwpoison": "hwpoisons", "migration": "migrations",
}  # fmt: skip


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
    kind: str
    make: Callable[[Any], Routine]
    cpu: int | None = None
    parameters: tuple[tuple[str, int, int], ...] = ()
    #: of a worker the CPU whose work it does; elsewhere than on that CPU only if that has gone
    home: int | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """So many CPUs, freeing and allocating tasks, zone_pcp_update() callers and offliners, and one drain worker a CPU.

    ``rounds`` bounds the loop of offline_pages().  With ``spread`` the i-th free and the i-th alloc run on CPU
    i mod cpus, else each may be on any CPU.  Pageblock 0 stands for all memory that is not offlined; each offliner has
    a range of ``blocks`` pageblocks of its own.  Each of ``hotplugs`` takes the last CPU down and brings it up again, each
    of ``reclaims`` drains all zones in direct reclaim, each of ``hwpoisons`` disables and enables pcplists for a page that
    memory_failure() looks at.
    So many pages as ``migrations`` are in use at the start by nobody who frees them, for offline_pages() to migrate;
    with none it finds no page to migrate, whatever there is.
    """

    cpus: int = 3
    frees: int = 2
    allocs: int = 2
    updates: int = 1
    offlines: int = 1
    rounds: int = 1
    spread: bool = False
    hotplugs: int = 0
    blocks: int = 1
    migrations: int = 0
    reclaims: int = 0
    hwpoisons: int = 0

    def __post_init__(self) -> None:
        least_of = {
            "cpus": 1, "frees": 0, "allocs": 0, "updates": 0, "offlines": 0, "rounds": 1, "hotplugs": 0, "blocks": 1,
            "migrations": 0, "reclaims": 0, "hwpoisons": 0,
        }  # fmt: skip
        for name, least in least_of.items():
            n = getattr(self, name)
            if not least <= n <= LARGEST:
                raise ModelError(f"--{name} {n} is out of range: give {least} to {LARGEST}")
        if self.hotplugs and self.cpus < 2:
            raise ModelError(f"--hotplugs {self.hotplugs} needs another CPU: the last one online stays; give --cpus 2")

    @property
    def config(self) -> Config:
        """The abstract machine."""
        return Config(nr_cpus=self.cpus, block_types=(MigrateType.MOVABLE,) * (1 + self.offlines * self.blocks))

    @property
    def comes_and_goes(self) -> tuple[int, ...]:
        """The CPUs that some task takes down and up."""
        return (self.cpus - 1,) if self.hotplugs else ()

    def bound(self) -> str:
        """The bound in words."""
        where = "the i-th free and alloc on CPU i" if self.spread else "each free and alloc on any CPU"
        rounds = f"{count(self.rounds, 'round')} of offline_pages()'s loop, with {self.migrations_in_words()}"
        return (
            f"{count(self.cpus, 'CPU')}, {self.tasks_in_words()}, a drain worker on each CPU; {where}; "
            f"{rounds}; all values of high, batch and initial list lengths; all interleavings"
        )

    def migrations_in_words(self) -> str:
        """How many pages offline_pages() may find to migrate."""
        if not self.migrations:
            return "no migration of its own"
        return f"{count(self.migrations, 'page')} in use that it may have to migrate"

    def tasks_in_words(self, absent: bool = True) -> str:
        """The tasks, but for the workers; without ``absent`` only those of which there are some."""
        ranges = f" of {self.blocks} pageblocks" if self.blocks > 1 else ""
        numbers = [
            (self.frees, count(self.frees, "free")), (self.allocs, count(self.allocs, "alloc")),
            (self.offlines, count(self.offlines, "offline_pages()") + ranges),
            (self.updates, count(self.updates, "zone_pcp_update()")),
            (self.reclaims, count(self.reclaims, "direct reclaim")),
            (self.hwpoisons, count(self.hwpoisons, "get_hwpoison_page()")),
        ]  # fmt: skip
        often = 4 if absent else 0
        tasks = [words for i, (n, words) in enumerate(numbers) if n or i < often]
        if self.hotplugs:
            tasks.append(
                f"CPU {self.cpus - 1} goes down and comes up" + (f" {self.hotplugs} times" if self.hotplugs > 1 else "")
            )
        return ", ".join(tasks) or "no tasks"

    def visits(self, op: Op) -> int:
        """How often a path may come to the same operation of a loop."""
        if op.tag == "migrate":
            return self.migrations
        if op.tag in ("work_begin", "work_end"):
            return LARGEST
        return self.rounds + self.migrations

    def tasks(self) -> list[TaskSpec]:
        """The tasks, numbered as a machine numbers them: workers first, frees and allocs last."""
        zone = Zone(0)
        specs: list[TaskSpec] = []

        def add(name: str, kind: str, make: Callable[[Any], Routine], cpu: int | None = None, *parameters: Any) -> None:
            home = cpu if kind == "worker" else None
            specs.append(TaskSpec(name, len(specs) + 1, kind, make, cpu, parameters, home))

        for c in range(self.cpus):
            add(f"kworker/{c}", "worker", _worker(c), c)
        for i in range(self.offlines):
            add(f"offline{i}", "offline", _offline(PageRange(1 + i * self.blocks, (i + 1) * self.blocks)))
        for i in range(self.updates):
            add(f"update{i}", "update", lambda k: k.zone_pcp_update(zone))
        for i in range(self.hotplugs):
            add(f"hotplug{i}", "hotplug", lambda k: k.cpu_down_and_up(self.cpus - 1))
        for i in range(self.reclaims):
            add(f"reclaim{i}", "reclaim", lambda k: k.direct_reclaim())
        for i in range(self.hwpoisons):
            add(f"hwpoison{i}", "hwpoison", _hwpoison(zone))
        for i in range(self.frees):
            block = reg(f"free{i}.block")
            add(
                f"free{i}", "free", _free(Page(-1, block, zone)),
                i % self.cpus if self.spread else None, (f"free{i}.block", 0, self.offlines * self.blocks),
            )  # fmt: skip
        for i in range(self.allocs):
            kind = reg(f"alloc{i}.migratetype")
            add(
                f"alloc{i}", "alloc", _alloc(zone, kind),
                i % self.cpus if self.spread else None, (f"alloc{i}.migratetype", 0, 2),
            )  # fmt: skip
        return specs


def workers_elsewhere(scenario: Scenario, first: int) -> list[TaskSpec]:
    """The workers of CPUs that come and go as they are on each other CPU, numbered from ``first``: one task in two places."""
    places = [(c, d) for c in scenario.comes_and_goes for d in scenario.config.cpus if d != c]
    return [TaskSpec(f"kworker/{c}@{d}", first + i, "worker", _worker(c), d, (), c) for i, (c, d) in enumerate(places)]


def _worker(cpu: int) -> Callable[[Any], Routine]:
    return lambda kernel: kernel.drain_worker(cpu)


def _offline(page_range: PageRange) -> Callable[[Any], Routine]:
    return lambda kernel: kernel.offline_pages(page_range)


def _free(page: Page) -> Callable[[Any], Routine]:
    return lambda kernel: kernel.free_unref_page(page)


def _alloc(zone: Zone, migratetype: Term) -> Callable[[Any], Routine]:
    return lambda kernel: kernel.rmqueue_pcplist(zone, migratetype)


def _hwpoison(zone: Zone) -> Callable[[Any], Routine]:
    def make(kernel: Any) -> Routine:
        if not hasattr(kernel, "zone_pcp_disable"):
            raise ModelError(f"{kernel.name} has no get_hwpoison_page() that disables pcplists: leave --hwpoisons out")
        routine: Routine = kernel.get_hwpoison_page(zone)
        return routine

    return make


def count(n: int, what: str) -> str:
    """``n`` of something in words."""
    plural = "" if n == 1 or what.endswith(")") else "s"
    return f"{n} {what}{plural}"
