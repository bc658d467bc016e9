"""Leaves run: the C of a function that the model sums up, on random small states, against the summary's concrete half."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kernelmodel.config import Config
from kernelmodel.ctext.files import Tree
from kernelmodel.ctext.kernel import NAMES
from kernelmodel.ctext.reader import Reading, compiled
from kernelmodel.errors import ModelError
from kernelmodel.machine import Machine, packed
from kernelmodel.memory.state import Place, State
from kernelmodel.mmzone import PCPTYPES, MigrateType, Zone
from kernelmodel.ops import Op
from kernelmodel.terms import evaluate
from kernelmodel.text import KernelText
from kernelmodel.vocabulary.concrete import CONCRETE
from kernelmodel.vocabulary.values import Pcp, PcpList
from kernelmodel.vocabulary.words import PAGE_ALLOC

#: random states for each leaf
STATES = 400
#: more looks at lists than any of them takes
_PATIENCE = 10_000
_MACHINE = Config(
    nr_cpus=1, block_types=(MigrateType.MOVABLE, MigrateType.UNMOVABLE, MigrateType.MOVABLE, MigrateType.RECLAIMABLE),
    pageblock_order=3, max_order=5,
)  # fmt: skip


class PageRef(NamedTuple):
    """A ``struct page *``."""

    pfn: int


class LocalList(NamedTuple):
    """A list that a function makes for itself, of page frame numbers."""

    pages: list[int]


class World:
    """What the C of a leaf works on: a copy of a machine's concrete state."""

    def __init__(self, state: State) -> None:
        self.state, self.looks = state, 0

    @property
    def lists(self) -> list[list[int]]:
        """The pcplists of the one CPU, by type."""
        return self.state.pcplists[0][0].lists

    def new_list(self) -> LocalList:
        """LIST_HEAD()."""
        return LocalList([])

    def each(self, which: PcpList | LocalList) -> list[PageRef]:
        """list_for_each_entry_safe(): the pages as they are at first; those of a local list leave it."""
        return [PageRef(pfn) for pfn in self._list(which)]

    def _list(self, which: PcpList | LocalList) -> list[int]:
        self.looks += 1
        if self.looks > _PATIENCE:
            raise ModelError("it never ends")
        if isinstance(which, LocalList):
            return which.pages
        if not 0 <= which.type < 12:
            raise ModelError(f"list {which.type} of 12")
        # lists of larger orders are empty
        return self.lists[which.type] if which.type < PCPTYPES else []

    def empty(self, which: PcpList | LocalList) -> bool:
        """list_empty()."""
        return not self._list(which)

    def last(self, which: PcpList | LocalList) -> PageRef:
        """list_last_entry()."""
        return PageRef(self._list(which)[-1])

    def first(self, which: PcpList | LocalList) -> PageRef:
        """list_first_entry()."""
        return PageRef(self._list(which)[0])

    def page(self, pfn: int) -> PageRef:
        """pfn_to_page()."""
        return PageRef(pfn)

    def delete(self, page: PageRef) -> None:
        """list_del()."""
        for pages in self.lists:
            if page.pfn in pages:
                pages.remove(page.pfn)
                self.state.place[page.pfn] = Place.FREEING
                return
        raise ModelError(f"page {page.pfn} is on no list")

    def add(self, page: PageRef, which: PcpList | LocalList, where: int) -> None:
        """list_add(), list_add_tail()."""
        pages = self._list(which)
        pages.insert(len(pages) if where < 0 else 0, page.pfn)
        if isinstance(which, LocalList):
            return
        self.state.place[page.pfn] = Place.PCP
        self.state.stored_type[page.pfn] = which.type

    def stored(self, page: PageRef) -> int:
        """get_pcppage_migratetype()."""
        return int(self.state.stored_type[page.pfn])

    def block_type(self, page: PageRef) -> int:
        """get_pfnblock_migratetype()."""
        return self.state.block_type(self.state.block_of(page.pfn))

    def has_isolate(self) -> bool:
        """has_isolate_pageblock()."""
        return self.state.has_isolate_pageblock(0)

    def free_one(self, page: PageRef, order: int, migratetype: int) -> None:
        """__free_one_page()."""
        self.state.free_to_buddy(page.pfn, order, migratetype)

    def rmqueue(self, order: int, migratetype: int) -> PageRef | None:
        """__rmqueue()."""
        pfn = self.state.take_from_buddy(Zone(), order, migratetype)
        return None if pfn is None else PageRef(pfn)


@dataclass(frozen=True, slots=True)
class Checked:
    """What running a leaf came to: ``difference`` is empty where it did what the summary says, every time."""

    name: str
    states: int
    difference: str = ""
    refused: str = ""


def check(tree: Tree, era: type[KernelText], names: Mapping[str, Callable[..., Any]] | None = None) -> list[Checked]:
    """The leaves that can be run, each on random states of its own; ModelError for none."""
    return [_check(Reading(tree, CONCRETE), era, name, make) for name, make in (names or LEAVES).items()]


