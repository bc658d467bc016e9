"""The kinds of tasks that the engines run, as data: each is declared once, and scenarios, options and proofs are built from it.

A kernel declares kinds of its own in `tasks`, as it does cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from kernelmodel.errors import ModelError
from kernelmodel.mmzone import Page, PageRange, Zone
from kernelmodel.ops import Routine
from kernelmodel.terms import IntTerm

#: an open input of a task: the pageblock of a page that is the task's own from the start, or the migratetype it asks for
Input = Literal["block", "migratetype"]


@dataclass(frozen=True, slots=True)
class Given:
    """What one task is given: the number of its CPU where it is bound to one, or of the CPU on which it works."""

    cpu: int
    zone: Zone
    page: Page
    migratetype: IntTerm
    page_range: PageRange


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskKind:
    """One kind of task.

    ``make`` calls its routine on a kernel; ``words`` stand in a printed bound, with its number before them, and ``help``
    in that of the option, whose name is ``option``: the number of such tasks (none for a kind that only proofs have).
    ``default`` is that number in verify.bmc.
    """

    name: str
    make: Callable[[Any, Given], Routine]
    words: str = ""
    help: str = ""
    option: str = ""
    default: int = 0
    #: the same, of a kind that only some kernels have: it is theirs alone
    usual: int = 0
    #: equal ones differ in nothing but their number and inputs: they may be renamed
    equal: bool = False
    #: for ever, on the CPU whose work it does
    serves: bool = False
    #: what it does, it does to the pcplists of the CPU on which it is, which may be any
    on_lists: bool = False
    #: its page is of an order above 0, which goes to pcplists where a kernel's hold such pages
    of_order: bool = False
    inputs: tuple[Input, ...] = ()
    #: it has a range of pageblocks of its own, and migrates the pages in use there
    has_range: bool = False
    #: the CPU that it works on leaves
    takes_down: bool = False
    #: few: what others do may depend on where it is
    few: bool = False
    #: named in a bound even where there is none
    always_told: bool = False
    #: a proof has one for each zone; none of a kind that is not in proofs
    zones: bool = False
    proved: bool = True
    #: a routine without which a kernel has no such task
    needs: str = ""
    #: the limits that its environment may ask for, by the names of the operation's choices
    wants: tuple[str, ...] = ()

    def is_in(self, kernel: Any) -> bool:
        """Whether a kernel has such tasks; a routine that it no longer has is None."""
        return not self.needs or callable(getattr(kernel, self.needs, None))

    @property
    def holds_page(self) -> bool:
        """Whether a page is in use by it at the start."""
        return "block" in self.inputs

    @property
    def asks_for_page(self) -> bool:
        """Whether it allocates a page, of a migratetype that is an input of its own."""
        return "migratetype" in self.inputs


def _alloc(k: Any, given: Given) -> Routine:
    """What an allocation calls: the pcplist alone, in a kernel that has nothing to fall back to."""
    routine: Callable[..., Routine] = getattr(k, "alloc_page", k.rmqueue_pcplist)
    return routine(given.zone, given.migratetype)


def _free_of_order(k: Any, given: Given) -> Routine:
    """What frees a page of order 1: through the pcplists, where they hold such pages."""
    routine: Routine
    if k.config.pcp_order:
        routine = k.free_unref_page(replace(given.page, order=1))
    else:
        routine = k.free_pages_ok(given.page, 1)
    return routine


WORKER = TaskKind(
    name="worker", make=lambda k, given: k.drain_worker(given.cpu), serves=True, on_lists=True, few=True, needs="drain_worker",
    words="drain worker on each CPU",
)  # fmt: skip

#: every kind of task by its name, in the order in which a machine numbers them
TASKS: dict[str, TaskKind] = {
    kind.name: kind
    for kind in (
        WORKER,
        TaskKind(
            name="offline", make=lambda k, given: k.offline_pages(given.page_range), option="offlines", default=1,
            words="offline_pages()", help="callers of offline_pages(), each with a range of its own", has_range=True,
            few=True, always_told=True, zones=True,
        ),
        TaskKind(
            name="update", make=lambda k, given: k.zone_pcp_update(given.zone), option="updates", default=1,
            words="zone_pcp_update()", help="callers of zone_pcp_update()", few=True, always_told=True, zones=True,
            wants=("new_high", "new_batch"),
        ),
        TaskKind(
            name="hotplug", make=lambda k, given: k.cpu_down_and_up(given.cpu), option="hotplugs", takes_down=True,
            words="CPU {cpu} goes down and comes up",
            help="tasks that take the last CPU down and up again", proved=False,
        ),
        TaskKind(
            name="cpu_down", make=lambda k, given: k.cpu_down(given.cpu), option="cpu_downs", takes_down=True,
            words="CPU {cpu} goes down", help="tasks that take the last CPU down", proved=False,
        ),
        TaskKind(
            name="reclaim", make=lambda k, _: k.direct_reclaim(), option="reclaims", words="direct reclaim",
            help="tasks in direct reclaim, which drains all zones unless another drain runs",
        ),
        TaskKind(
            name="hwpoison", make=lambda k, given: k.get_hwpoison_page(given.zone), option="hwpoisons",
            words="get_hwpoison_page()", zones=True,
            help="callers of get_hwpoison_page(), which disables and enables pcplists", needs="zone_pcp_disable",
        ),
        TaskKind(
            name="sysctl", make=lambda k, _: k.percpu_pagelist_fraction_sysctl_handler(8), option="sysctls",
            words="percpu_pagelist_fraction_sysctl_handler()", help="writers of the sysctl percpu_pagelist_fraction",
        ),
        TaskKind(
            name="drain", make=lambda k, given: k.drain_all_pages(given.zone), option="drains", words="drain_all_pages()",
            help="callers of drain_all_pages() for the zone", zones=True,
        ),
        TaskKind(
            name="free", make=lambda k, given: k.free_unref_page(given.page), option="frees", default=2, words="free",
            help="tasks that free a page (free_unref_page)", equal=True, on_lists=True, inputs=("block",),
            always_told=True, zones=True,
        ),
        TaskKind(
            name="alloc", make=_alloc, option="allocs", default=2,
            words="alloc", help="tasks that allocate a page (rmqueue_pcplist)", equal=True, on_lists=True,
            inputs=("migratetype",), always_told=True, zones=True,
        ),
        TaskKind(name="free of order > 0", make=_free_of_order, of_order=True),
        TaskKind(
            name="alloc of order > 0", make=lambda k, given: k.rmqueue(given.zone, given.migratetype, 1),
            inputs=("migratetype",), of_order=True,
        ),
    )
}  # fmt: skip


#: the kinds that every kernel has
SHARED = frozenset(TASKS)


def shared_options() -> dict[str, TaskKind]:
    """The same, without the kinds that some kernel has of its own."""
    return {option: kind for option, kind in options().items() if kind.name in SHARED}


def kinds_of(kernel: Any) -> dict[str, TaskKind]:
    """The kinds that a kernel has, by name: those of every kernel that has the routine, and its own."""
    known = (*(kind for kind in TASKS.values() if kind.name in SHARED), *kernel.tasks)
    return {k.name: k for k in known if k.is_in(kernel)}


def declare_tasks(kinds: Iterable[TaskKind]) -> None:
    """Add the kinds of tasks that a kernel has of its own; ModelError where one of that name is something else."""
    for kind in kinds:
        known = TASKS.get(kind.name)
        # a file that is read again has made its functions anew
        if known is not None and known != kind and known.make.__code__ != kind.make.__code__:
            raise ModelError(f"task {kind.name!r} is known, and something else: choose another name")
        TASKS[kind.name] = kind


def options() -> dict[str, TaskKind]:
    """The kinds of which a bounded run has so many, by the name of the option that says how many."""
    return {kind.option: kind for kind in TASKS.values() if kind.option}
