"""Operations by which pages are taken from pcplists and from the buddy."""

from __future__ import annotations

from collections.abc import Mapping

from kernelmodel.cells import value
from kernelmodel.config import Config
from kernelmodel.does import Does
from kernelmodel.errors import ModelError
from kernelmodel.memory.buddy import Buddy
from kernelmodel.memory.state import Place, State
from kernelmodel.mmzone import PCPTYPES, Page, Zone
from kernelmodel.ops import Effect, Kind, Op
from kernelmodel.page_ops.counted import ISOLATE
from kernelmodel.terms import (
    Cell,
    IntTerm,
    Term,
    choice,
    implies,
    ite,
    land,
    lift,
    minimum,
    total,
)
from kernelmodel.told import Told


def _handed_out(blocks: list[int], most: IntTerm) -> tuple[dict[int, Term], dict[int, Term], Term, Term]:
    """How many free pages of each block the buddy hands out, up to ``most``, and whether it is ISOLATE; the constraints.

    Never from an ISOLATE free list, so of an ISOLATE block only pages that are misplaced.  The second constraint is for
    engines that count free pages: as many as there are.
    """
    got = {b: choice(f"got{b}") for b in blocks}
    isolated = {b: value("pageblock.migratetype", b) == ISOLATE for b in blocks}
    where = land(
        *(land(n >= 0, implies(isolated[b], n <= value("misplaced", b))) for b, n in got.items()),
        total(got.values()) <= most,
    )
    available = {b: ite(isolated[b], value("misplaced", b), value("free", b)) for b in blocks}
    counted = land(
        *(n <= available[b] for b, n in got.items()),
        total(got.values()) == minimum(lift(most), total(available.values())),
    )
    return got, isolated, where, counted


def refill(config: Config, zone: Zone, cpu: int, migratetype: IntTerm, batch: IntTerm, order: int = 0) -> Op:
    """The critical section of rmqueue_bulk(): up to ``batch`` pages of that order from the buddy to the tail of a pcplist.

    Never from an ISOLATE free list; a page of an ISOLATE block only if it is misplaced.  Returns how many.  A concrete
    run may be told of which block the first page, the second… is (choices ``nth0``, ``nth1``…), for the order in which
    the buddy hands pages out is that of its own past, which no engine follows.
    """
    z, blocks = zone.index, list(config.blocks_of(zone))
    got, isolated, where, counted = _handed_out(blocks, batch)
    pages = got
    if order:
        pages = {b: n * (1 << order) for b, n in got.items()}
        where = land(where, *(implies(isolated[b], n <= value("misplaced", b)) for b, n in pages.items()))
        # free pages that are no neighbours make none of that order
        counted = land(*(n <= value("free", b) for b, n in pages.items()))
    updates = []
    for b, n in pages.items():
        updates.append((Cell("free", (b,)), value("free", b) - n))
        updates.append((Cell("misplaced", (b,)), value("misplaced", b) - ite(isolated[b], n, 0)))
        for t in range(PCPTYPES):
            here = lift(migratetype) == t
            if here.op != "const" or here.args[0]:
                u = config.list_of(t, order)
                updates.append((Cell("pcp.nr", (z, cpu, u, b)), value("pcp.nr", z, cpu, u, b) + ite(here, got[b], 0)))

    def effect(state: State, wanted: Mapping[str, int]) -> Effect:
        assert isinstance(batch, int) and isinstance(migratetype, int)
        keep = {b: wanted[f"got{b}"] for b in blocks if f"got{b}" in wanted}
        made = {f"got{b}": 0 for b in blocks}
        taken = _taken(state, zone, order, migratetype, batch, keep)
        for pfn in taken:
            for p in range(pfn, pfn + (1 << order)):
                state.place[p] = Place.PCP
            if order:
                state.order_freed[pfn] = order
            state.stored_type[pfn] = migratetype
            made[f"got{state.block_of(pfn)}"] += 1
        taken, turns = _in_wanted_order(state, taken, wanted)
        state.pcplists[z][cpu].add_tail(taken, config.list_of(migratetype, order))
        return Effect({**made, **turns})

    return Op(
        "rmqueue_bulk({0})",
        Kind.CRITICAL,
        updates=tuple(updates),
        returns=(total(got.values()),),
        choices=tuple(got.values()),
        where=where,
        counted=counted,
        effect=effect,
        shown=(lift(batch),),
        told=Told(
            why="The list was empty: pages come from the buddy to CPU{cpu}'s pcplist. count does not include them yet.",
            value="pages",
            moves=True,
        ),
        tag="refill",
        does=Does(lists=(cpu, z)),
        info={"cpu": cpu, "zone": z},
    )


