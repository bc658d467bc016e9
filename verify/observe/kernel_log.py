"""The kernel's log of a memory offlining that hangs or fails: which pages could not be migrated, and why it gave up.

mm/memory_hotplug.c says of each page that do_migrate_range() could not move its frame number and the error, limited in rate, and
dump_page() why; offline_pages() says why it failed, where dynamic debugging is on for that file.
"""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from verify.observe.zoneinfo import Finding
from verify.scenario import count

_MIGRATING = re.compile(r"migrating pfn ([0-9a-f]+) failed(?: ret:(-?\d+))?")
_ISOLATING = re.compile(r"failed to isolate pfn ([0-9a-f]+)")
_BECAUSE = re.compile(r"page dumped because: (.+?)\s*$")
_FAILED = re.compile(r"memory offlining \[mem (0x[0-9a-f]+-0x[0-9a-f]+)\] failed(?: due to (.+?))?\s*$")
_OFFLINED = re.compile(r"Offlined Pages (\d+)")
#: pages that are named
_SHOWN = 4
#: how to have offline_pages() say why it fails
MORE = "echo 'file memory_hotplug.c +p' > /sys/kernel/debug/dynamic_debug/control"


@dataclass(slots=True)
class Log:
    """What was found in a log: pages by frame number with how often they failed, and how offlinings ended."""

    stuck: Counter[int] = field(default_factory=Counter)
    errors: dict[int, str] = field(default_factory=dict)
    because: Counter[str] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    offlined: int = 0


def read(lines: Iterable[str]) -> Log:
    """Read a log, line by line: of dmesg, journalctl -k, or a serial console."""
    log = Log()
    for line in lines:
        if found := _MIGRATING.search(line) or _ISOLATING.search(line):
            frame = int(found[1], 16)
            log.stuck[frame] += 1
            if found.re is _MIGRATING and int(found[2] or 0) < 0:
                # a positive number is how many pages were left
                log.errors[frame] = errno.errorcode.get(-int(found[2]), found[2])
        elif found := _BECAUSE.search(line):
            log.because[found[1]] += 1
        elif found := _FAILED.search(line):
            log.failed[found[1], found[2] or ""] += 1
        elif _OFFLINED.search(line):
            log.offlined += 1
    return log


def findings(log: Log) -> list[Finding]:
    """What the log says, in sentences; nothing of it is about pcplists."""
    found = []
    for (place, why), n in log.failed.items():
        times = f" ({count(n, 'time')})" if n > 1 else ""
        found.append(Finding(f"the log: offlining of [mem {place}] failed{f' due to {why}' if why else ''}{times}"))
    if log.stuck:
        worst = log.stuck.most_common(_SHOWN)
        names = ", ".join(
            f"{frame:#x} ({', '.join(filter(None, (count(n, 'time'), log.errors.get(frame))))})" for frame, n in worst
        )
        more = f" and {len(log.stuck) - len(worst)} more" if len(log.stuck) > len(worst) else ""
        reasons = "; ".join(f"{r} ({n})" for r, n in log.because.most_common(3))
        dumped = f"; dumped: {reasons}" if reasons else ""
        text = f"the log: {count(len(log.stuck), 'page')} could not be migrated: {names}{more}{dumped}"
        text += ": as long as they are there offline_pages() goes round, whatever the pcplists hold"
        found.append(Finding(text))
    if log.offlined:
        found.append(Finding(f"the log: memory went offline {count(log.offlined, 'time')}"))
    if not found:
        found.append(
            Finding(
                f"the log: nothing in it is of a memory offlining; most is said with dynamic debugging alone: {MORE}"
            )
        )
    return found
