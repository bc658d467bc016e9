"""Operations that move pages: each abstract half (how many pages of which block) beside its concrete half (which page).

``blocks`` of an operation are the pageblocks of its zone.  A page's block may be a term; then every block's cell is
updated under the condition that it is the one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kernelmodel.cells import pcp_list_length, value
from kernelmodel.config import Config
from kernelmodel.does import Does
from kernelmodel.errors import BugError, ModelError
from kernelmodel.memory.state import Place, State
from kernelmodel.mmzone import PCPTYPES, MigrateType, Page, Zone
from kernelmodel.ops import Effect, Kind, Op
from kernelmodel.terms import (
    BoolTerm,
    Cell,
    IntTerm,
    Term,
    choice,
    evaluate,
    implies,
    ite,
    land,
    lift,
    lnot,
    lor,
    minimum,
    total,
)
from kernelmodel.told import Told

ISOLATE = MigrateType.ISOLATE


@dataclass(frozen=True, slots=True)
class PageList:
    """Pages on a task's local list: how many of each block (``by_block``), and which (``pfns``, concrete runs only)."""

    by_block: tuple[tuple[int, IntTerm], ...]
    pfns: tuple[int, ...] = ()

    @property
    def length(self) -> IntTerm:
        """Number of pages."""
        return _plain(total(n for _, n in self.by_block))


def _plain(term: Term) -> IntTerm:
    return term.args[0] if term.op == "const" else term


def _count(block: int, of: IntTerm, amount: IntTerm = 1) -> Term:
    return ite(lift(of) == block, amount, 0)


def _pages_of(config: Config, block: int, head: IntTerm, order: int) -> Term:
    """How many pages of ``block`` a page of that order has whose first page is in block ``head``."""
    if order <= config.pageblock_order:
        return _count(block, head, 1 << order)
    blocks = 1 << (order - config.pageblock_order)
    inside = land(lift(head) <= block, lift(head) > block - blocks)
    return ite(inside, config.pages_per_block, 0)


def type_of_block(config: Config, page: Page) -> Term:
    """mm/page_alloc.c: get_pfnblock_migratetype(), as a term."""
    blocks = list(config.blocks_of(page.zone))
    result = value("pageblock.migratetype", blocks[-1])
    for b in reversed(blocks[:-1]):
        result = ite(lift(page.block) == b, value("pageblock.migratetype", b), result)
    return result


def has_isolate_pageblock(zone: Zone) -> Term:
    """include/linux/page-isolation.h: has_isolate_pageblock(), as a term."""
    return value("zone.nr_isolate_pageblock", zone.index) > 0


def start_freeing(page: Page) -> Op:
    """include/linux/mm.h: put_page_testzero(): the last reference goes, the page is now this task's alone to free."""

    def effect(state: State, _: Mapping[str, int]) -> Effect:
        if state.page(page.pfn).zone != page.zone or state.place[page.pfn] is not Place.IN_USE:
            raise BugError(
                f"double free: page {page.pfn} is {state.place[page.pfn].value}; free only a page that is in use"
            )
        state.place[page.pfn] = Place.FREEING
        return Effect()

    return Op("put_page_testzero(page)", Kind.RMW, effect=effect, tag="put_page")


def store_migratetype(config: Config, page: Page) -> Op:
    """mm/page_alloc.c: free_unref_page_prepare(): read the block's migratetype and store it in the page."""

    def effect(state: State, _: Mapping[str, int]) -> Effect:
        state.stored_type[page.pfn] = state.block_type(state.block_of(page.pfn))
        return Effect()

    return Op(
        "migratetype = get_pfnblock_migratetype(page)", returns=(type_of_block(config, page),), effect=effect,
        told=Told(
            why="The page's migratetype is looked up with interrupts on. The block can change its type right after.",
            value="type",
        ),
        tag="prepare",
    )  # fmt: skip


def list_add(config: Config, page: Page, cpu: int, migratetype: IntTerm) -> Op:
    """include/linux/list.h: list_add() of a page being freed to the head of its pcplist."""
    z = page.zone.index
    updates = []
    for b in config.blocks_of(page.zone):
        for t in range(PCPTYPES):
            here = land(lift(migratetype) == t, lift(page.block) == b)
            if here.op != "const" or here.args[0]:
                updates.append((Cell("pcp.nr", (z, cpu, t, b)), value("pcp.nr", z, cpu, t, b) + ite(here, 1, 0)))
        updates.append((Cell("held", (b,)), value("held", b) - _count(b, page.block)))

    def effect(state: State, _: Mapping[str, int]) -> Effect:
        assert isinstance(migratetype, int)
        if state.place[page.pfn] is not Place.FREEING:
            raise BugError(
                f"page {page.pfn} is {state.place[page.pfn].value}: only a page that is being freed can be listed"
            )
        state.pcplists[z][cpu].add_head(page.pfn, migratetype)
        state.place[page.pfn] = Place.PCP
        return Effect()

    return Op(
        f"list_add(page, &pcp[{cpu}]->lists[])", updates=tuple(updates), effect=effect,
        told=Told(why="The page goes to the head of CPU{cpu}'s pcplist for the type that was looked up before.", moves=True),
        tag="list_add",
        does=Does(lists=(cpu, z)), info={"cpu": cpu, "zone": z},
    )  # fmt: skip