def list_del_first(config: Config, zone: Zone, cpu: int, migratetype: IntTerm, order: int = 0) -> Op:
    """list_first_entry() and list_del() of a pcplist that is not empty: the page goes to the caller."""
    z, blocks = zone.index, list(config.blocks_of(zone))
    index = {t: config.list_of(t, order) for t in range(PCPTYPES)}
    picks = {(t, b): choice(f"take{index[t]}.{b}") for t in range(PCPTYPES) for b in blocks}
    where = land(
        *(
            land(k >= 0, k <= minimum(value("pcp.nr", z, cpu, index[t], b), ite(lift(migratetype) == t, 1, 0)))
            for (t, b), k in picks.items()
        ),
        total(picks.values()) == 1,
    )
    first = {b: total(picks[t, b] for t in range(PCPTYPES)) for b in blocks}
    per_block = {b: n * (1 << order) for b, n in first.items()} if order else first
    updates = [
        (Cell("pcp.nr", (z, cpu, index[t], b)), value("pcp.nr", z, cpu, index[t], b) - k) for (t, b), k in picks.items()
    ]
    updates += [(Cell(c, (b,)), value(c, b) + n) for c in ("held", "in_use") for b, n in per_block.items()]

    def effect(state: State, _: Mapping[str, int]) -> Effect:
        assert isinstance(migratetype, int)
        pfn = state.pcplists[z][cpu].take_head(config.list_of(migratetype, order))
        for p in range(pfn, pfn + (1 << order)):
            state.place[p] = Place.IN_USE
        if order:
            state.order_in_use[pfn] = state.order_freed.pop(pfn)
        made = {f"take{index[t]}.{b}": int((t, b) == (migratetype, state.block_of(pfn))) for t, b in picks}
        return Effect(made, pfn)

    return Op(
        f"page = list_first_entry(&pcp[{cpu}]->lists[]), list_del(page)",
        updates=tuple(updates),
        returns=(total(b * n for b, n in first.items()),),
        choices=tuple(picks.values()),
        where=where,
        effect=effect,
        pack=lambda values, pfn: Page(-1 if pfn is None else pfn, values[0], zone, order),
        told=Told(why="The first page of CPU{cpu}'s pcplist is handed to the caller.", value="block", moves=True),
        tag="take",
        does=Does(lists=(cpu, z), takes=True),
        info={"cpu": cpu, "zone": z, "taken": per_block},
    )


def rmqueue_page(config: Config, zone: Zone, migratetype: IntTerm) -> Op:
    """The critical section of rmqueue_buddy() for order 0: a page straight from the buddy.  Returns (found, page)."""
    blocks = list(config.blocks_of(zone))
    got, isolated, where, counted = _handed_out(blocks, 1)
    updates = [(Cell("misplaced", (b,)), value("misplaced", b) - ite(isolated[b], n, 0)) for b, n in got.items()]
    updates += [(Cell(c, (b,)), value(c, b) + n) for c in ("held", "in_use") for b, n in got.items()]
    updates += [(Cell("free", (b,)), value("free", b) - n) for b, n in got.items()]

    def effect(state: State, wanted: Mapping[str, int]) -> Effect:
        assert isinstance(migratetype, int)
        keep = {b: wanted[f"got{b}"] for b in blocks if f"got{b}" in wanted}
        pfn = next(iter(_taken(state, zone, 0, migratetype, 1, keep)), None)
        made = {f"got{b}": 0 for b in blocks}
        if pfn is not None:
            state.place[pfn] = Place.IN_USE
            made[f"got{state.block_of(pfn)}"] = 1
        return Effect(made, pfn)

    return Op(
        "spin_lock(&zone->lock): __rmqueue(order 0)",
        Kind.CRITICAL,
        updates=tuple(updates),
        returns=(total(got.values()) > 0, total(b * n for b, n in got.items())),
        choices=tuple(got.values()),
        where=where,
        counted=counted,
        effect=effect,
        pack=lambda values, pfn: (values[0], Page(-1 if pfn is None else pfn, values[1], zone)),
        told=Told(why="A page comes straight from the buddy, under zone->lock.", value="found", moves=True),
        tag="rmqueue",
        info={"zone": zone.index, "taken": dict(got)},
    )


