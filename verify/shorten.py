"""Makes a trace shorter: only what the violation depends on, and as few context switches as the dependencies allow."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from kernelmodel.terms import Cell, atoms
from kernelmodel.text import KernelText
from properties.property import Property
from verify.scenario import Scenario
from verify.trace import Access, MismatchError, Replay, Start, TraceStep, exact_steps, rerun

#: so many steps of a task's end may have to be left out at once
_LONGEST_END = 24
#: places between which orders with few context switches are looked for; beyond, each task stays while it can
_MOST_PLACES = 20_000


def shorten(
    kernel: type[KernelText], scenario: Scenario, start: Start, found: Replay, prop: Property
) -> tuple[Start, Replay]:
    """A shorter replay that violates the same property, or ``found`` itself where none was found."""
    steps = exact_steps(found.steps)[: found.violations[0].step]
    accesses = found.accesses[: len(steps)]
    needed = _causes(found, accesses, prop)
    best = found
    for chosen in (needed, range(len(steps))):
        again = _violating(kernel, scenario, start, _in_order(steps, accesses, chosen), prop)
        if again is not None:
            best = again
            break
    best = _without_ends(kernel, scenario, start, best, prop)
    return _smaller_start(kernel, scenario, start, best, prop)


def _violating(
    kernel: type[KernelText], scenario: Scenario, start: Start, steps: Sequence[TraceStep], prop: Property
) -> Replay | None:
    """What the machine makes of some steps, if they fit it and violate the property."""
    try:
        again = rerun(kernel, scenario, start, steps, prop)
    except MismatchError:
        return None
    return again if again.violations else None


def _without_ends(
    kernel: type[KernelText], scenario: Scenario, start: Start, found: Replay, prop: Property
) -> Replay:  # fmt: skip
    """Leave out of each task's end what the violation does not need, such as a lock that is taken and given back."""
    for task in dict.fromkeys(s.task for s in found.steps):
        steps, accesses = exact_steps(found.steps)[: found.violations[0].step], found.accesses
        mine = [i for i, s in enumerate(steps) if s.task == task]
        for fewer in range(1, min(len(mine), _LONGEST_END) + 1):
            left = [i for i in range(len(steps)) if i not in mine[-fewer:]]
            again = _violating(kernel, scenario, start, _in_order(steps, accesses, left), prop)
            found = again or found
    return found


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


def _in_order(
    steps: Sequence[TraceStep], accesses: Sequence[Access], chosen: Sequence[int]
) -> list[TraceStep]:  # fmt: skip
    """The chosen steps, in the order of :func:`_fewest_switches`."""
    return [steps[i] for i in _fewest_switches(steps, accesses, chosen)]


def _fewest_switches(steps: Sequence[TraceStep], accesses: Sequence[Access], chosen: Sequence[int]) -> list[int]:
    """The chosen steps, each after those that it conflicts with, with as few changes of task as that allows."""
    waits = _waits(steps, accesses, chosen)
    return _fewest(steps, chosen, waits) or _staying(steps, chosen, waits)


def _waits(steps: Sequence[TraceStep], accesses: Sequence[Access], chosen: Sequence[int]) -> dict[int, set[int]]:
    """The steps after which each of the chosen ones has to come."""
    waits: dict[int, set[int]] = {}
    for n, i in enumerate(chosen):
        waits[i] = {
            j
            for j in chosen[:n]
            if steps[i].task == steps[j].task
            or accesses[i].writes & (accesses[j].reads | accesses[j].writes)
            or accesses[i].reads & accesses[j].writes
        }  # fmt: skip
    return waits


def _fewest(steps: Sequence[TraceStep], chosen: Sequence[int], waits: Mapping[int, set[int]]) -> list[int]:
    """An order with the fewest changes of task; empty where there is too much to choose from.

    How far each task has come is all that what may follow depends on: a shortest path over these places.  Whoever runs goes
    on as long as it can: nothing that the others do waits for it to stop, so whatever is left takes no more changes then.
    """
    of: dict[str, list[int]] = {}
    for i in chosen:
        of.setdefault(steps[i].task, []).append(i)
    tasks = list(of)
    place = {i: (t, n) for t, task in enumerate(tasks) for n, i in enumerate(of[task])}
    # of each step how far each of the others has to be
    needs: list[list[dict[int, int]]] = []
    for t, task in enumerate(tasks):
        needs.append([])
        for i in of[task]:
            need: dict[int, int] = {}
            for u, n in (place[j] for j in waits[i]):
                if u != t:
                    need[u] = max(need.get(u, 0), n + 1)
            needs[t].append(need)
    end = tuple(map(len, needs))
    # whoever has steps left has a stretch to come; of orders with as few, the one whose tasks come first in the trace
    queue: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = [(len(tasks), (), tuple([0] * len(tasks)))]
    seen: set[tuple[tuple[int, ...], int]] = set()
    while queue and len(seen) <= _MOST_PLACES:
        stretches, path, at = heapq.heappop(queue)
        last = path[-1] if path else -1
        if at == end:
            return [i for t, n, m in _stretches(path, needs) for i in of[tasks[t]][n:m]]
        if (at, last) in seen:
            continue
        seen.add((at, last))
        for t, mine in enumerate(needs):
            n = at[t] if t == last else _as_far(mine, at, t)
            if n > at[t]:
                ahead = stretches if n == end[t] else stretches + 1
                heapq.heappush(queue, (ahead, (*path, t), (*at[:t], n, *at[t + 1 :])))
    return []


def _as_far(needs: Sequence[Mapping[int, int]], at: Sequence[int], task: int) -> int:
    """How far a task comes from a place, while nobody else goes on."""
    n = at[task]
    while n < len(needs) and all(at[u] >= m for u, m in needs[n].items()):
        n += 1
    return n


def _stretches(
    path: Sequence[int], needs: Sequence[Sequence[Mapping[int, int]]]
) -> Iterator[tuple[int, int, int]]:  # fmt: skip
    """Who runs, from where and to where, if they run in that order."""
    at = [0] * len(needs)
    for t in path:
        n, at[t] = at[t], _as_far(needs[t], at, t)
        yield t, n, at[t]


def _staying(steps: Sequence[TraceStep], chosen: Sequence[int], waits: Mapping[int, set[int]]) -> list[int]:
    """An order in which a task goes on as long as it can."""
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
            candidate = replace(current, lists=lists)
            again = _violating(kernel, scenario, candidate, steps, prop)
            if again is not None and len(again.steps) <= len(found.steps):
                current, found = candidate, again
                break
    return current, found
