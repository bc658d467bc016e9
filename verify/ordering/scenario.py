"""What a memory model changes in a scenario, whatever is asked of it."""

from __future__ import annotations

from kernelmodel.text import KernelText
from properties.catalogue import PROPERTIES
from verify.explore.finite import Finite, default_pages
from verify.explore.model import Model
from verify.explore.movers import Movers
from verify.ordering.relaxed import Relaxed
from verify.ordering.robust import relaxed
from verify.scenario import Scenario


def relaxed_in(kernel: type[KernelText], scenario: Scenario) -> Relaxed:
    """The stores that x86-TSO may delay so that it matters, to any property, in any number of rounds."""
    properties = [p for p in PROPERTIES.values() if p.applies_to(kernel)]
    model = Model(kernel, Finite(scenario, default_pages(scenario)), properties)
    return relaxed(Movers(model, (), only_facts=True))