def _check(reading: Reading, era: type[KernelText], name: str, make: Callable[..., Any]) -> Checked:
    function = reading.function(name, PAGE_ALLOC)
    if function is None:
        return Checked(name, 0, refused=f"{PAGE_ALLOC} has no such function")
    method = reading.read(name, function)
    if reading.refused:
        return Checked(name, 0, refused=next(iter(reading.refused.values())))
    routines = {
        m.method: compiled(m.python, m.lines, m.function.file, NAMES) for m in reading.translated.values()
    }  # fmt: skip
    kind = type("FromC", (World,), routines)
    for number in range(STATES):
        dice = random.Random(f"{name} {number}")
        machine = _machine(era, dice)
        summary, given, shown = make(machine, dice)
        world = kind(copy.deepcopy(machine.state))
        arguments = [given.get(p) for _, p in function.parameters]
        try:
            result = _run(getattr(world, method)(*arguments), world.state)
        except (ModelError, IndexError, TypeError, AttributeError) as error:
            return Checked(name, number, f"{shown}: {error}")
        theirs = _picture(world.state, result)
        machine.check = False
        mine = _picture(machine.state, machine.run(machine.spawn("leaf", summary, 0)))
        for part, value in mine.items():
            if theirs[part] != value:
                return Checked(name, number + 1, f"{shown}: {part}: the C has {theirs[part]}, the summary {value}")
    return Checked(name, STATES)


def _machine(era: type[KernelText], dice: random.Random) -> Machine:
    """Pages on the lists, some of them of blocks that are isolated by now; the buddy has the rest."""
    machine = Machine(era, _MACHINE)
    state = machine.state
    for _ in range(dice.randrange(12)):
        machine.put_on_pcplist(0, dice.randrange(len(_MACHINE.block_types)), dice.randrange(PCPTYPES))
    isolated = [b for b in range(len(_MACHINE.block_types)) if dice.random() < 0.3]
    state.isolate(isolated, 0)
    return machine


def _run(generator: Any, state: State) -> Any:
    value = None
    while True:
        try:
            op: Op = generator.send(value)
        except StopIteration as stop:
            return stop.value
        returned = tuple(evaluate(t, state.stored.__getitem__, {}) for t in op.returns)
        for cell, term in op.updates:
            state.stored[cell] = evaluate(term, state.stored.__getitem__, {})
        value = packed(op, returned)


def _picture(state: State, result: Any) -> dict[str, Any]:
    return {
        "returned": int(result) if isinstance(result, int) else None,
        "pcp->count": state.pcp_count(0, 0),
        "lists": [list(pages) for pages in state.pcplists[0][0].lists],
        "free lists": {key: sorted(pages) for key, pages in state.buddies[0].free_list.items() if pages},
        "places": [place.value for place in state.place],
    }


# --- the leaves: what the model runs, what the C is given, and the case in words ---


def _bulk(machine: Machine, dice: random.Random) -> Any:
    count = dice.randrange(len(machine.state.place))
    summary = machine.kernel.free_pcppages_bulk(Zone(), count, 0)
    given = {"zone": Zone(), "count": count, "pcp": Pcp(Zone(), 0), "pindex": 0}
    return summary, given, f"count {count}, lists {[list(x) for x in machine.state.pcplists[0][0].lists]}"


def _refill(machine: Machine, dice: random.Random) -> Any:
    count, kind = dice.randrange(9), dice.randrange(PCPTYPES)
    summary = machine.kernel.rmqueue_bulk(Zone(), count, 0, kind)
    given = {
        "zone": Zone(), "order": 0, "count": count, "list": PcpList(Pcp(Zone(), 0), kind), "migratetype": kind, "alloc_flags": 0,
    }  # fmt: skip
    return summary, given, f"count {count}, type {kind}"


def _free(machine: Machine, dice: random.Random) -> Any:
    state = machine.state
    pfn = machine.allocate(
        dice.choice([b for b in range(4) if any(state.place[p] is Place.BUDDY for p in state.pfns(b))])
    )
    state.place[pfn] = Place.FREEING
    # looked up before the block was isolated, or after
    kind = dice.choice([int(_MACHINE.block_types[state.block_of(pfn)]), state.block_type(state.block_of(pfn))])
    summary = machine.kernel.free_one_page(Zone(), state.page(pfn), kind, 0)
    given = {"zone": Zone(), "page": PageRef(pfn), "pfn": pfn, "order": 0, "migratetype": kind, "fpi_flags": 0}
    return summary, given, f"page {pfn}, type {kind}"


#: what each is called with
LEAVES: dict[str, Callable[[Machine, random.Random], Any]] = {
    "free_pcppages_bulk": _bulk, "rmqueue_bulk": _refill, "free_one_page": _free,
}  # fmt: skip
