"""Which synchronisation carries the guarantee: each edge of a kernel is taken away in turn, in a small configuration.

Without an edge no_stray_page is asked of any machine (--memory weak).  What does not hold then may be of no machine; so where the
edge is a lock or a wait, which keep tasks apart in time, it is also taken out of the text, and every property that held before
is asked under sequential consistency: what is violated there is violated on every machine.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from kernelmodel.memory_model import MODELS
from kernelmodel.terms import Cell
from kernelmodel.text import KernelText
from properties.catalogue import PROPERTIES, find
from properties.property import Check, Property
from verify import page
from verify.explore.finite import Finite
from verify.explore.model import Model, cells_in
from verify.explore.solve import Explorer
from verify.ordering.edges import Edge, edges
from verify.ordering.survey import PAGES, scenario
from verify.verdict import Exit, Result


@dataclass(frozen=True, slots=True)
class Carried:
    """What is left without an edge."""

    edge: Edge
    #: whether the guarantee holds on any machine
    holds: bool
    #: why nothing more can be said
    why: str = ""
    #: the properties that are violated under sequential consistency
    broken: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.broken:
            return f"{', '.join(self.broken)} violated, on any machine"
        return "it holds" if self.holds else f"it may break{': ' * bool(self.why)}{self.why}"


class Explanation:
    """What each edge of a kernel carries."""

    def __init__(self, kernel: type[KernelText]) -> None:
        self.kernel = kernel
        self.finite = Finite(scenario(text=kernel), PAGES)
        self.guarantee = find("no_stray_page")
        explorer = Explorer(kernel, self.finite)
        self._every = [p for p in PROPERTIES.values() if not explorer.why_not(p)]
        model = explorer.model(self.finite, self._every)
        self.edges = edges(t.graph for t in model.tasks)
        self._config = model.config
        self._speaks_of = _cells_of(model)

    @functools.cached_property
    def _kept(self) -> list[Property]:
        """The properties that hold with all edges in place."""
        violated = self._violated(self._every, frozenset())
        return [p for p in self._every if p.name not in violated]

    def holds(self) -> bool:
        """Whether the guarantee holds on any machine with all edges in place."""
        return self._weakly(frozenset())[0]

    def _weakly(self, without: frozenset[Edge]) -> tuple[bool, str]:
        """Whether it holds on any machine without some edges, and why that cannot be followed where it cannot."""
        explorer = Explorer(self.kernel, self.finite, memory="weak", without=without)
        if explorer.decide([self.guarantee], deadlock=False)[0].result is Result.HOLDS:
            return True, ""
        return False, explorer.cannot_follow([self.guarantee]).replace("{0}", "n")

    def without(self, edge: Edge) -> Carried:
        """What is left without an edge."""
        broken: tuple[str, ...] = ()
        if not edge.is_order_alone and not edge.is_section(self._config):
            # a property that asks who holds the lock says something else where nobody does
            asked = [p for p in self._kept if not self._speaks_of[p.name] & edge.exclusions]
            broken = self._violated(asked, frozenset({edge}))
        return Carried(edge, False, broken=broken) if broken else Carried(edge, *self._weakly(frozenset({edge})))

    def _violated(self, properties: Sequence[Property], without: frozenset[Edge]) -> tuple[str, ...]:
        groups = Explorer(self.kernel, self.finite, without=without).search_all(properties, deadlock=False)
        return tuple(p.name for p in properties if any(p.name in g.names and g.broken(p) for g in groups))


def _cells_of(model: Model) -> dict[str, set[Cell]]:
    """The cells of which each property speaks."""
    checks: list[tuple[int, Check]] = [(s.prop, s.check) for s in model.state_checks]
    for task in model.tasks:
        for node in task.graph.kept:
            checks += model.step_checks(node.op)
    found: dict[str, set[Cell]] = {p.name: set() for p in model.properties}
    for i, check in checks:
        found[model.properties[i].name] |= cells_in((check.premise, check.violation))
    return found


def explain(kernel: type[KernelText]) -> Exit:
    """Print what each synchronisation carries; undecided if the guarantee is not carried by all of them."""
    explained = Explanation(kernel)
    prop = explained.guarantee
    print(f"{kernel.name}, {MODELS['weak']}: what carries {prop.name}")
    print(page.paragraph(f"bound: {explained.finite.bound(kernel)}", "  ", "    "))
    if not prop.applies_to(kernel):
        print(f"  it says nothing of {kernel.name}")
        return Exit.OK
    if not explained.holds():
        print("  it may break with all synchronisation in place")
        return Exit.UNDECIDED
    print("  with all synchronisation it holds; without")
    needed = []
    for edge in explained.edges:
        page.progress(edge.words)
        left = explained.without(edge)
        page.progress("")
        print(page.paragraph(f"{left.edge.words}", "    ", "      "))
        print(page.paragraph(f"{left}", "        ", "          "))
        needed += [] if left.holds else [left.edge.words]
    print(page.paragraph(f"needed: {'; '.join(needed) or 'none of them alone'}", "  ", "    "))
    return Exit.OK
