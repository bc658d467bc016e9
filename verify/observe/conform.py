"""Does a recorded offlining do what the text of its kernel's era does?  Each recorded step must be one that the text allows.

What is compared is the order of the recorded functions in the task that offlines, with the values that the text knows: the
limits that it asks for, which CPUs it drains, what it returns.  A step that does not fit is a finding: about the kernel, or
about our text of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from kernelmodel.errors import ModelError
from kernelmodel.kernels import kernel
from kernelmodel.text import KernelText
from verify.observe.events import Event, Quality
from verify.observe.probes import PROBES
from verify.observe.sections import WORKS, Sections, in_section
from verify.observe.text import Mark, Text

#: which text a release is held against, from that release on
ERAS = {(6, 0): "v6.0", (6, 1): "v6.1", (6, 2): "v6.2", (6, 7): "v6.8", (6, 10): "v6.10", (6, 11): "v6.11"}
#: a machine has at most so many CPUs: the text is unrolled over them
MOST_CPUS = 64
_NAMES = frozenset(name for p in PROBES if p.routine for name in (p.name, f"{p.name}_r"))


@dataclass(slots=True)
class Offlining:
    """The recorded steps of one offline_pages() in the task that called it, those of its zone."""

    steps: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class Offlinings:
    """What a trace has of memory offlining, task by task."""

    done: list[Offlining] = field(default_factory=list)
    cpus: int = 1
    sections: Sections = field(default_factory=Sections)
    _open: dict[int, Offlining] = field(default_factory=dict)

    def watch(self, found: Iterable[Event]) -> Iterator[Event]:
        """The same events; those of offlinings are kept."""
        for event in self.sections.watch(found):
            self._see(event)
            yield event

    def _see(self, event: Event) -> None:
        self.cpus = max(self.cpus, event.cpu + 1, event.fields.get("cpu", 0) + 1)
        if event.name == "offline":
            self._open[event.pid] = Offlining([event])
            self.done.append(self._open[event.pid])
            return
        mine = self._open.get(event.pid)
        if mine is None or event.name not in _NAMES or event.context not in ("", "."):
            return
        zone = mine.steps[0].fields.get("zone")
        if event.fields.get("zone", zone) != zone:
            return
        mine.steps.append(event)
        if event.name == "offline_r":
            del self._open[event.pid]


@dataclass(frozen=True, slots=True)
class Misfit:
    """Where an offlining leaves the text: the steps that fit, the one that does not, and what the text has instead.

    ``skipped``: what would have had to come first; None where the text never comes to such a step.
    """

    fitting: tuple[Event, ...]
    event: Event
    allowed: tuple[Mark, ...]
    skipped: tuple[Mark, ...] | None

    @property
    def other_values(self) -> bool:
        """Whether the text does this here, with other values; where it only does more of the same first, that was left out."""
        if self.skipped and all(mark.name == self.event.name for mark in self.skipped):
            return False
        return any(mark.name == self.event.name for mark in self.allowed)


@dataclass(frozen=True, slots=True)
class Conformance:
    """What came of it: the era's text, how many offlinings and steps fit, and where one does not."""

    era: str
    offlinings: int
    steps: int
    repeated: int
    misfits: tuple[Misfit, ...]
    #: other texts that allow all that was recorded
    others: tuple[str, ...] = ()
    #: why a step that seems left out may just not have been recorded
    doubt: str = ""
    #: how often somebody began to work on a CPU's pcplist, and who did while another one was at it
    sections: int = 0
    together: tuple[tuple[Event, Event], ...] = ()

    @property
    def fits(self) -> bool:
        """Whether each step is one that the text allows."""
        return not self.misfits and not self.together


def era_of(release: str) -> str:
    """The text that a kernel is held against, by what ``uname -r`` says; ModelError where there is none."""
    major, _, rest = release.partition(".")
    minor = rest.split(".")[0].split("-")[0]
    version = (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)
    found = [name for first, name in ERAS.items() if first <= version]
    if not found:
        raise ModelError(f"kernel {release!r}: there is a text from v6.0 on")
    return found[-1]


def conformance(found: Offlinings, quality: Quality, era: str = "") -> Conformance:
    """Hold all offlinings against the text of the trace's era, or of ``era``; ModelError where nothing can be said."""
    if quality.lost_in_all:
        raise ModelError("events were lost, and what is not there cannot be told from what did not happen")
    gone = sorted(set(quality.said.get("not-there", "").split()) & _NAMES)
    if gone:
        raise ModelError(f"the recorder could not see {', '.join(gone)}")
    if found.cpus > MOST_CPUS:
        raise ModelError(f"{found.cpus} CPUs: at most {MOST_CPUS} are followed")
    if not found.done:
        raise ModelError("no offline_pages() in the trace")
    era = era or era_of(quality.said.get("kernel", ""))
    made = _against(era, found)
    if made.fits:
        return made
    texts = [name for name in dict.fromkeys(ERAS.values()) if name != era and made.misfits]
    others = tuple(name for name in texts if _against(name, found).fits)
    return replace(made, others=others, doubt=_doubt(made, quality))


def _doubt(made: Conformance, quality: Quality) -> str:
    """Why what is not in the trace may have happened: a step that was left out, or the end of somebody's section."""
    absent = {mark.name for m in made.misfits for mark in m.skipped or ()}
    if made.together:
        absent |= {f"{name}_r" for name in WORKS}
    if not absent:
        return ""
    if quality.missed is None:
        return f"{quality.number('missed')} hits were missed by probes, and the recorder did not note by which"
    among = sorted(absent & quality.missed)
    return f"the probe of {', '.join(among)} missed hits" if among else ""


def _against(era: str, found: Offlinings) -> Conformance:
    text = Text(kernel(era), found.cpus)
    steps = repeated = 0
    misfits = []
    for offlining in found.done:
        fitting, again, misfit = _follow(text, offlining)
        steps, repeated = steps + fitting, repeated + again
        if misfit is not None:
            misfits.append(misfit)
    return Conformance(
        era, len(found.done), steps, repeated, tuple(misfits), sections=found.sections.entered,
        together=_together(text.kernel, found.sections),
    )  # fmt: skip


def _together(kernel: type[KernelText], found: Sections) -> tuple[tuple[Event, Event], ...]:
    """Who worked on a pcplist while another one did, where the text has both in the list's critical section."""
    apart = {name for name, routine in WORKS.items() if in_section(kernel, routine)}
    return tuple((a, b) for a, b in found.broken if {a.name, b.name} <= apart)


def _follow(text: Text, offlining: Offlining) -> tuple[int, int, Misfit | None]:
    """How many steps fit, how many of them only as one more of the same, and where it stops fitting."""
    states, enabled, again = text.begin(), False, 0
    for i, event in enumerate(offlining.steps):
        after = text.after(states, event.name, event.fields)
        if not after and enabled and event.name == "limits":
            # init_per_zone_wmark_min() updates the limits of every zone, and khugepaged may have it do so again
            again += 1
            continue
        if not after:
            way = text.before(states, event.name, event.fields)
            skipped = None if way is None else tuple(way)
            return i, again, Misfit(tuple(offlining.steps[:i]), event, tuple(text.allowed(states)), skipped)
        states, enabled = after, enabled or event.name == "pcp_enable"
    return len(offlining.steps), again, None
