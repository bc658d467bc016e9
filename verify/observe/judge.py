"""Judges a trace: what zone_pcp_disable() promised, in each window in which it held, and what was seen there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from verify.observe.events import Event, Quality
from verify.observe.lists import Lists, Stay

#: at most so many violations of one property are kept with what led to them
_KEPT = 3


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong, at which event, and the events that led to it."""

    property: str
    found: str
    event: Event
    past: tuple[Event, ...]
    #: the page that it is about, by its frame number, if it is about one
    frame: int | None = None


@dataclass(slots=True)
class Window:
    """One time in which a zone's pcplists were disabled; ``range`` is what was isolated then."""

    zone: int
    opened: Event
    story: list[Event] = field(default_factory=list)
    range: tuple[int, int] | None = None
    isolated: bool = False
    closed: bool = False
    result: int | None = None
    frees: int = 0
    frees_in_range: int = 0


@dataclass(slots=True)
class Judge:
    """Follows a trace; at its end it knows how often each property was put to the test, and what broke it."""

    lists: Lists = field(default_factory=Lists)
    windows: list[Window] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)
    #: how often the premise of each property was met
    tested: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    #: pages that were on a list when zone_pcp_disable() returned: what is drained later was left
    _there: dict[int, tuple[int, Event]] = field(default_factory=dict)
    _opening: list[Event] = field(default_factory=list)
    _offlines: dict[int, int] = field(default_factory=dict)
    _quality: Quality = field(default_factory=Quality)

    @property
    def isolate(self) -> int:
        """The number of MIGRATE_ISOLATE in the kernel, by its configuration."""
        return self._quality.number("isolate") or 4

    @property
    def now(self) -> Window | None:
        """The window that is open."""
        window = self.windows[-1] if self.windows else None
        return window if window is not None and not window.closed else None

    def follow(
        self, found: Iterable[Event], quality: Quality, progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """Read a trace to its end."""
        handlers: dict[str, Callable[[Event], None]] = {
            "pcp_disable": self._disable, "pcp_disable_r": self._disabled, "pcp_enable": self._enable, "commit": self._free,
            "commit_r": self._freed, "refill": self.lists.refill, "refill_r": self.lists.refilled, "isolate": self._isolate,
            "isolate_r": self._isolated, "undo": self._undo, "offline": self._offline, "offline_r": self._offlined,
            "taken_off": self._taken_off, "pages": self.lists.told, "mm_page_pcpu_drain": self._drained,
            "mm_page_alloc": self._allocated,
            "mm_page_alloc_zone_locked": self._taken, "limits": self._story, "drain": self._story, "drain_zone": self._story,
        }  # fmt: skip
        self._quality = quality
        for event in found:
            if quality.events % 4096 == 0:
                progress(quality.events)
            handler = handlers.get(event.name)
            if handler is None:
                continue
            self.kinds[event.name] += 1
            try:
                handler(event)
            except KeyError:
                # a line that ends too early
                quality.unreadable += 1

    # --- windows ---

    def _story(self, event: Event) -> None:
        if self.now is not None:
            self.now.story.append(event)
        elif self._opening:
            self._opening.append(event)

    def _disable(self, event: Event) -> None:
        event["zone"]
        self._opening = [event]

    def _disabled(self, event: Event) -> None:
        if not self._opening:
            return
        zone = self._opening[0]["zone"]
        known = zone in self.lists.exact
        self.lists.settle(zone)
        self.windows.append(Window(zone, event, [*self._opening, event]))
        self._opening = []
        self._there = {f: (s.number, event) for f, s in self.lists.staying(zone)} if known else {}
        if known:
            self.tested["no_stray_page"] += 1

    def _enable(self, event: Event) -> None:
        if self.now is not None and self.now.zone == event["zone"]:
            self.now.story.append(event)
            self.now.closed = True
            self._there = {}

    def _offline(self, event: Event) -> None:
        self._offlines[event.pid] = len(self.windows)

    def _offlined(self, event: Event) -> None:
        first = self._offlines.pop(event.pid, None)
        if first is None or first >= len(self.windows):
            return
        window = self.windows[first]
        window.result = event.fields.get("ret")
        self.tested["enable_on_every_exit"] += 1
        if not window.closed:
            self._broken(
                "enable_on_every_exit", "offline_pages() has returned, and the pcplists are still disabled", event
            )

    def _isolate(self, event: Event) -> None:
        if self.now is not None:
            self.now.range = (event["start"], event["end"])
            self.now.story.append(event)

    def _isolated(self, event: Event) -> None:
        if self.now is not None and self.now.range is not None:
            self.now.isolated = event.fields.get("ret", 0) == 0
            self.now.story.append(event)

    def _undo(self, event: Event) -> None:
        if self.now is not None:
            self.now.isolated = False
            self.now.story.append(event)

    # --- pages ---

    def _free(self, event: Event) -> None:
        self.lists.free(event)
        window = self.now
        if window is None or window.zone != event["zone"]:
            return
        window.frees += 1
        frame = self.lists.frame(event)
        if frame is not None and self._in_range(frame):
            window.frees_in_range += 1
            self.tested["no_isolated_page_left"] += 1
        self.tested["no_stray_page"] += 1
        if event.fields.get("count", 0) > 0:
            words = (
                f"pcp->count is {event['count']} on CPU{event.cpu} when a free begins, while the pcplists are disabled"
            )
            self._broken("no_stray_page", words, event)
        if "high" in event.fields:
            self.tested["limits_exclusive"] += 1
            if event["high"] != 0:
                words = f"the limit is {event['high']} on CPU{event.cpu} while the zone's pcplists are disabled"
                self._broken("limits_exclusive", words, event)

    def _freed(self, event: Event) -> None:
        left = self.lists.freed(event)
        if left is None or self.now is None or self.lists.zone_of.get(left[1].pcp) != self.now.zone:
            return
        frame, stay = left
        words = f"page {frame:#x} left on CPU{self.lists.cpu_of[stay.pcp]}'s pcplist by the free that put it there"
        self._broken("no_stray_page", words, event, stay, frame)
        if self._in_range(frame):
            self._broken(
                "no_isolated_page_left", words.replace("page", "page of the isolated range", 1), event, stay, frame
            )

    def _drained(self, event: Event) -> None:
        self.lists.learn(event)
        frame = event["pfn"]
        was_there = self._there.pop(frame, None)
        stay = self.lists.leave(frame)
        if event["migratetype"] == self.isolate:
            self.count["pages drained as ISOLATE that were freed as another type"] += 1
        if self.now is not None and stay is not None and was_there is not None and was_there[0] == stay.number:
            cpu = self.lists.cpu_of[stay.pcp]
            words = (
                f"page {frame:#x} was left on CPU{cpu}'s pcplist when zone_pcp_disable() returned, and is drained now"
            )
            self._broken("no_stray_page", words, event, stay, frame)
        if self._in_range(frame):
            self.tested["isolated_page_on_isolate_list"] += 1
            if event["migratetype"] != self.isolate:
                words = f"page {frame:#x} of the isolated range goes to the free list of type {event['migratetype']}"
                self._broken("isolated_page_on_isolate_list", words, event, stay, frame)

    def _taken(self, event: Event) -> None:
        self.lists.learn(event)
        if self._in_range(event["pfn"]):
            self._broken(
                "isolated_page_not_allocated",
                f"page {event['pfn']:#x} of the isolated range is taken from the buddy",
                event,
            )
        if self.lists.taken(event) and self.now is not None and self.now.isolated:
            self.tested["isolated_page_not_allocated"] += 1

    def _allocated(self, event: Event) -> None:
        self.lists.learn(event)
        self._there.pop(event.fields.get("pfn", -1), None)
        self.lists.leave(event["pfn"])

    def _taken_off(self, event: Event) -> None:
        if self.now is None:
            return
        self.now.story.append(event)
        self.tested["no_isolated_page_left"] += 1
        for frame, stay in self.lists.staying(self.now.zone):
            if event["start"] <= frame < event["end"]:
                words = (
                    f"page {frame:#x} is on CPU{self.lists.cpu_of[stay.pcp]}'s pcplist when its range is taken offline"
                )
                self._broken("no_isolated_page_left", words, event, stay, frame)

    def _in_range(self, frame: int) -> bool:
        window = self.now
        if window is None or window.range is None or not window.isolated:
            return False
        return window.range[0] <= frame < window.range[1]

    def _broken(
        self, prop: str, found: str, event: Event, stay: Stay | None = None, frame: int | None = None
    ) -> None:  # fmt: skip
        self.count[prop] += 1
        if self.count[prop] <= _KEPT:
            story = self.windows[-1].story if self.windows else []
            past = sorted({e.line: e for e in (*story, *(stay.past if stay else ()), event)}.items())
            self.violations.append(Violation(prop, found, event, tuple(e for _, e in past), frame))
