"""How few tasks and CPUs a counterexample does with: it is looked for again where there are no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import z3

from kernelmodel.tasks import options
from verify.bmc.encode import Encoding
from verify.scenario import Scenario
from verify.smt import Expr

#: a race is shown between two CPUs, also where one would do
_CPUS = 2


def acting(scenario: Scenario, schedule: Sequence[Mapping[str, Any]]) -> Scenario:
    """The scenario with those of its tasks that make a step of the schedule, and no more CPUs than that needs."""
    kinds = {t.name: t.kind for t in scenario.tasks() if not t.kind.serves}
    there = Counter(kinds[name].option for name in {s["task"] for s in schedule[1:]} if name in kinds)
    tasks = {option: there[option] for option in options()}
    # with --spread a task's number is its place
    return scenario if scenario.spread else scenario.having(cpus=min(_CPUS, scenario.cpus), **tasks)


def one_of_each(scenario: Scenario) -> Scenario:
    """The scenario with one task of each kind that it has, on as few CPUs."""
    numbers = scenario.numbers()
    return scenario.having(cpus=min(_CPUS, scenario.cpus), **{o: min(1, numbers.get(o, 0)) for o in options()})


def at_most(encoding: Encoding, model: Any) -> Iterator[Expr]:
    """That so few tasks act, the fewest first, and last as many as in a model."""
    acts = [
        z3.Or([e.happened for e in events.values()])
        for t in encoding.piece.tasks
        if not t.spec.kind.serves and (events := encoding.by_task[t.spec.number])
    ]
    now = sum(z3.is_true(model.eval(a, model_completion=True)) for a in acts)
    for n in range(1, now + 1):
        yield z3.PbLe([(a, 1) for a in acts], n)
