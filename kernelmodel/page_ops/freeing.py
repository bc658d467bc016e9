"""Operations by which pages come to pcplists and to the buddy."""

from __future__ import annotations

from collections.abc import Mapping

from kernelmodel.cells import pcp_list_length, value
from kernelmodel.config import Config
from kernelmodel.does import Does
from kernelmodel.errors import BugError
from kernelmodel.memory.state import Place, State
from kernelmodel.mmzone import PCPTYPES, Page, Zone
from kernelmodel.ops import Effect, Kind, Op
from kernelmodel.page_ops.counted import ISOLATE, PageList, one_block, pages_of, type_of_block
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
    """include/linux/list.h: list_add() of a page being freed to the head of the pcplist of its type and order."""
    z, pages = page.zone.index, range(page.pfn, page.pfn + (1 << page.order))
    updates = []
    for b in config.blocks_of(page.zone):
        for t in range(PCPTYPES):
            here = land(lift(migratetype) == t, lift(page.block) == b)
            if here.op != "const" or here.args[0]:
                u = config.list_of(t, page.order)
                updates.append((Cell("pcp.nr", (z, cpu, u, b)), value("pcp.nr", z, cpu, u, b) + ite(here, 1, 0)))
        updates.append((Cell("held", (b,)), value("held", b) - one_block(b, page.block, 1 << page.order)))

    def effect(state: State, _: Mapping[str, int]) -> Effect:
        assert isinstance(migratetype, int)
        if state.place[page.pfn] is not Place.FREEING:
            raise BugError(
                f"page {page.pfn} is {state.place[page.pfn].value}: only a page that is being freed can be listed"
            )
        state.pcplists[z][cpu].add_head(page.pfn, config.list_of(migratetype, page.order))
        for pfn in pages:
            state.place[pfn] = Place.PCP
        return Effect()

    return Op(
        f"list_add(page, &pcp[{cpu}]->lists[])", updates=tuple(updates), effect=effect,
        told=Told(why="The page goes to the head of CPU{cpu}'s pcplist for the type that was looked up before.", moves=True),
        tag="list_add",
        does=Does(lists=(cpu, z)), info={"cpu": cpu, "zone": z},
    )  # fmt: skip


def list_empty(config: Config, zone: Zone, cpu: int, migratetype: IntTerm, order: int = 0) -> Op:
    """include/linux/list.h: list_empty() of one pcplist."""
    lengths = [
        ite(lift(migratetype) == t, pcp_list_length(config, zone.index, cpu, config.list_of(t, order)), 0)
        for t in range(PCPTYPES)
    ]
    told = Told(why=f"Does CPU{cpu} have a page of that type?")
    return Op(f"list_empty(&pcp[{cpu}]->lists[])", returns=(total(lengths) == 0,), told=told, tag="read")


def list_del_bulk(
    config: Config, zone: Zone, cpu: int, count: IntTerm, counts: bool = True, list_by_list: bool = False
) -> Op:  # fmt: skip
    """The first loop of free_pcppages_bulk(): up to ``count`` pages go from the lists' tails to a local list.

    Pages leave whole, so those of an order above 0 may make it a few more.
    Each page lowers pcp->count (``counts``), or the caller does so afterwards.  Which pages leave is open; a concrete run
    takes them round-robin, or ``list_by_list``.  One step, for nobody else is in the
    critical section, and a remote reader of the count learns only whether it is 0.  Returns a PageList; it is shorter than
    ``count`` where the C loop would never end.
    """
    z, blocks = zone.index, list(config.blocks_of(zone))
    picks = {(t, b): choice(f"k{t}.{b}") for t in config.lists for b in blocks}
    available = pcp_list_length(config, z, cpu)
    each = {t: config.pages_of_list(t) for t in config.lists}
    per_block = [total(config.in_pages(t, picks[t, b]) for t in config.lists) for b in blocks]
    where = land(
        *(land(k >= 0, k <= value("pcp.nr", z, cpu, t, b)) for (t, b), k in picks.items()),
        _as_many(minimum(lift(count), available), picks, each),
    )
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
        where_was = {page[0]: (t, page) for t, page in lists.pages()}
        pfns = tuple(lists.detach_list_by_list(count) if list_by_list else lists.detach_bulk(count))
        made = {f"k{t}.{b}": 0 for t, b in picks}
        for p in pfns:
            t, page = where_was[p]
            for pfn in page:
                state.place[pfn] = Place.FREEING
            made[f"k{t}.{state.block_of(p)}"] += 1
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


def _as_many(count: Term, picks: Mapping[tuple[int, int], Term], each: Mapping[int, int]) -> Term:
    """That the pages taken are ``count``, or more by less than the last of them, if pages are made of several."""
    if max(each.values()) == 1:
        return total(picks.values()) == count
    taken = total(k * each[t] for (t, _), k in picks.items())
    without_last = [land(k > 0, taken - each[t] < count) for (t, _), k in picks.items()]
    return land(taken >= count, lor(taken == 0, *without_last))


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
            stored = state.block_type(state.block_of(p)) if now else state.stored_type[p]
            state.free_to_buddy(p, state.order_freed.get(p, 0), stored)
        return _made(state, after)

    return Op(
        "spin_lock(&zone->lock): __free_one_page() of {0} pages", Kind.CRITICAL, updates=tuple(updates), effect=effect,
        choices=tuple(after.values()), where=where, counted=_no_more_than_free(freed, after),
        shown=(lift(pages.length),), told=_TO_BUDDY, tag="free_to_buddy",
    )  # fmt: skip


def free_one(config: Config, page: Page, migratetype: IntTerm, order: int, reread: BoolTerm) -> Op:
    """The critical section of free_one_page(): re-read the type if ``reread``, then __free_one_page()."""
    order = max(order, page.order)
    freed = {b: pages_of(config, b, page.block, order) for b in config.blocks_of(page.zone)}
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


def _value(state: State, term: BoolTerm) -> int:
    return evaluate(lift(term), state.load, {})
