"""How a trace goes on if only offline_pages() and the drain workers do: round for ever, or to the end by more drains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernelmodel.errors import ModelError
from kernelmodel.machine import Machine, Task
from kernelmodel.text import KernelText
from verify.trace import boot, make_exactly
from verify.tracefile import of_verdict
from verify.verdict import Verdict

#: more steps than several rounds of the loop need
MANY = 2000


def onwards(kernel: type[KernelText], verdict: Verdict) -> str:
    """What comes after a trace that ends at a test of the range which fails, in words; empty if it ends otherwise.

    The trace is run again on the concrete machine; then the offliner goes on alone, with the workers that it waits for.
    """
    if not verdict.schedule:
        return ""
    machine, tasks = _again(kernel, verdict)
    last = machine.history[-1]
    if not last.op.does.tests or any(last.returned):
        return ""
    try:
        return _alone(machine, tasks[last.task])
    except ModelError as error:
        return f"and then: {error}"


def _again(kernel: type[KernelText], verdict: Verdict) -> tuple[Machine, dict[str, Task]]:
    trace = of_verdict(verdict)
    machine, tasks = boot(kernel, trace.scenario, trace.start)
    for step in trace.steps:
        make_exactly(machine, tasks[step.task], step.cpu, step.choices)
    return machine, tasks


def _alone(machine: Machine, task: Task) -> str:
    began, before = len(machine.history), _state(machine)
    drains: list[int] = []
    for _ in range(MANY):
        if task.done:
            break
        op = machine.operation(task)
        if op.does.awaits and not machine.can_step(task):
            worker = machine.workers[op.does.awaits.cpu]
            while not machine.can_step(task):
                machine.step(worker)
        step = machine.step(task)
        if op.does.queues:
            drains.append(op.does.queues.cpu)
        if op.does.tests:
            if any(step.returned):
                return _ends(drains, len(machine.history) - began)
            now = _state(machine)
            if now == before:
                return (
                    f"and then: if nobody else comes along, the next round of {len(machine.history) - began} steps fails in the"
                    " same state: offline_pages() goes round for ever (a lasso)"
                )
            before = now
    how = "returns" if task.done else "is still under way"
    return f"and then: after {len(machine.history) - began} further steps offline_pages() {how}"


def _ends(drains: list[int], steps: int) -> str:
    cpus = ", ".join(f"CPU{c}" for c in drains)
    by = f"a further drain, of {cpus}," if drains else "another round"
    return f"and then: {by} has to come first: the next test, {steps} steps later, succeeds"


def _state(machine: Machine) -> Mapping[Any, int]:
    """The values of all cells."""
    return dict(machine.state.abstract())
