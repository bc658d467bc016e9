"""A violation that was seen on a real machine as the page that counterexamples have: lanes over time, and the state beside."""

from __future__ import annotations

from typing import Any

from kernelmodel.mmzone import MigrateType
from properties.catalogue import find
from verify.html.page import Page, filled
from verify.observe.events import Event, Quality
from verify.observe.judge import Judge, Violation
from verify.observe.show import columns, said, seen

#: what the events on such a page are
_WORDS = {
    "free_unref_page_commit()": "puts a freed page on the pcplist of its CPU, and drains the list where it is too long",
    "__free_one_page()": "a page goes from a pcplist to the buddy",
    "zone_pcp_disable()": "sets the limits of the zone's pcplists to 0 and drains them; from then on no page stays on one",
    "start_isolate_page_range()": "moves the pageblocks of the range to the ISOLATE lists, of which nobody is given a page",
}
#: events by which a page comes to a pcplist, and leaves it
_COMES = ("commit", "mm_page_alloc_zone_locked")
_GOES = ("mm_page_pcpu_drain", "mm_page_alloc")
#: so many unknown pages are drawn
_SHOWN = 12


def timeline(judge: Judge, quality: Quality, violation: Violation) -> str:
    """The page of a violation, as one file."""
    prop = find(violation.property)
    kernel = quality.said.get("kernel", "a kernel that the trace does not name")
    return filled(
        Page(
            violation.found,
            True,
            kernel,
            prop.name,
            prop.statement,
            columns(violation, 100),
            data(judge, quality, violation),
        )
    )


def data(judge: Judge, quality: Quality, violation: Violation) -> dict[str, Any]:
    """What the page shows (see :func:`verify.html.view.view`)."""
    events = violation.past
    frame = violation.frame
    return {
        "found": violation.found,
        "violatedAt": len(events),
        "meta": f"lines {events[0].line} to {events[-1].line} of a trace; {seen(judge, quality)}",
        "start": "Before the window: unknown, or as the trace tells.",
        "lanes": sorted({e.cpu for e in events}),
        "tasks": [{"name": n, "kind": n.rpartition("-")[0]} for n in dict.fromkeys(map(_task, events))],
        "steps": [_step(n, e, frame) for n, e in enumerate(events, 1)],
        "spans": [*_spans(events)],
        "arrows": [],
        "stray": [] if frame is None else [frame],
        "types": [t.name for t in MigrateType],
        "places": {},
        "states": _states(judge, events, frame),
        "glossary": _WORDS,
    }


def _task(event: Event) -> str:
    return f"{event.task}-{event.pid}"


def _step(number: int, event: Event, frame: int | None) -> dict[str, Any]:
    statement, comment = said(event)
    moves = []
    if frame is not None and event.name == "mm_page_pcpu_drain":
        moves = [f"page {frame:#x} leaves the pcplist"]
    read = [f"pcp->{n} is {event.fields[n]}" for n in ("count", "high", "batch") if n in event.fields]
    moves += [", ".join(read) + " there"] if read else []
    return {
        "n": number, "cpu": event.cpu, "task": _task(event), "calls": [], "text": statement, "values": comment,
        "lines": [[0, statement, comment]], "tag": event.name, "pc": f"line {event.line} of the trace", "explain": "",
        "minor": event.name in ("drain_zone", "limits"), "reads": [], "writes": [], "moves": moves, "strays": [],
    }  # fmt: skip


def _spans(events: tuple[Event, ...]) -> list[dict[str, Any]]:
    """How long pcplists were disabled, and a range was isolated."""
    found = []
    for begins, ends, label in (
        ("pcp_disable_r", "pcp_enable", "pcplists disabled"), ("isolate_r", "undo", "the range is isolated")
    ):  # fmt: skip
        for n, event in enumerate(events, 1):
            if event.name == begins:
                last = next((m for m, e in enumerate(events, 1) if m > n and e.name == ends), None)
                found.append({"kind": "window", "cpu": event.cpu, "from": n, "to": last, "label": label})
    return found


def _states(judge: Judge, events: tuple[Event, ...], frame: int | None) -> list[dict[str, Any]]:
    """What is known after each event: the numbers that the last free on a CPU has read, and where the page is."""
    cpus: dict[int, dict[str, Any]] = {
        c: {"online": True, "irq": "", "high": "?", "batch": "?", "count": "?", "lists": [[], [], []], "work": "idle"}
        for c in sorted({e.cpu for e in events})
    }
    disabled = ""
    states = []
    before: dict[str, Any] = {}
    for event in (None, *events):
        if event is not None:
            cpu = cpus[event.cpu]
            for name in ("count", "high", "batch"):
                if name in event.fields and event.name == "commit":
                    cpu[name] = event.fields[name]
            if event.name == "commit" and event.fields.get("count", 0) and disabled:
                # pages that should not be there, of which only the number is known
                cpu["lists"] = [[], ["?"] * min(event["count"], _SHOWN), []]
            if frame is not None and event.name in _COMES and judge.lists.frame(event) == frame:
                types = range(len(cpu["lists"]))
                cpu["lists"] = [
                    [frame] if t == event.fields.get("type", int(MigrateType.MOVABLE)) else [] for t in types
                ]
            if frame is not None and event.name in _GOES and event.fields.get("pfn") == frame:
                for state in cpus.values():
                    state["lists"] = [[], [], []]
            disabled = _task(event) if event.name == "pcp_disable_r" else "" if event.name == "pcp_enable" else disabled
        groups: dict[str, Any] = {f"cpu{c}": dict(state) for c, state in cpus.items()}
        groups |= {"buddy": [], "locks": [], "zone": {"high": "?", "batch": "?", "disabledBy": disabled}}
        states.append({k: v for k, v in groups.items() if before.get(k) != v})
        before = groups
    return states
