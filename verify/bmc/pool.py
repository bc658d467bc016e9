"""Several properties at a time: each is decided in a process of its own kind, verdicts come in the order asked."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from concurrent.futures import Future

from properties.catalogue import PROPERTIES, find
from properties.property import Property
from verify.bmc.solve import LEMMAS, Engine, Outcome
from verify.forked import can_fork, children
from verify.runs import Net, Values
from verify.verdict import Result, Verdict

#: set before the children are forked, for kernels of users' files cannot be sent to them
_engines: list[Engine] = []


def decide_all(work: Sequence[tuple[Engine, Property]]) -> Generator[Verdict, None, None]:
    """The verdict on each property under its engine; who wants no more of them closes the iterator."""
    jobs = min(len(work), os.cpu_count() or 1)
    if jobs < 2 or not can_fork():
        for engine, prop in work:
            yield engine.decide(prop)
        return
    engines = list(dict.fromkeys(engine for engine, _ in work))
    _engines[:] = engines
    with children(jobs) as pool:
        futures: dict[tuple[int, str], Future[Outcome]] = {}
        wanted = [*work, *((engines[0], PROPERTIES[name]) for name in LEMMAS)]
        # the demonstration takes longest, and the others are wanted in their order
        for engine, prop in sorted(wanted, key=lambda one: one[0] is engines[0]):
            key = (engines.index(engine), prop.name)
            if key not in futures:
                futures[key] = pool.submit(_quick, *key)
        for engine, prop in work:
            outcome = futures[engines.index(engine), prop.name].result()
            if engine is engines[0] and outcome.result is Result.HOLDS:
                for name in LEMMAS:
                    engine.learn(PROPERTIES[name], futures[0, name].result())
            yield engine.conclude(prop, outcome)


def net_of(engine: Engine, properties: Sequence[Property]) -> Net:
    """The random runs against which the engine's verdicts are held."""
    values = Values(rounds=True, memory=engine.memory)
    return Net(engine.kernel, engine.scenario, [p for p in properties if not p.rest], values)


def _quick(engine: int, prop: str) -> Outcome:
    return _engines[engine].quick(find(prop))
