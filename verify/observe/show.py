"""What was seen of a running kernel, for people: verdicts, how far to trust them, and violations as columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kernelmodel.mmzone import MigrateType
from verify import page
from verify.observe.events import Event, Quality
from verify.observe.judge import Judge, Violation
from verify.observe.probes import PROBES, TRACEPOINTS
from verify.scenario import count
from verify.verdict import Exit, Result, Verdict

ENGINE = "observe"
#: what a trace can say something about, in the order in which it is printed
JUDGED = (
    "no_stray_page", "no_isolated_page_left", "isolated_page_not_allocated", "isolated_page_on_isolate_list",
    "limits_exclusive", "enable_on_every_exit",
)  # fmt: skip
#: those that rest on which page is on which list
_BY_PAGE = frozenset(JUDGED[:4])
#: below this the lists that were rebuilt are not believed
_AGREES = 0.8
_NEEDED = ("pcp_disable", "pcp_disable_r", "pcp_enable", "commit", "commit_r", *TRACEPOINTS)


def verdicts(judge: Judge, quality: Quality) -> list[Verdict]:
    """The verdict on each property; what could not be seen, or not be trusted, is undecided."""
    kernel = quality.said.get("kernel", "a kernel that the trace does not name")
    found = []
    for name in JUDGED:
        result, reason = _result(judge, quality, name)
        broken = [v for v in judge.violations if v.property == name]
        trace = columns(broken[0]) if broken else ""
        found.append(Verdict(
            name, kernel, ENGINE, seen(judge, quality), result, "the machine's own", reachable=judge.tested[name] > 0,
            reason=reason, found=broken[0].found if broken else "", trace=trace,
            statistics={"tested": judge.tested[name], "violations": judge.count[name]},
        ))  # fmt: skip
    return found


def _result(judge: Judge, quality: Quality, name: str) -> tuple[Result, str]:
    tested, broken = judge.tested[name], judge.count[name]
    blind = _blind(judge, quality)
    if broken:
        if quality.lost_in_all and name in _BY_PAGE:
            lost = count(quality.lost_in_all, "event")
            return (
                Result.UNDECIDED,
                f"{count(broken, 'time')} it seems broken, but {lost} were lost: record with KB=131072",
            )
        return Result.VIOLATED, f"{count(broken, 'time')}, tested {count(tested, 'time')}"
    if blind:
        return Result.UNDECIDED, blind
    if quality.lost_in_all:
        return Result.UNDECIDED, f"{count(quality.lost_in_all, 'event')} were lost: record with KB=131072"
    if not tested:
        return Result.VACUOUS, "nothing in the trace puts it to the test"
    if name in _BY_PAGE and agreement(judge) < _AGREES:
        return Result.UNDECIDED, "the lists that were rebuilt do not agree with pcp->count"
    return Result.HOLDS, f"tested {count(tested, 'time')}"


def told(verdict: Verdict) -> str:
    """A verdict as a line, or some."""
    start = f"  {verdict.property:29} {verdict.result.value:9} "
    return page.paragraph(verdict.reason, start, " " * 42).rstrip()


def exit_code(found: Sequence[Verdict]) -> Exit:
    """1 if something is violated, 3 if something is undecided, 4 if no page was ever freed in a window; else 0.

    What did not happen in a run, such as the race, is said, and is no fault of it.
    """
    results = {v.property: v.result for v in found}
    if Result.VIOLATED in results.values():
        return Exit.VIOLATED
    if Result.UNDECIDED in results.values():
        return Exit.UNDECIDED
    return Exit.VACUOUS if results[JUDGED[0]] is Result.VACUOUS else Exit.OK


def _blind(judge: Judge, quality: Quality) -> str:
    """Why nothing can be said at all."""
    if not judge.windows and not judge.kinds["pcp_disable"]:
        return "zone_pcp_disable() is not in the trace: was memory offlined while it was recorded?"
    gone = set(quality.said.get("not-there", "").split()) & set(_NEEDED)
    if gone:
        return f"the recorder could not see {', '.join(sorted(gone))}"
    if quality.backwards:
        return f"{count(quality.backwards, 'event')} out of order: record with the clock `counter`, as our script does"
    return ""


def agreement(judge: Judge) -> float:
    """In which part of the frees the rebuilt list and pcp->count agree, but for pages that are on their way to a user."""
    frees = sum(judge.lists.differences.values())
    return sum(n for d, n in judge.lists.differences.items() if 0 <= d <= 2) / frees if frees else 0.0


def seen(judge: Judge, quality: Quality) -> str:
    """What the trace covers, in words: the bound of its verdicts."""
    frees = sum(w.frees for w in judge.windows)
    return (
        f"{count(quality.events, 'event')}: {count(len(judge.windows), 'window')} in which a zone's pcplists were disabled,"
        f" {count(frees, 'free')} in them; one run of one machine"
    )


def quality_lines(judge: Judge, quality: Quality) -> Iterator[str]:
    """How far the reconstruction can be trusted, and whether the race occurred."""
    frees = sum(judge.lists.differences.values())
    hits = judge.count["pages drained as ISOLATE that were freed as another type"]
    in_range = sum(w.frees_in_range for w in judge.windows)
    race = (
        f"the race: {count(hits, 'page')} freed as another type and drained as ISOLATE,"
        f" {count(in_range, 'free')} of the isolated range"
    )
    yield race + ("" if hits or in_range else " (it did not occur, so this run says nothing of it: churn more memory)")
    exact = judge.lists.differences[0]
    yield (
        f"the lists: rebuilt page by page; equal to pcp->count at {exact:,} of {frees:,} frees"
        f" ({agreement(judge):.0%} with up to two pages on their way to a user)"
    )
    if blocks := quality.said.get("blocks"):
        yield f"memory blocks: {blocks}; pages of {quality.said.get('page-size', '?')} bytes"
    ended = ", ".join("?" if w.result is None else str(w.result) for w in judge.windows)
    yield f"offline_pages() returned: {ended or 'nothing was offlined'}"
    problems = [
        (quality.lost_in_all, "lost"), (quality.number("missed"), "missed by probes"), (quality.unreadable, "unreadable"),
        (quality.backwards, "out of order"), (judge.lists.unpaired, "returns without an entry"),
    ]  # fmt: skip
    told = ", ".join(f"{n:,} {what}" for n, what in problems if n)
    yield f"the trace: {told or 'no event lost, missed, unreadable or out of order'}"
    if gone := quality.said.get("not-there"):
        yield f"not to be seen in this kernel: {gone}"


def columns(violation: Violation, width: int | None = None) -> str:
    """What led to a violation, one column for each CPU, from the window's beginning on."""
    cpus = sorted({e.cpu for e in violation.past})
    width = width or page.width()
    wide = max(24, width // len(cpus))
    lines = [page.row([f"CPU{c}" for c in cpus], wide), page.row(["----"] * len(cpus), wide)]
    last: dict[int, str] = {}
    for event in violation.past:
        column = cpus.index(event.cpu)
        room = wide - (column < len(cpus) - 1)
        cell = []
        if last.get(event.cpu) != event.task:
            cell += page.fill(f"/* {event.task} */", room=room)
            last[event.cpu] = event.task
        statement, comment = said(event)
        said_here = f"{statement}  /* {comment} */" if comment else statement
        cell += page.fill(said_here, "  ", "      ", room)
        lines += [page.row(["" if i != column else text for i in range(len(cpus))], wide) for text in cell]
    lines += ["", *page.fill(violation.found, "=> ", "   ", width)]
    lines += page.fill(f"lines {violation.past[0].line} to {violation.event.line} of the trace")
    return "\n".join(line.rstrip() for line in lines)


def said(event: Event) -> tuple[str, str]:
    """An event in the kernel's words: a statement, and what is to be said of it."""
    f = event.fields

    def of(name: str) -> str:
        return f"{f[name]:#x}" if name in f else "?"

    match event.name:
        case "pcp_disable":
            return "zone_pcp_disable()", ""
        case "pcp_disable_r":
            return "", "zone_pcp_disable() has returned"
        case "pcp_enable":
            return "zone_pcp_enable()", ""
        case "offline":
            return "offline_pages()", ""
        case "limits":
            return "__zone_set_pageset_high_and_batch()", f"high {f.get('high', '?')}"
        case "drain":
            return "__drain_all_pages()", "all CPUs" if f.get("force") else "CPUs with pages"
        case "drain_zone":
            return "drain_pages_zone()", f"of CPU{f.get('cpu', '?')}"
        case "isolate":
            return f"start_isolate_page_range({of('start')}, {of('end')})", ""
        case "isolate_r":
            return "", f"start_isolate_page_range() returns {f.get('ret', '?')}"
        case "undo":
            return "undo_isolate_page_range()", ""
        case "taken_off":
            return "__offline_isolated_pages()", ""
        case "commit":
            seen_there = f"count {f.get('count', '?')}, high {f.get('high', '?')}"
            return "free_unref_page_commit()", f"{_type(f.get('type'))}, {seen_there}"
        case "commit_r":
            return "", "free_unref_page_commit() returns"
        case "mm_page_pcpu_drain":
            return f"__free_one_page(page {of('pfn')})", _type(f.get("migratetype"))
        case "mm_page_alloc_zone_locked":
            return f"__rmqueue(): page {of('pfn')}", ""
        case "mm_page_alloc":
            return f"alloc_pages(): page {of('pfn')}", ""
        case "offline_r":
            return "", f"offline_pages() returns {f.get('ret', '?')}"
    return event.name, ""


def _type(number: int | None) -> str:
    if number is None or not 0 <= number <= 2:
        return f"migratetype {number}"
    return f"MIGRATE_{MigrateType(number).name}"


def known_events() -> set[str]:
    """The names of events that the recorder makes."""
    return {*TRACEPOINTS, *(p.name for p in PROBES), *(f"{p.name}_r" for p in PROBES if p.returns)}
