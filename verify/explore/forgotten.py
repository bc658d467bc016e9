"""Ghosts that each critical section of a pcplist sets anew are reset where it ends: nobody reads them then.

Without it a state would remember of each CPU what was true when its last section began, and states be told apart by that.
Who only clears them, as who ends what they tell of, changes nothing of that: they are 0 outside sections.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kernelmodel.cells import section_of, stops_others
from kernelmodel.config import Config
from kernelmodel.graphs.folded_graph import RETURNED, FoldedGraph, FoldedNode
from kernelmodel.terms import ME, Cell, Term, const, ite, load
from verify.explore.values import conjuncts


def forget_when_sections_end(
    config: Config, graphs: list[FoldedGraph], watched: set[Cell], looked_at: Callable[[FoldedNode], frozenset[Cell]]
) -> None:  # fmt: skip
    """Change the graphs in place; ``watched`` are cells that are looked at in any state, ``looked_at`` those by a node."""
    for section, cpu in {section_of(config, z, c): c for z in range(config.nr_zones) for c in config.cpus}.items():
        nodes = [n for g in graphs for n in g.kept]
        begins = {id(n) for n in nodes if n.op.does.acquires == section}
        if not begins or not all(_excludes(n.op.updates, n, section) for n in nodes):
            continue
        reads = [set().union(*map(looked_at, g.kept)) for g in graphs]
        fresh = set().union(*({c for c, _ in n.op.updates} for n in nodes if id(n) in begins)) - watched - {section}
        for g, read in zip(graphs, reads, strict=True):
            inside = held(g, section, cpu)
            for n in g.kept:
                updated = {c for c, t in n.op.updates if id(n) in begins or not _clears(t)}
                # whoever reads it has set it, in this section, and nobody sets it but who begins one
                fresh -= read - updated if id(n) in begins else updated
                if n.number not in inside:
                    fresh -= looked_at(n)
        for g, read in zip(graphs, reads, strict=True):
            for n in g.kept:
                if id(n) in begins:
                    n.op = replace(n.op, updates=tuple(u for u in n.op.updates if u[0] not in fresh - read))
                if n.op.does.releases == section:
                    resets = tuple((c, const(0)) for c in sorted(fresh & read))
                    n.op = replace(n.op, updates=(*n.op.updates, *resets))


def _clears(term: Term) -> bool:
    return term.op == "const" and not term.args[0]


def held(graph: FoldedGraph, section: Cell, cpu: int) -> set[int]:
    """The nodes at which the task is in a section whichever way it came there."""
    if stops_others(section):
        return {n.number for n in graph.kept if n.irqs_off and n.cpu == cpu}
    there = [True] * len(graph.locations)
    for _, location in graph.entry:
        there[location] = False
    again = True
    while again:
        again = False
        for location, numbers in enumerate(graph.locations):
            for node in (graph.nodes[n] for n in numbers):
                for conditions, target in node.edges:
                    if (
                        target != RETURNED
                        and there[target]
                        and not _holds_after(node, conditions, section, there[location])
                    ):
                        there[target], again = False, True
    outside = {n for location, numbers in enumerate(graph.locations) if not there[location] for n in numbers}
    return {n.number for n in graph.kept} - outside


def _holds_after(node: FoldedNode, conditions: tuple[Term, ...], section: Cell, before: bool) -> bool:
    does = node.op.does
    if does.releases == section:
        return False
    if does.acquires != section:
        return before
    taken = f"{node.number}.0"
    return before or not does.tries or any(c.op == "reg" and c.args[0] == taken for c in conditions)


def _excludes(updates: tuple[tuple[Cell, Term], ...], node: FoldedNode, section: Cell) -> bool:
    """Whether a node leaves a section alone, or begins it where it is free, or ends the task's own."""
    new = next((t for c, t in updates if c == section), None)
    if new is None:
        return section not in (node.op.does.acquires, node.op.does.releases)
    owner = load(section)
    guards = {g.key for g in conjuncts(node.op.guard)}
    if node.op.does.acquires == section:
        return ((owner == 0).key in guards and new.key == ME.key) or (
            node.op.does.tries
            and new.key == ite(owner == 0, ME, owner).key
            and node.op.returns[0].key == (owner == 0).key
        )
    return node.op.does.releases == section and (owner == ME).key in guards and new.key == const(0).key
