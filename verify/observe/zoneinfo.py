"""/proc/zoneinfo: were a zone's pcplists disabled, and which CPUs held pages?  For an offline that hangs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from kernelmodel.errors import ModelError
from verify.scenario import count

_ZONE = re.compile(r"^Node (\d+), zone +(\S+)")
_CPU = re.compile(r"^\s+cpu: (\d+)")
_NUMBER = re.compile(r"^\s+(count|high|batch|high_min|high_max): +(\d+)")


@dataclass(slots=True)
class Zone:
    """The pagesets of one zone: for each CPU the numbers by their names (``high_min`` and ``high_max`` from v6.7 on)."""

    name: str
    cpus: dict[int, dict[str, int]] = field(default_factory=dict)

    def closed(self, cpu: int) -> bool:
        """Whether the limits of a CPU are those that zone_pcp_disable() sets."""
        numbers = self.cpus[cpu]
        highs = [n for name, n in numbers.items() if name in ("high_min", "high_max")] or [numbers.get("high", 1)]
        return not any(highs) and numbers.get("batch", 0) == 1


def parse(text: str) -> dict[str, Zone]:
    """The zones of a snapshot, by name; ModelError where it is none."""
    zones: dict[str, Zone] = {}
    zone: Zone | None = None
    cpu: int | None = None
    for line in text.splitlines():
        if found := _ZONE.match(line):
            name = f"Node {found[1]}, zone {found[2]}"
            zone, cpu = zones.setdefault(name, Zone(name)), None
        elif zone is not None and (found := _CPU.match(line)):
            cpu = int(found[1])
            zone.cpus[cpu] = {}
        elif zone is not None and cpu is not None and (found := _NUMBER.match(line)):
            zone.cpus[cpu][found[1]] = int(found[2])
    if not any(z.cpus for z in zones.values()):
        raise ModelError("no pagesets in it: give what `cat /proc/zoneinfo` prints")
    return zones


@dataclass(frozen=True, slots=True)
class Finding:
    """What snapshots say of one zone: the sentence, whether it is bad, and whether it could be."""

    text: str
    bad: bool = False
    open: bool = False


def findings(snapshots: Sequence[dict[str, Zone]]) -> list[Finding]:
    """What one or more snapshots, in the order in which they were taken, say of each zone that has pagesets."""
    found = []
    for name in dict.fromkeys(n for s in snapshots for n, z in s.items() if z.cpus):
        seen = [s[name] for s in snapshots if name in s and s[name].cpus]
        last = seen[-1]
        shut = [c for c in last.cpus if last.closed(c)]
        if not shut:
            pages = sum(n.get("count", 0) for n in last.cpus.values())
            found.append(
                Finding(f"{name}: pcplists are enabled on {count(len(last.cpus), 'CPU')}, {pages} pages on them")
            )
            continue
        if len(shut) < len(last.cpus):
            others = ", ".join(f"CPU{c}" for c in last.cpus if c not in shut)
            text = f"{name}: disabled on some CPUs, and not on {others}: zone_pcp_disable() is under way, or they come and go"
            found.append(Finding(text, open=True))
            continue
        stays = [c for c in shut if all(z.cpus.get(c, {}).get("count", 0) and z.closed(c) for z in seen if c in z.cpus)]
        stays = [c for c in stays if len({z.cpus[c]["count"] for z in seen if c in z.cpus}) == 1]
        if not stays:
            more = f" in {len(seen)} snapshots" if len(seen) > 1 else ""
            found.append(
                Finding(f"{name}: disabled on all {count(len(shut), 'CPU')}, and no page stays on a pcplist{more}")
            )
            continue
        where = ", ".join(f"{last.cpus[c]['count']} on CPU{c}" for c in stays)
        if len(seen) < 2:
            text = f"{name}: disabled, and pages are there: {where}; a page may pass through: take a second snapshot"
            found.append(Finding(text, open=True))
        else:
            text = (
                f"{name}: disabled, and the same number of pages stays in {len(seen)} snapshots: {where}: stray pages"
            )
            found.append(Finding(text, bad=True))
    return found
