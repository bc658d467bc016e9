"""In which order a kernel's properties are searched: what a small configuration violates is shown there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from kernelmodel.kernels import KERNELS
from kernelmodel.text import KernelText
from properties.catalogue import NO_DEADLOCK
from properties.property import Property
from verify.explore.beside import beside
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.runs import Net, Values
from verify.verdict import Verdict


def others(kernel: type[KernelText], finite: Finite, everything: bool = False) -> tuple[Finite, ...]:
    """The small configurations that are searched beside ``finite``; of a text that is none of ours more of them."""
    return beside(kernel, finite, altered=everything or kernel not in KERNELS.values())


def net_of(explorer: Explorer, properties: Sequence[Property], deadlock: bool) -> Net:
    """The random runs against which the search's verdicts are held."""
    finite = explorer.finite
    values = Values(finite.new_limits, finite.pages, memory=explorer.memory)
    return Net(explorer.kernel, finite.scenario, [*properties, NO_DEADLOCK] if deadlock else properties, values)


def shown_first(
    explorer: Explorer, properties: Sequence[Property], expected: Collection[Property] = ()
) -> Iterator[Verdict]:
    """The verdicts on what is violated in a small configuration, so that a large one is searched for the rest only.

    It is looked for in a text that is none of ours, and in what is ``expected`` to be violated.
    """
    likely = list(expected)
    if likely or explorer.kernel not in KERNELS.values():
        likely += explorer.probe([p for p in properties if p not in likely])
    for prop in properties:
        found = explorer.demonstrate(prop) if prop in likely else None
        if found is not None:
            yield found