def list_empty(config: Config, zone: Zone, cpu: int, migratetype: IntTerm) -> Op:
    """include/linux/list.h: list_empty() of one pcplist."""
    lengths = [ite(lift(migratetype) == t, pcp_list_length(config, zone.index, cpu, t), 0) for t in range(PCPTYPES)]
    told = Told(why=f"Does CPU{cpu} have a page of that type?")
    return Op(f"list_empty(&pcp[{cpu}]->lists[])", returns=(total(lengths) == 0,), told=told, tag="read")


def list_del_bulk(
    config: Config, zone: Zone, cpu: int, count: IntTerm, counts: bool = True, list_by_list: bool = False
) -> Op:  # fmt: skip
    """The first loop of free_pcppages_bulk(): up to ``count`` pages go from the lists' tails to a local list.

    Each page lowers pcp->count (``counts``), or the caller does so afterwards.  Which pages leave is open; a concrete run
    takes them round-robin, or ``list_by_list``.  One step, for nobody else is in the
    critical section, and a remote reader of the count learns only whether it is 0.  Returns a PageList; it is shorter than
    ``count`` where the C loop would never end.
    """
    z, blocks = zone.index, list(config.blocks_of(zone))
    picks = {(t, b): choice(f"k{t}.{b}") for t in range(PCPTYPES) for b in blocks}
    available = pcp_list_length(config, z, cpu)
    where = land(
        *(land(k >= 0, k <= value("pcp.nr", z, cpu, t, b)) for (t, b), k in picks.items()),
        total(picks.values()) == minimum(lift(count), available),
    )
    per_block = [total(picks[t, b] for t in range(PCPTYPES)) for b in blocks]
    updates = [
        (Cell("pcp.nr", (z, cpu, t, b)), value("pcp.nr", z, cpu, t, b) - k) for (t, b), k in picks.items()
    ]  # fmt: skip
    updates += [(Cell("held", (b,)), value("held", b) + n) for b, n in zip(blocks, per_block, strict=True)]
    taken = total(per_block)
    if counts:
        updates.append((Cell("pcp.count", (z, cpu)), value("pcp.count", z, cpu) - taken))

    def effect(state: State, _: Mapping[str, int]) -> Effect:
        assert isinstance(count, int)
        lists = state.pcplists[z][cpu]
        where_was = {p: t for t in range(PCPTYPES) for p in lists.lists[t]}
        pfns = tuple(lists.detach_list_by_list(count) if list_by_list else lists.detach_bulk(count))
        made = {f"k{t}.{b}": 0 for t, b in picks}
        for p in pfns:
            state.place[p] = Place.FREEING
            made[f"k{where_was[p]}.{state.block_of(p)}"] += 1
        return Effect(made, pfns)

    return Op(
        "list_del({0} pages), pcp->count -= {0}" if counts else "list_del({0} pages)",
        returns=tuple(per_block),
        choices=tuple(picks.values()),
        where=where,
        updates=tuple(updates),
        effect=effect,
        pack=lambda values, extra: PageList(tuple(zip(blocks, values, strict=True)), extra or ()),
        shown=(minimum(lift(count), available),),
        told=Told(
            why="Pages leave CPU{cpu}'s pcplists, to go back to the buddy.", value="pages of each block", moves=True
        ),
        tag="detach",
        does=Does(lists=(cpu, z), takes=True),
        info={"cpu": cpu, "zone": z},
    )


def _misplacing(freed: Mapping[int, IntTerm], stale: Mapping[int, Term]) -> tuple[dict[int, Term], Term]:
    """How ``misplaced`` may change where ``freed[b]`` pages of each block are freed, ``stale[b]``: to a wrong list.

    The page drags the free neighbours that it merges with to its list, so one stale free may misplace many; a good one
    may bring some back.  Returns the new values, which are choices, and their constraint.
    """
    after = {b: choice(f"misplaced{b}") for b in freed}
    any_stale = lor(*(land(stale[b], lift(freed[b]) > 0) for b in freed))
    where = [
        land(
            m >= 0,
            implies(lnot(any_stale), m <= value("misplaced", b)),
            implies(stale[b], m >= freed[b]),
            implies(lnot(value("pageblock.migratetype", b) == ISOLATE), m == 0),
        )
        for b, m in after.items()
    ]
    return after, land(*where)