def rmqueue_buddy(config: Config, zone: Zone, order: int, migratetype: IntTerm) -> Op:
    """The critical section of rmqueue() for order > 0: pages straight from the buddy.  Returns a Page or None."""
    blocks = list(config.blocks_of(zone))
    pages = 1 << order
    got, isolated, where, _ = _handed_out(blocks, pages)
    updates = [(Cell("misplaced", (b,)), value("misplaced", b) - ite(isolated[b], n, 0)) for b, n in got.items()]
    updates += [(Cell(c, (b,)), value(c, b) + n) for c in ("held", "in_use") for b, n in got.items()]
    updates += [(Cell("free", (b,)), value("free", b) - n) for b, n in got.items()]

    def effect(state: State, _: Mapping[str, int]) -> Effect:
        assert isinstance(migratetype, int)
        pfn = state.take_from_buddy(zone, order, migratetype)
        made = {f"got{b}": 0 for b in blocks}
        if pfn is not None:
            for p in range(pfn, pfn + pages):
                state.place[p] = Place.IN_USE
                made[f"got{state.block_of(p)}"] += 1
            if order:
                state.order_in_use[pfn] = order
        return Effect(made, pfn)

    return Op(
        f"spin_lock(&zone->lock): __rmqueue(order {order})",
        Kind.CRITICAL,
        updates=tuple(updates),
        returns=(total(got.values()) > 0,),
        choices=tuple(got.values()),
        where=where,
        effect=effect,
        pack=lambda _, pfn: None if pfn is None else Page(pfn, pfn >> config.pageblock_order, zone),
        told=Told(moves=True),
        tag="rmqueue",
        info={"zone": zone.index, "taken": {b: got[b] for b in blocks}},
    )


def _taken(state: State, zone: Zone, order: int, migratetype: int, most: int, keep: Mapping[int, int]) -> list[int]:
    """Up to ``most`` pages of an order that the buddy hands out: where ``keep`` has a block, none but its first so many.

    This is how an engine that treats the buddy as a set has its choice realised: it is as if others held the rest.
    """
    if not keep:
        pages = (state.take_from_buddy(zone, order, migratetype) for _ in range(most))
        return [p for p in pages if p is not None]
    few = _with_only(state, zone, {b: n << order for b, n in keep.items()})
    base, buddy = state.base(zone), state.buddy(zone)
    taken = []
    for _ in range(most):
        head = few.rmqueue(order, migratetype)
        if head is None:
            break
        taken.append(head + base)
        for p in range(head, head + (1 << order)):
            buddy.remove(p)
    return taken


def _with_only(state: State, zone: Zone, keep: Mapping[int, int]) -> Buddy:
    """A buddy that has no more than the first ``keep[block]`` of the pages that this one may hand out."""
    base, buddy, types = state.base(zone), state.buddy(zone), state.block_types(zone)
    few = Buddy(buddy.nr_pages, buddy.pageblock_order, buddy.max_order)
    for block in state.config.blocks_of(zone):
        pfns = state.pfns(block)
        free = buddy.free_parts(range(pfns.start - base, pfns.stop - base))
        usable = [(p, t) for part, t in free if t < PCPTYPES for p in part]
        wanted = keep.get(block, len(usable))
        if len(usable) < wanted:
            raise ModelError(f"block {block} has {len(usable)} free pages where the trace takes {wanted}")
        for p, t in usable[:wanted]:
            few.free_one_page(p, 0, t, types, state.has_isolate_pageblock(zone.index), to_tail=True)
    return few


def _in_wanted_order(state: State, taken: list[int], wanted: Mapping[str, int]) -> tuple[list[int], dict[str, int]]:
    """The pages in the order of their blocks that ``wanted`` asks for, and that order; as they are if it asks for none."""
    order = {f"nth{i}": wanted[f"nth{i}"] for i in range(len(taken)) if f"nth{i}" in wanted}
    if not order:
        return taken, {}
    rest = list(taken)
    placed = []
    for block in order.values():
        pfn = next((p for p in rest if state.block_of(p) == block), None)
        if pfn is None:
            raise ModelError(f"the trace wants more pages of block {block} than rmqueue_bulk() takes")
        rest.remove(pfn)
        placed.append(pfn)
    return placed + rest, order
