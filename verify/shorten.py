"""Makes a trace shorter: only what the violation depends on, and as few context switches as the dependencies allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kernelmodel.terms import Cell, atoms
from kernelmodel.text import KernelText
from properties.property import Property
from verify.scenario import Scenario
from verify.trace import Access, MismatchError, Replay, Start, TraceStep, exact_steps, rerun


def shorten(
    kernel: type[KernelText], scenario: Scenario, start: Start, found: Replay, prop: Property
) -> tuple[Start, Replay]:
    """A shorter replay that violates the same property, or ``found`` itself where none was found."""
    steps = exact_steps(found.steps)[: found.violations[0].step]
    accesses = found.accesses[: len(steps)]
    needed = _causes(found, accesses, prop)
    best = found
    for chosen in (needed, list(range(len(steps)))):
        order = _fewest_switches(steps, accesses, chosen)
        try:
            again = rerun(kernel, scenario, start, [steps[i] for i in order], prop)
        except MismatchError:
            continue
        if again.violations:
            best = again
            break
    return _smaller_start(kernel, scenario, start, best, prop)


def _causes(found: Replay, accesses: Sequence[Access], prop: Property) -> list[int]:
    """The steps from which the violation follows: by program order, and by who wrote what was read."""
    last = found.violations[0].step - 1
    check = found.violations[0].check
    cells = {a.args[0] for a in atoms(check.violation, "cell")} if check is not None and prop.state else set()
    wanted = set() if prop.state and check is not None else {last}
    for cell in cells:
        wanted |= set(_last_writers(accesses, cell, last + 1))
    kept: set[int] = set()
    queue = list(wanted)
    while queue:
        i = queue.pop()
        if i in kept:
            continue
        kept.add(i)
        task = found.steps[i].task
        before = [j for j in range(i - 1, -1, -1) if found.steps[j].task == task][:1]
        queue += before
        for cell in accesses[i].reads | accesses[i].writes:
            queue += _last_writers(accesses, cell, i)
    return sorted(kept)


def _last_writers(accesses: Sequence[Access], cell: Cell, before: int) -> list[int]:
    return next(([j] for j in range(before - 1, -1, -1) if cell in accesses[j].writes), [])


def _fewest_switches(steps: Sequence[TraceStep], accesses: Sequence[Access], chosen: Sequence[int]) -> list[int]:
    """The chosen steps, each after those that it conflicts with, staying with one task as long as possible."""
    waits: dict[int, set[int]] = {}
    for n, i in enumerate(chosen):
        waits[i] = {
            j
            for j in chosen[:n]
            if steps[i].task == steps[j].task
            or accesses[i].writes & (accesses[j].reads | accesses[j].writes)
            or accesses[i].reads & accesses[j].writes
        }  # fmt: skip
    order: list[int] = []
    done: set[int] = set()
    while len(order) < len(chosen):
        ready = [i for i in chosen if i not in done and waits[i] <= done]
        same = [i for i in ready if order and steps[i].task == steps[order[-1]].task]
        following = (same or ready)[0]
        order.append(following)
        done.add(following)
    return order


def _smaller_start(
    kernel: type[KernelText], scenario: Scenario, start: Start, found: Replay, prop: Property
) -> tuple[Start, Replay]:
    """Leave out of the start whatever the violation does not need."""
    steps = exact_steps(found.steps)
    current = start
    for i in reversed(range(len(start.lists))):
        cpu, migratetype, block, n = start.lists[i]
        for fewer in range(n):
            rest = ((cpu, migratetype, block, fewer),) if fewer else ()
            lists = (*current.lists[:i], *rest, *current.lists[i + 1 :])
            candidate = _with_lists(current, lists)
            try:
                again = rerun(kernel, scenario, candidate, steps, prop)
            except MismatchError:
                continue
            if again.violations and len(again.steps) <= len(found.steps):
                current, found = candidate, again
                break
    return current, found


def _with_lists(start: Start, lists: tuple[tuple[int, int, int, int], ...]) -> Start:
    return replace(start, lists=lists)
