"""The finite configuration that is searched: tasks, pages, limits, and the states in which a search begins."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from kernelmodel.errors import ModelError
from kernelmodel.mmzone import MigrateType
from kernelmodel.text import KernelText
from verify.scenario import LARGEST, Scenario, count, usual, workers_in_words

#: pages and limits beyond this are refused: states would be counted in billions
MOST = 16


@dataclass(frozen=True, slots=True)
class Finite:
    """A scenario with numbers: ``pages`` in all, of which each freeing task holds one; limits ``high`` and ``batch``.

    A zone_pcp_update() finds the limits as they are, or both one larger.  Every assignment of pages to pageblocks is
    searched: the freed pages and the others may each be in any block.
    """

    scenario: Scenario
    pages: int = 3
    high: int = 2
    batch: int = 2

    def __post_init__(self) -> None:
        frees = held(self.scenario)
        if frees > MOST:
            raise ModelError(
                f"--frees {frees} is too many here: give at most {MOST}, for each holds one of {MOST} pages"
            )
        taken = frees + self.scenario.migrations
        if taken > MOST:
            raise ModelError(
                f"--frees {frees} and --migrations {self.scenario.migrations} are too many here: give at most {MOST} in all,"
                f" for each takes one of {MOST} pages"
            )
        for name, least, most in (("pages", max(1, taken), MOST), ("high", 0, MOST), ("batch", 1, MOST)):
            n = getattr(self, name)
            if not least <= n <= most:
                each = f"each of the {frees} that free holds one"
                n_used = self.scenario.migrations
                used = f", and {n_used} in use for offline_pages() to migrate (--migrations)" if n_used else ""
                why = f" ({each}{used})" if name == "pages" and n < taken else ""
                raise ModelError(f"--{name} {n} is out of range: give {least} to {most}{why}")
        if self.scenario.cpus > LARGEST:
            raise ModelError(f"--cpus {self.scenario.cpus} is out of range")

    @property
    def new_limits(self) -> tuple[tuple[int, int], ...]:
        """What zone_set_pageset_high_and_batch() may compute: (high, batch)."""
        return ((self.high, self.batch), (self.high + 1, self.batch + 1))

    def limits_for(self, roles: Sequence[str]) -> list[tuple[int, ...]]:
        """The same, for a kernel whose limits have these roles: a greatest high is one above the least."""
        return [tuple(limit(role, high, batch) for role in roles) for high, batch in self.new_limits]

    def largest(self, roles: Iterable[str]) -> int:
        """No count of pages, and no limit of these roles, is larger."""
        return max(self.pages, *(x for values in self.limits_for(tuple(roles)) for x in values))

    def page_blocks(self, symmetric: bool) -> Iterator[tuple[int, ...]]:
        """Each assignment of pages to pageblocks: the first are held by the freeing tasks, then come those in use.

        The others are free.  ``symmetric``: those that differ in the order of equal pages only are given once.
        """
        blocks = range(self.scenario.config.nr_blocks)
        choose = itertools.combinations_with_replacement if symmetric else None
        frees, used = held(self.scenario), self.scenario.migrations
        parts = [
            list(choose(blocks, n) if choose else itertools.product(blocks, repeat=n))
            for n in (frees, used, self.pages - frees - used)
        ]
        for mine, in_use, spare in itertools.product(*parts):
            yield (*mine, *in_use, *spare)

    def bound(self, kernel: type | None = None) -> str:
        """The bound in words, on a kernel or on any that has drain workers."""
        s = self.scenario
        where = "the i-th free and alloc on CPU i" if s.spread else "each free and alloc on any CPU"
        return (
            f"{count(s.cpus, 'CPU')}, {count(self.pages, 'page')} in every assignment to pageblocks, "
            f"{s.tasks_in_words(absent=False)}{workers_in_words(kernel)}; {where}; "
            f"high {self.high}, batch {self.batch}, or both one larger after an update;"
            " pcplists empty at the start; any number of rounds of offline_pages()'s loop, with"
            f" {s.migrations_in_words()};"
            " all interleavings"
        )


def limit(role: str, high: int, batch: int) -> int:
    """The value of a limit of that role (:attr:`CellKind.limit`)."""
    return {"high": high, "batch": batch, "high_max": high + 1}[role]


def held(scenario: Scenario) -> int:
    """How many pages tasks hold from the start."""
    return sum(t.kind.holds_page for t in scenario.tasks())


#: the migratetype that every alloc asks for
ALLOC_TYPE = int(MigrateType.MOVABLE)


#: what a search of verify.explore covers if nothing else is asked for
DEFAULT = Finite(Scenario(cpus=2, frees=1, allocs=1, updates=1, offlines=1, rounds=1, spread=False), 3)


def default(kernel: type[KernelText]) -> Finite:
    """The same of a kernel, with the tasks of its own that it usually has."""
    scenario = DEFAULT.scenario.having(**usual(kernel))
    return replace(DEFAULT, scenario=scenario, pages=default_pages(scenario))


def default_pages(scenario: Scenario) -> int:
    """How many pages there are if nothing is said: those of the tasks, and two more."""
    return held(scenario) + scenario.migrations + 2
