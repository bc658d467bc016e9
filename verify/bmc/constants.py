"""Cells that keep one value throughout a scenario, as far as the graphs of its tasks tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kernelmodel.cells import CELLS, initial, is_derived, layout, owner
from kernelmodel.config import Config
from kernelmodel.graphs.automaton import Graph
from kernelmodel.graphs.reach import is_ours
from kernelmodel.terms import Cell
from kernelmodel.text import KernelText, has_routine


def steady(config: Config, graphs: Iterable[Graph], zeros: Sequence[str]) -> dict[Cell, int]:
    """Cells to which none of the graphs writes, with their values at boot; those named in ``zeros`` are taken to be 0."""
    writers = {c for g in graphs for n in g.nodes for c, _ in n.op.updates}
    cells = list(layout(config))
    known = {c: 0 for c in cells if c.name in zeros}
    known |= {c: initial(config, c) for c in cells if CELLS[c.name].never_zero}
    return known | {
        c: initial(config, c)
        for c in cells
        if c not in writers and owner(c) is None and not CELLS[c.name].open_at_start and not is_derived(c)
    }


def base_of(kernel: type[KernelText]) -> type[KernelText] | None:
    """The kernel of ours that a user's text is derived from; None where it is ours itself, or is derived from none."""
    ours = (k for k in kernel.__mro__ if issubclass(k, KernelText) and all(map(is_ours, k.__mro__)))
    base = next((k for k in ours if has_routine(k, k.isolation_complete)), kernel)
    return None if base is kernel else base
