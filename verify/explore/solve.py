"""Decides properties by exhaustive search: which reductions, in how many searches, and what a verdict may say."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kernelmodel.errors import ModelError
from kernelmodel.memory_model import MODELS, WIDER, Memory
from kernelmodel.text import KernelText
from properties.catalogue import NO_DEADLOCK as DEADLOCK
from properties.catalogue import PROPERTIES, find
from properties.property import Property
from verify.explore.beside import in_words, together
from verify.explore.compiled import MUST
from verify.explore.finite import Finite
from verify.explore.footprints import ASSUMED_ZERO
from verify.explore.kept import Kept, Place
from verify.explore.memory import changed
from verify.explore.model import Change, Model
from verify.explore.movers import Movers
from verify.explore.moving import Moving, Told
from verify.explore.native import search_by
from verify.explore.search import Found, Limits, initial_rows, peak_mb
from verify.explore.symmetry import AsymmetryError, Symmetric
from verify.explore.table import Transitions
from verify.forked import can_fork, children
from verify.ordering.edges import Edge
from verify.scenario import count
from verify.verdict import Result, Verdict

ENGINE = "explore"
REDUCTIONS = ("none", "movers", "full")
#: what the search's inner loop may be made of
COMPILERS = ("auto", "none")
#: the name of the verdict on deadlocks
NO_DEADLOCK = DEADLOCK.name
#: watched in each search with movers, for they take its cell to be 0
_WATCHED = "isolated_page_on_isolate_list"


@dataclass(slots=True)
class Group:
    """What one search found out about some properties."""

    names: list[str]
    found: Found
    how: str
    watched: bool
    finite: Finite
    peak: float = 0.0
    #: properties and the CPUs for which their premises are not reached, where CPUs are told apart
    missed: tuple[tuple[str, int], ...] = ()

    @property
    def dead_end(self) -> bool:
        """Whether nobody can go on somewhere, or a task comes to an unlock of what it does not hold."""
        return bool(self.found.deadlocks or self.found.stuck or self.found.violated & MUST)

    def broken(self, prop: Property) -> bool:
        """Whether the search found the property violated, or the deadlock that it speaks of."""
        return self.dead_end if prop.stuck else self.verdict(prop)[0] is Result.VIOLATED

    def violates(self, prop: Property) -> bool:
        """Whether the search looked at the property and found it violated."""
        return prop.name in self.names and self.verdict(prop)[0] is Result.VIOLATED

    def verdict(self, prop: Property) -> tuple[Result, bool]:
        """The result for one property, and whether its premise was reached."""
        bit = self.names.index(prop.name)
        reached = bit in self.found.reached
        if self.found.violated >> bit & 1:
            return Result.VIOLATED, True
        if self.found.stopped:
            return Result.UNDECIDED, reached
        return (Result.HOLDS if reached else Result.VACUOUS), reached


@dataclass(slots=True)
class Explorer:
    """Exhaustive search of one kernel in one finite configuration."""

    kernel: type[KernelText]
    finite: Finite
    reduce: str = "full"
    limits: Limits = field(default_factory=Limits)
    jobs: int = 1
    progress: Callable[[str], None] | None = None
    #: "auto": the inner loop is compiled where there is a compiler; "none": NumPy alone
    compiler: str = "auto"
    #: a folder where a search goes on when its memory is short; "": it gives up
    disk: str = ""
    #: small configurations that are searched too (see beside.py)
    beside: tuple[Finite, ...] = ()
    memory: Memory = "sc"
    #: synchronisations that are taken away, from the text or from the weak model
    without: frozenset[Edge] = frozenset()
    _changes: dict[tuple[Finite, tuple[str, ...]], Change] = field(default_factory=dict, repr=False, compare=False)
    #: what is to be demonstrated besides, and searches of smaller configurations for it
    _broken: list[Property] = field(default_factory=list, repr=False, compare=False)
    _smaller: dict[tuple[Finite, tuple[str, ...]], Group] = field(default_factory=dict, repr=False, compare=False)

    def model(self, finite: Finite, properties: list[Property], **how: bool) -> Model:
        """The transition system of a configuration, with what the memory model makes of it.

        ModelError where that cannot be followed.
        """
        change = self._change(finite, properties) if self.memory != "sc" or self.without else None
        return Model(self.kernel, finite, properties, change=change, **how)

    def _change(self, finite: Finite, properties: list[Property]) -> Change:
        """What the memory model makes of a configuration's graphs; it is asked for by each search, and worked out once."""
        key = (finite, tuple(p.name for p in properties))
        if key not in self._changes:
            model = functools.partial(Model, self.kernel, finite, properties)
            self._changes[key] = changed(self.memory, model, self.without)
        return self._changes[key]

    def cannot_follow(self, properties: Sequence[Property]) -> str:
        """Why the memory model cannot be followed here; empty if it can."""
        if self.memory == "sc":
            return ""
        for finite in (self.finite, *self.beside):
            try:
                self.model(finite, [p for p in properties if not self.within(finite).why_not(p)])
            except ModelError as error:
                return str(error)
        return ""

    def bound(self) -> str:
        """What is searched, in words."""
        return self.finite.bound(self.kernel) + "".join(map(in_words, self.beside))

    # --- searches ---

    def within(self, finite: Finite) -> Explorer:
        """The same search of another configuration, and of that alone."""
        return replace(self, finite=finite, beside=())

    def search(self, properties: Sequence[Property], wanted: Sequence[str] = (), finite: Finite | None = None) -> Group:
        """One search over all states; it stops early when one of ``wanted`` is violated."""
        finite = finite or self.finite
        for assumed in (ASSUMED_ZERO, ()):
            group = self._search(list(properties), wanted, finite, assumed)
            if not group.watched or self.reduce == "none":
                break
        return group

    def _search(
        self, properties: list[Property], wanted: Sequence[str], finite: Finite, assumed: Sequence[str]
    ) -> Group:
        watched = [find(_WATCHED)] if all(p.name != _WATCHED for p in properties) and assumed else []
        every = [*properties, *watched]
        transitions, how, place, kept = self._transitions(finite, every, assumed)
        names = [p.name for p in every]
        bits = sum(1 << names.index(n) for n in wanted if n in names)
        if assumed and self.reduce != "none":
            # nothing else that this search says counts once the cell is not 0
            bits |= 0 if _WATCHED in wanted else 1 << names.index(_WATCHED)
        search = search_by(self.compiler, self.jobs, transitions, self.limits, bits, self.progress, self.disk)
        kept.teach(search)
        found = search.run(initial_rows(transitions.model, self.reduce == "full"))
        if place is not None:
            place.keep_search(search, kept)
        broken = bool(assumed) and bool(found.violated >> names.index(_WATCHED) & 1)
        missed = transitions.model.spoken_of() - found.reached_on if transitions.tells_cpus_apart else set()
        unseen = tuple(sorted((names[i], c) for i, c in missed if c is not None))
        return Group(names, found, how, broken, finite, peak_mb(), unseen)

    def _transitions(
        self, finite: Finite, properties: list[Property], assumed: Sequence[str]
    ) -> tuple[Transitions, str, Place | None, Kept]:
        """What is searched, how it is reduced, and where what is known of it is kept, and what that is."""
        if self.reduce == "none":
            return Transitions(self.model(finite, properties, identities=True)), "no reduction", None, Kept()
        if self.reduce == "movers":
            model = self.model(finite, properties, identities=True)
            return Transitions(model, Movers(model, assumed), False), "movers", None, Kept()
        apart = "--spread" if finite.scenario.spread else "--hotplugs" if finite.scenario.comes_and_goes else ""
        why = f"{apart} tells CPUs apart"
        if not apart:
            model = self.model(finite, properties, any_order=True)
            place = Place(model, "symmetric", *assumed)
            kept = place.found()
            why = kept.asymmetry
            if not why:
                try:
                    symmetric = Symmetric(model, _movers(model, assumed, kept), known=kept.alike)
                    kept.give(symmetric)
                    return symmetric, "movers, equal pages, registers, tasks and CPUs", place, kept
                except AsymmetryError as error:
                    why = str(error)
                    place.keep(Kept(asymmetry=why))
        model = self.model(finite, properties)
        place = Place(model, "movers", *assumed)
        kept = place.found()
        transitions = Transitions(model, _movers(model, assumed, kept), False, merge=True)
        kept.give(transitions)
        return transitions, f"movers, equal pages and registers ({why})", place, kept

    def search_all(self, properties: Sequence[Property], deadlock: bool = True) -> list[Group]:
        """All searches for some properties, and for deadlocks; those beside the first last, on several cores."""
        plan = [(self.finite, [p.name for p in properties if not self.why_not(p)])]
        for finite in self.beside:
            there = self.within(finite)
            plan.append((finite, [p.name for p in PROPERTIES.values() if not there.why_not(p) and p in properties]))
        plan = [(finite, names) for finite, names in plan if names or deadlock]
        if self.jobs < 2 or len(plan) < 2:
            return [self._search_one(*one) for one in plan]
        if not can_fork():
            return [self._search_one(*one) for one in plan]
        _forked[:] = [self]
        with children(min(self.jobs, len(plan))) as pool:
            return [f.result() for f in [pool.submit(_search_one, *one) for one in plan]]

    def _search_one(self, finite: Finite, names: Sequence[str]) -> Group:
        return self.search([find(n) for n in names], finite=finite)

    # --- verdicts ---

    def decide(self, properties: Sequence[Property], deadlock: bool = True) -> list[Verdict]:
        """The verdict on each property, and on deadlocks, from complete searches."""
        began = time.monotonic()
        everywhere = [self.within(finite) for finite in (self.finite, *self.beside)]
        wanted = [p for p in properties if any(not e.why_not(p) for e in everywhere)]
        reason = self.cannot_follow(wanted)
        if reason:
            names = [p.name for p in properties] + ([NO_DEADLOCK] if deadlock else [])
            return [self._verdict(n, Result.UNDECIDED, reason=f"under {MODELS[self.memory]}: {reason}") for n in names]
        groups = self.search_all(wanted, deadlock)
        found = self.concluded(properties, groups)
        if deadlock and groups:
            found.append(self._deadlock(groups, time.monotonic() - began))
        return found

    def concluded(self, properties: Sequence[Property], groups: Sequence[Group]) -> list[Verdict]:
        """The verdict on each property from the searches of :meth:`search_all`, which looked at them and maybe at others."""
        self._broken[:] = [p for p in dict.fromkeys(properties) if any(g.violates(p) for g in groups)]
        found = []
        for prop in properties:
            verdict = self._of(prop, groups)
            for finite in self.beside:
                # of one that is violated nothing else is told, and traces are what takes longest
                if verdict.result is not Result.VIOLATED:
                    verdict = together(verdict, self.within(finite)._of(prop, groups))
            found.append(verdict)
        return found

    def _of(self, prop: Property, groups: Sequence[Group]) -> Verdict:
        """The verdict on a property from the searches of this configuration."""
        reason = self.why_not(prop)
        if reason:
            return self._verdict(prop.name, Result.NOT_APPLICABLE, reason=reason)
        return self._conclude(prop, next(g for g in groups if g.finite == self.finite and prop.name in g.names))

    def probe(self, properties: Sequence[Property]) -> list[Property]:
        """Those of some properties that a search of a small configuration within this one finds violated."""
        s = self.finite.scenario
        few = s.having(
            cpus=min(2, s.cpus), frees=min(1, s.frees), allocs=min(1, s.allocs), updates=min(1, s.updates),
            migrations=min(1, s.migrations),
        )  # fmt: skip
        small = replace(self.finite, scenario=few, pages=min(self.finite.pages, 3))
        if small == self.finite or self.reduce != "full" or self.memory in WIDER:
            return []
        explorer = self.within(small)
        if explorer.cannot_follow(properties):
            return []
        applicable = [p for p in properties if not explorer.why_not(p)]
        groups = explorer.search_all(applicable, deadlock=False)
        return [p for p in applicable for g in groups if g.violates(p)]

    def demonstrate(self, prop: Property) -> Verdict | None:
        """A violation, or a deadlock, in the smallest configuration within this one; None if no smaller one has it."""
        if self.why_not(prop) or self.reduce != "full" or self.memory in WIDER:
            return None
        from verify.explore.counterexample import smaller

        began = time.monotonic()
        for finite in smaller(self.finite):
            if finite == self.finite or any(getattr(finite.scenario, t) < 1 for t in prop.needs_tasks):
                continue
            if self.within(finite).cannot_follow([prop]):
                continue
            group = self._searched(finite, prop)
            if group.found.stopped:
                break
            if group.broken(prop):
                verdict = self._violated(prop, group, finite)
                if verdict.result is not Result.HOLDS:
                    return replace(verdict, seconds=time.monotonic() - began)
        return None

    def _searched(self, finite: Finite, prop: Property) -> Group:
        """A search of a smaller configuration, for a property and at once for all others that are to be demonstrated."""
        there = self.within(finite)
        every = [p for p in self._broken if not there.why_not(p)] if prop in self._broken else []
        if len(every) > 1:
            key = (finite, tuple(p.name for p in every))
            if key not in self._smaller:
                self._smaller[key] = self.search(every, finite=finite)
            if not self._smaller[key].found.stopped:
                return self._smaller[key]
        return self.search([prop], [prop.name], finite)

    def why_not(self, prop: Property) -> str:
        """Why the property says nothing of this kernel in this configuration; empty if it does."""
        if not prop.applies_to(self.kernel):
            routines = ", ".join(f"{r}()" for r in prop.needs)
            return f"{self.kernel.name} has no {routines}"
        missing = [t for t in prop.needs_tasks if getattr(self.finite.scenario, t) == 0]
        return f"it speaks of {', '.join(missing)}, of which this bound has none" if missing else ""

    def _conclude(self, prop: Property, group: Group) -> Verdict:
        result, reached = group.verdict(prop)
        if result is Result.VIOLATED and self.memory in WIDER:
            why = "more than any machine allows breaks it, which need not be a run of one: --memory tso asks about x86"
            return self._verdict(prop.name, Result.UNDECIDED, group, reachable=True, reason=why)
        if result is Result.VIOLATED:
            return self.demonstrate(prop) or self._violated(prop, group, self.finite)
        reason = ""
        if result is Result.UNDECIDED:
            f = group.found
            reason = f"{f.stopped} after {f.states:,} states, {f.levels} levels, {len(f.reached)} premises reached"
        if result is Result.VACUOUS:
            reason = "no state or step reaches its premise"
        missed = ", ".join(f"CPU {c}" for n, c in group.missed if n == prop.name)
        if result is Result.HOLDS and missed:
            reason = f"its premise is never reached for {missed}"
        return self._verdict(prop.name, result, group, reachable=reached, reason=reason)

    def _violated(self, prop: Property, group: Group, finite: Finite) -> Verdict:
        from verify.explore.counterexample import shown
        from verify.explore.shortest import GaveUpError, Shortest

        model = self.model(finite, [prop], rest_as_state=True)
        try:
            path = Shortest(model, 0, self.limits, self.progress).find()
        except GaveUpError as error:
            return self._verdict(
                prop.name,
                Result.UNDECIDED,
                group,
                reason=f"a violation exists; {error} before its shortest trace was found",
            )
        if path is None:
            # a reduced search lets tasks run while every CPU has interrupts off, and loops over CPUs in any order
            why = "single steps in the kernel's own order do not violate it"
            return self._verdict(prop.name, Result.HOLDS, group, reachable=True, reason=why)
        trace = shown(self.kernel, model, path, prop, self.memory)
        words = "" if finite == self.finite else f" ({finite.scenario.suffices()})"
        statistics = {"steps": len(path.moves), "context_switches": path.switches, "pages_of_trace": finite.pages}
        verdict = self._verdict(prop.name, Result.VIOLATED, group, reachable=True).with_trace(trace)
        return replace(
            verdict,
            reason=f"{count(len(path.moves), 'step')}, {path.switches} context "
            f"switch{'' if path.switches == 1 else 'es'}{words}",
            statistics={**verdict.statistics, **statistics}, scenario=finite.scenario.numbers(),
        )  # fmt: skip

    def _deadlock(self, groups: Sequence[Group], seconds: float) -> Verdict:
        dead = next((g for g in groups if g.dead_end), None)
        if dead is not None and self.memory in WIDER:
            why = "more than any machine allows ends there: --memory tso asks about x86"
            return self._verdict(NO_DEADLOCK, Result.UNDECIDED, dead, reason=why)
        if dead is not None:
            if self.reduce == "full":
                there = self.within(dead.finite)
                shown = there.demonstrate(DEADLOCK) or there._violated(DEADLOCK, dead, dead.finite)
                if shown.result is Result.VIOLATED:
                    return replace(shown, seconds=seconds)
            who = dead.found.stuck or "a task unlocks what it does not hold"
            verdict = self._verdict(NO_DEADLOCK, Result.VIOLATED, dead, reason=who, reachable=True)
            return replace(verdict, replayed=None, seconds=seconds)
        stopped = next((g.found.stopped for g in groups if g.found.stopped), "")
        if stopped:
            return self._verdict(NO_DEADLOCK, Result.UNDECIDED, groups[0], reason=stopped)
        return self._verdict(NO_DEADLOCK, Result.HOLDS, groups[0], reachable=True)

    def _verdict(
        self, name: str, result: Result, group: Group | None = None, reachable: bool | None = None, reason: str = ""
    ) -> Verdict:  # fmt: skip
        statistics: dict[str, Any] = {}
        if group is not None:
            f = group.found
            statistics = {
                "states": f.states, "transitions": f.transitions, "levels": f.levels, "widest_level": f.widest,
                "seconds_of_search": round(f.seconds, 3), "peak_mb": round(group.peak), "reduction": group.how,
                "inner_loop": f.loop, "collision_probability": f"{f.states * f.states / 2**65:.1e}",
            }  # fmt: skip
            if f.disk_mb:
                statistics["disk_mb"] = round(f.disk_mb, 1)
        return Verdict.on(
            self.kernel, name, ENGINE, self.bound(), result, memory_model=MODELS[self.memory], reachable=reachable,
            reason=reason, seconds=group.found.seconds if group else 0.0, statistics=statistics,
        )  # fmt: skip


def _movers(model: Model, assumed: Sequence[str], kept: Kept) -> Moving:
    return Movers(model, assumed) if kept.moves is None else Told(model, kept.moves)


#: set before the children are forked, for kernels of users' files cannot be sent to them
_forked: list[Explorer] = []


def _search_one(finite: Finite, names: Sequence[str]) -> Group:
    return _forked[0]._search_one(finite, names)