def _no_more_than_free(freed: Mapping[int, IntTerm], after: Mapping[int, Term]) -> Term:
    """Of the free pages of a block, the freed ones included, no more than all are misplaced."""
    return land(*(after[b] <= value("free", b) + n for b, n in freed.items()))


def _isolated_and_online(block: int) -> Term:
    return land(value("pageblock.migratetype", block) == ISOLATE, lnot(value("block_offline", block)))


def _made(state: State, after: Mapping[int, Term]) -> Effect:
    return Effect({m.args[0]: state.load(Cell("misplaced", (b,))) for b, m in after.items()})


_TO_BUDDY = Told(why="Pages are put on the buddy's free lists, under zone->lock.", moves=True)


def free_to_buddy(config: Config, zone: Zone, pages: PageList, reread: BoolTerm) -> Op:
    """The second loop of free_pcppages_bulk(): one critical section of zone->lock, __free_one_page() for each page.

    ``reread``: use the pageblock's migratetype as it is now; otherwise the one that was stored in the page.
    """
    freed = dict(pages.by_block)
    stale = {b: land(_isolated_and_online(b), lnot(reread)) for b in freed}
    after, where = _misplacing(freed, stale)
    updates = [(Cell("held", (b,)), value("held", b) - n) for b, n in freed.items()]
    updates += [(Cell("free", (b,)), value("free", b) + n) for b, n in freed.items()]
    updates += [(Cell("misplaced", (b,)), m) for b, m in after.items()]

    def effect(state: State, _: Mapping[str, int]) -> Effect:
        now = bool(_value(state, reread))
        for p in pages.pfns:
            state.free_to_buddy(p, 0, state.block_type(state.block_of(p)) if now else state.stored_type[p])
        return _made(state, after)

    return Op(
        "spin_lock(&zone->lock): __free_one_page() of {0} pages", Kind.CRITICAL, updates=tuple(updates), effect=effect,
        choices=tuple(after.values()), where=where, counted=_no_more_than_free(freed, after),
        shown=(lift(pages.length),), told=_TO_BUDDY, tag="free_to_buddy",
    )  # fmt: skip


def free_one(config: Config, page: Page, migratetype: IntTerm, order: int, reread: BoolTerm) -> Op:
    """The critical section of free_one_page(): re-read the type if ``reread``, then __free_one_page()."""
    freed = {b: _pages_of(config, b, page.block, order) for b in config.blocks_of(page.zone)}
    wrong = land(lnot(reread), lnot(lift(migratetype) == ISOLATE))
    stale = {b: land(_isolated_and_online(b), wrong) for b in freed}
    after, where = _misplacing(freed, stale)
    updates = [(Cell("held", (b,)), value("held", b) - n) for b, n in freed.items()]
    updates += [(Cell("free", (b,)), value("free", b) + n) for b, n in freed.items()]
    updates += [(Cell("misplaced", (b,)), m) for b, m in after.items()]

    def effect(state: State, _: Mapping[str, int]) -> Effect:
        assert isinstance(migratetype, int)
        now = state.block_type(state.block_of(page.pfn)) if _value(state, reread) else migratetype
        state.free_to_buddy(page.pfn, order, now)
        return _made(state, after)

    return Op(
        "spin_lock(&zone->lock): __free_one_page()", Kind.CRITICAL, updates=tuple(updates), effect=effect,
        choices=tuple(after.values()), where=where, counted=_no_more_than_free(freed, after), told=_TO_BUDDY, tag="free_to_buddy",
    )  # fmt: skip


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


