"""Several properties at a time: each is decided in a process of its own kind, verdicts come in the order asked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from properties.catalogue import PROPERTIES, find
from properties.property import Property
from verify.bmc.solve import LEMMAS, Engine, Outcome
from verify.forked import can_fork, children
from verify.runs import Net, Values
from verify.verdict import Verdict

#: set before the children are forked, for kernels of users' files cannot be sent to them
_engines: list[Engine] = []


def decide_all(work: Sequence[tuple[Engine, Property]]) -> Iterator[Verdict]:
    """The verdict on each property under its engine."""
    jobs = min(len(work), os.cpu_count() or 1)
    if jobs < 2 or not can_fork():
        for engine, prop in work:
            yield engine.decide(prop)
        return
    engines = list(dict.fromkeys(engine for engine, _ in work))
    _engines[:] = engines
    with children(jobs) as pool:
        futures: dict[tuple[int, str], Future[Outcome]] = {}
        wanted = [(engines[0], PROPERTIES[name]) for name in LEMMAS]
        # from the last to the first, for the long questions at the end of the catalogue would leave one core idle
        for engine, prop in [*reversed(work), *wanted]:
            key = (engines.index(engine), prop.name)
            if key not in futures:
                futures[key] = pool.submit(_quick, *key)
        for name in LEMMAS:
            engines[0].learn(PROPERTIES[name], futures[0, name].result())
        for engine, prop in work:
            yield engine.conclude(prop, futures[engines.index(engine), prop.name].result())


def net_of(engine: Engine, properties: Sequence[Property]) -> Net:
    """The random runs against which the engine's verdicts are held."""
    values = Values(rounds=True, memory=engine.memory)
    return Net(engine.kernel, engine.scenario, [p for p in properties if not p.rest], values)


def _quick(engine: int, prop: str) -> Outcome:
    return _engines[engine].quick(find(prop))
