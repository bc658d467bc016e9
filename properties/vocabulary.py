"""What inferred lemmas may be made of: the predicates of the hand-written ones, without how they are put together."""

from __future__ import annotations

from dataclasses import dataclass

from kernelmodel.cells import pcp_list_length, value
from kernelmodel.config import Config
from kernelmodel.terms import Term, land, lnot, load, lor, reg
from properties.lemmas import DRAIN_LOCK, LOCK, cell_of, clean, ghost


@dataclass(frozen=True, slots=True)
class Atom:
    """A predicate of the vocabulary; ``forall``: it is meant for all values of what is open, so it is never denied."""

    name: str
    term: Term
    forall: bool = False


def vocabulary(config: Config, z: int, c: int) -> list[Atom]:
    """What candidates are made of, for one zone and CPU."""

    def flag(name: str) -> Term:
        return reg(name, "bool")

    def cell(name: str) -> Term:
        found = cell_of(name, z, c)
        return value(found.name, *found.index)

    owner, by = value("mutex", LOCK), value("pcp_disabled_by", z)
    isolated = load(cell_of("isolated_and_drained", z, c), "bool")
    to_come = lor(value("work.pending", c), flag("worker.will_drain"), flag("worker.draining"))
    texts = ("registers", "progress", "ranges", "drain lock", "pcp.high", "pcp.batch", "zone.pageset_high",
             "zone.pageset_batch", "pcp_disabled_by", "isolated_and_drained", "cpus_with_pcps", "drain.zone")  # fmt: skip
    return [
        Atom("holder", flag("holder")), Atom("section", flag("section")), Atom("section.one", flag("section.one")),
        Atom("queued", ghost("queued")), Atom("flushed", ghost("flushed")),
        Atom("worker busy", flag("worker.busy")), Atom("draining", flag("worker.draining")),
        Atom("drain to come", to_come, True), Atom("work pending", value("work.pending", c)),
        Atom("work running", value("work.running", c)), Atom("online", value("cpu_online", c)),
        Atom("lock free", owner == 0), Atom("lock is the holder's", owner == reg("holder.id")),
        Atom("lock >= 0", owner >= 0), Atom("drain lock >= 0", value("mutex", DRAIN_LOCK) >= 0),
        Atom("interrupts on", value("irqs_off", c) == 0),
        Atom("interrupts are the section's", value("irqs_off", c) == reg("section.id")),
        Atom("high == 0", cell("pcp.high") == 0), Atom("batch == 1", cell("pcp.batch") == 1),
        Atom("high >= 0", cell("pcp.high") >= 0), Atom("batch >= 1", cell("pcp.batch") >= 1),
        Atom("cached high >= 0", cell("zone.pageset_high") >= 0),
        Atom("cached batch >= 1", cell("zone.pageset_batch") >= 1),
        Atom("high as cached", cell("pcp.high") == cell("zone.pageset_high")),
        Atom("batch as cached", cell("pcp.batch") == cell("zone.pageset_batch")),
        Atom("lengths >= 0", land(*(value("pcp.nr", z, c, t, z) >= 0 for t in config.lists))),
        Atom("count is right", value("pcp.count", z, c) == pcp_list_length(config, z, c)),
        Atom("empty", land(pcp_list_length(config, z, c) == 0, value("pcp.count", z, c) == 0)),
        Atom("clean", clean(config, z, c), True),
        Atom("section leaves count right", flag("section.leaves_counted"), True),
        Atom("drain leaves nothing", flag("worker.leaves_empty"), True),
        Atom("disabled", lnot(by == 0)), Atom("disabled by the holder", by == reg("holder.id")),
        Atom("isolated and drained", isolated),
        *(Atom(f"text:{name}", flag(f"text:{name}")) for name in texts),
    ]  # fmt: skip