def refill(config: Config, zone: Zone, cpu: int, migratetype: IntTerm, batch: IntTerm) -> Op:
    """The critical section of rmqueue_bulk(): up to ``batch`` pages of the buddy to the tail of a pcplist.

    Never from an ISOLATE free list; a page of an ISOLATE block only if it is misplaced.  Returns how many.  A concrete
    run may be told of which block the first page, the second… is (choices ``nth0``, ``nth1``…), for the order in which
    the buddy hands pages out is that of its own past, which no engine follows.
    """
    z, blocks = zone.index, list(config.blocks_of(zone))
    got, isolated, where, counted = _handed_out(blocks, batch)
    updates = []
    for b, n in got.items():
        updates.append((Cell("free", (b,)), value("free", b) - n))
        updates.append((Cell("misplaced", (b,)), value("misplaced", b) - ite(isolated[b], n, 0)))
        for t in range(PCPTYPES):
            here = lift(migratetype) == t
            if here.op != "const" or here.args[0]:
                updates.append((Cell("pcp.nr", (z, cpu, t, b)), value("pcp.nr", z, cpu, t, b) + ite(here, n, 0)))

    def effect(state: State, wanted: Mapping[str, int]) -> Effect:
        assert isinstance(batch, int) and isinstance(migratetype, int)
        keep = {b: wanted[f"got{b}"] for b in blocks if f"got{b}" in wanted}
        hidden = _hide_all_but(state, zone, keep)
        made = {f"got{b}": 0 for b in blocks}
        taken = []
        for _ in range(batch):
            pfn = state.take_from_buddy(zone, 0, migratetype)
            if pfn is None:
                break
            taken.append(pfn)
            state.place[pfn] = Place.PCP
            state.stored_type[pfn] = migratetype
            made[f"got{state.block_of(pfn)}"] += 1
        taken, order = _in_wanted_order(state, taken, wanted)
        state.pcplists[z][cpu].add_tail(taken, migratetype)
        for pfn, free_type in hidden:
            state.free_to_buddy(pfn, 0, free_type)
        return Effect({**made, **order})

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


def list_del_first(config: Config, zone: Zone, cpu: int, migratetype: IntTerm) -> Op:
    """list_first_entry() and list_del() of a pcplist that is not empty: the page goes to the caller."""
    z, blocks = zone.index, list(config.blocks_of(zone))
    picks = {(t, b): choice(f"take{t}.{b}") for t in range(PCPTYPES) for b in blocks}
    where = land(
        *(
            land(k >= 0, k <= minimum(value("pcp.nr", z, cpu, t, b), ite(lift(migratetype) == t, 1, 0)))
            for (t, b), k in picks.items()
        ),
        total(picks.values()) == 1,
    )
    per_block = {b: total(picks[t, b] for t in range(PCPTYPES)) for b in blocks}
    updates = [(Cell("pcp.nr", (z, cpu, t, b)), value("pcp.nr", z, cpu, t, b) - k) for (t, b), k in picks.items()]
    updates += [(Cell(c, (b,)), value(c, b) + n) for c in ("held", "in_use") for b, n in per_block.items()]

    def effect(state: State, _: Mapping[str, int]) -> Effect:
        assert isinstance(migratetype, int)
        pfn = state.pcplists[z][cpu].take_head(migratetype)
        state.place[pfn] = Place.IN_USE
        made = {f"take{t}.{b}": int((t, b) == (migratetype, state.block_of(pfn))) for t, b in picks}
        return Effect(made, pfn)

    return Op(
        f"page = list_first_entry(&pcp[{cpu}]->lists[]), list_del(page)",
        updates=tuple(updates),
        returns=(total(b * n for b, n in per_block.items()),),
        choices=tuple(picks.values()),
        where=where,
        effect=effect,
        pack=lambda values, pfn: Page(-1 if pfn is None else pfn, values[0], zone),
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
        hidden = _hide_all_but(state, zone, {b: wanted[f"got{b}"] for b in blocks if f"got{b}" in wanted})
        pfn = state.take_from_buddy(zone, 0, migratetype)
        made = {f"got{b}": 0 for b in blocks}
        if pfn is not None:
            state.place[pfn] = Place.IN_USE
            made[f"got{state.block_of(pfn)}"] = 1
        for p, free_type in hidden:
            state.free_to_buddy(p, 0, free_type)
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


def _hide_all_but(state: State, zone: Zone, keep: Mapping[int, int]) -> list[tuple[int, int]]:
    """Take free pages out of the buddy until ``keep[block]`` are left that may be handed out: others hold them.

    This is how an engine that treats the buddy as a set has its choice realised; the pages come back afterwards.
    """
    base = state.base(zone)
    buddy = state.buddy(zone)
    hidden: list[tuple[int, int]] = []
    for block, wanted in keep.items():
        usable = [
            (p, int(free_type))
            for p in state.pfns(block)
            if (free_type := buddy.free_type_of(p - base)) is not None and free_type < PCPTYPES
        ]
        if len(usable) < wanted:
            raise ModelError(f"block {block} has {len(usable)} free pages where the trace takes {wanted}")
        hidden += usable[wanted:]
    for pfn, _ in hidden:
        buddy.remove(pfn - base)
        state.place[pfn] = Place.IN_USE
    return hidden


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


def _value(state: State, term: BoolTerm) -> int:
    return evaluate(lift(term), state.load, {})
