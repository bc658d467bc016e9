"""Whether three CPUs stand for any number: the parts must look the same with no, one or two CPUs on either side.

In the contracted graphs nothing is left of a loop's rounds for other CPUs, unless such a round does something that is
followed, or leaves something behind that later rounds depend on.  Then the graphs differ in the number of CPUs, and the
projection on one CPU would not be sound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kernelmodel.cells import cpu_position
from kernelmodel.terms import Cell, Term
from kernelmodel.text import KernelText
from verify.prove.parts import Parts
from verify.prove.population import Size
from verify.prove.roles import ENDS, Edges, Step
from verify.prove.system import WORKER

#: no CPU beside the tracked one; two before it and one after it
SIZES = (Size(1, 0), Size(4, 2))


def differing(kernel: type[KernelText], parts: Parts) -> str:
    """Which part depends on the number or place of CPUs, in words; empty if none does."""
    mine = shapes(parts)
    for size in SIZES:
        others = shapes(Parts(kernel, size, loose=parts.loose))
        for name, shape in mine.items():
            if others.get(name, shape) != shape:
                return (
                    f"{name} does something else for the tracked CPU among {size.cpus} CPUs than among"
                    f" {parts.size.cpus}: what it does for one CPU depends on how many others there are, or on which"
                )
    return ""


def shapes(parts: Parts) -> dict[str, Any]:
    """What each kind of task does as seen from the tracked CPU: the same for every number of CPUs, or not."""
    found: dict[str, Any] = {}
    first: list[tuple[str, Edges]]
    idle: Edges = [((), parts.worker_idle)]
    for role, steps, first in (
        ("holder", parts.holder.steps, [(s.kind.name, parts.holder.closure(s)) for s in parts.lock_steps]),
        ("section", parts.section.steps, [(s.kind.name, parts.section.closure(s)) for s in parts.all_section_entries]),
        *([(WORKER, parts.worker.steps, [(WORKER, idle)])] if parts.worker_idle else []),
    ):
        for n, (name, edges) in enumerate(first):
            kind = f"{name} as {role}"
            key = f"{kind} ({n})" if kind in found else kind
            found[key] = _shape(steps, edges, parts)
    outside = {
        _named((tuple((c, t.key) for c, t in s.op.updates if c in parts.followed), s.op.guard.key), parts, {})
        for s in parts.program.steps.values()
        if any(c in parts.followed for c, _ in s.op.updates)
    }
    found["some task"] = frozenset(map(repr, outside))
    return found


def _shape(steps: Mapping[int, Step], edges: Edges, parts: Parts) -> Any:
    order: dict[int, int] = {}
    queue = [edges]
    result = []
    while queue:
        ways = queue.pop(0)
        for _, target in _sorted(ways, steps, parts):
            if target not in ENDS and target not in order:
                order[target] = len(order)
                queue.append(steps[target].edges)
        names = {parts.program.steps[u].prefix: n for u, n in order.items()}
        result.append(tuple(
            (_named(tuple(sorted((c.key for c in cs), key=repr)), parts, names), order.get(t, t))
            for cs, t in _sorted(ways, steps, parts)
        ))  # fmt: skip
    names = {parts.program.steps[u].prefix: n for u, n in order.items()}
    for u in order:
        op = steps[u].op
        updates = tuple(sorted(((c, t.key) for c, t in op.updates if c in parts.followed), key=repr))
        result.append(_named((op.tag, op.guard.key, op.where.key, _keys(op.returns), updates), parts, names))
    return tuple(result)


def _sorted(edges: Edges, steps: Mapping[int, Step], parts: Parts) -> Edges:
    def key(edge: tuple[tuple[Term, ...], int]) -> str:
        conditions, target = edge
        step = steps.get(target)
        said = (step.op.tag, step.stack, _keys(t for _, t in step.op.updates)) if step else target
        return repr((_named((_keys(conditions), said), parts, {}), step.uid if step else 0))

    return sorted(edges, key=key)


def _keys(terms: Iterable[Term]) -> tuple[Any, ...]:
    """Constants that are returned, such as the CPU's number, have gone into the text that follows."""
    return tuple(t.key for t in terms if t.op != "const")


def _named(key: Any, parts: Parts, order: Mapping[str, int]) -> Any:
    """A key with the tracked CPU called "here", what is not followed "open", and registers by the order of their steps.

    Open parts of sums and junctions are dropped: they can be neutral, and the graphs that are proved have them.
    """
    if isinstance(key, Cell):
        if key not in parts.followed:
            return _OPEN
        place = cpu_position(key.name)
        return (key.name, tuple("here" if i == place else x for i, x in enumerate(key.index)))
    if not isinstance(key, tuple):
        return key
    if len(key) == 3 and key[0] == "reg":
        step, _, i = str(key[2]).rpartition(".")
        return ("reg", key[1], order.get(step, "before"), i if step else key[2])
    named = [_named(k, parts, order) for k in key]
    if named and named[0] in ("and", "or", "+"):
        flat: list[Any] = []
        for part in named[2:]:
            flat += part[2:] if isinstance(part, tuple) and part[:1] == (named[0],) else [part]
        kept = sorted({repr(f): f for f in flat if not _is_open(f)}.items())
        if named[0] == "+":
            kept = sorted((repr(f), f) for f in flat if not _is_open(f))
        return kept[0][1] if len(kept) == 1 else (named[0], named[1], *(f for _, f in kept)) if kept else _OPEN
    return tuple(named)


_OPEN = "open"


def _is_open(named: Any) -> bool:
    """Whether a named key depends on nothing but what is open."""
    if isinstance(named, tuple) and named and named[0] in ("cell", "==", "<", "<=", "not", "ite", "min", "-", "*"):
        return any(_is_open(n) for n in named) and all(_is_open(n) or _constant(n) for n in named[2:])
    return bool(named == _OPEN)


def _constant(named: Any) -> bool:
    return isinstance(named, tuple) and named[:1] == ("const",)
