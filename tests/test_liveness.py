"""Liveness of local variables: what keeps nodes apart, and what may be forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kernelmodel import V5_11
from kernelmodel.graphs import continuation
from kernelmodel.graphs.automaton import Graph, extract
from kernelmodel.graphs.liveness import live_locals
from kernelmodel.ops import Routine, happens, read


def remembers(pick: int | None = None) -> Routine:
    """Decides now, does something in between, and acts on the decision later."""
    count = yield read("pcp.count", 0, 0)
    if pick is None:
        late = bool(count == 0)
    else:
        late = bool(pick)
    yield happens("in between")
    if late:
        yield happens("was empty")
    else:
        yield happens("was not empty")


def forgets() -> Routine:
    """The decision is not looked at again: both ways lead to the same place."""
    count = yield read("pcp.count", 0, 0)
    seen = "some"
    if count == 0:
        seen = "none"
    del seen
    yield happens("in between")
    yield happens("after")


def paths(graph: Graph) -> set[tuple[str, ...]]:
    found = set()
    todo = [(e.target, ()) for e in graph.entry]
    while todo:
        number, before = todo.pop()
        if number < 0:
            found.add(before)
            continue
        node = graph.nodes[number]
        todo += [(e.target, (*before, node.op.text)) for e in node.edges]
    return found


BOTH = {("pcp[0]->count", "in between", "was empty"), ("pcp[0]->count", "in between", "was not empty")}


def test_a_decision_that_a_local_remembers_keeps_the_nodes_apart() -> None:
    graph = extract(V5_11, remembers, 0)
    assert paths(graph) == BOTH
    assert len(graph.nodes) == 5


def test_without_liveness_the_graph_would_merge_them_and_lose_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuation, "live_locals", lambda *_: frozenset())
    assert paths(extract(V5_11, remembers, 0)) != BOTH


def test_a_decision_that_is_not_looked_at_again_merges() -> None:
    graph = extract(V5_11, forgets, 0)
    assert [n.op.text for n in graph.nodes] == ["pcp[0]->count", "in between", "after"]


def at_yield(function: Callable[..., Any], nth: int, *args: Any) -> frozenset[str]:
    """What is live where the nth yield of a generator waits."""
    generator = function(*args)
    for _ in range(nth):
        next(generator)
    return live_locals(generator.gi_frame.f_code, generator.gi_frame.f_lasti)


def example(a: int, b: int) -> Iterator[int]:
    c = a + b
    yield 1
    d = c * 2
    yield 2
    yield d


def looping(n: int) -> Iterator[int]:
    total = 0
    for i in range(n):
        yield total
        total += 1
        if total > 3:
            break
        last = i
        yield last
    yield total


def closing(n: int) -> Iterator[int]:
    m = n + 1
    f = lambda: m  # noqa: E731
    yield 1
    yield f()


def overwritten() -> Iterator[int]:
    x = 1
    yield 0
    x = 2
    yield x


def guarded(x: int) -> Iterator[int]:
    y = 5
    try:
        yield 1
        z = x
        yield z
    except ValueError:
        yield y


def test_only_what_may_still_be_read_is_live() -> None:
    assert at_yield(example, 1, 1, 2) == {"c"}
    assert at_yield(example, 2, 1, 2) == {"d"}
    assert at_yield(example, 3, 1, 2) == frozenset()


def test_a_variable_that_is_written_first_is_not_live() -> None:
    assert at_yield(overwritten, 1) == frozenset()
    assert at_yield(overwritten, 2) == frozenset()


def test_what_the_next_round_reads_is_live_and_a_loop_variable_only_until_it_is_read() -> None:
    assert at_yield(looping, 1, 2) == {"i", "total"}
    assert at_yield(looping, 2, 2) == {"total"}


def test_variables_of_closures_stay_live() -> None:
    assert {"m", "f"} <= at_yield(closing, 1, 1)


def test_before_the_first_step_parameters_that_are_read_are_live() -> None:
    assert {"a", "b"} <= live_locals(example.__code__, -1)


def test_what_only_an_exception_handler_reads_is_live() -> None:
    assert "y" in at_yield(guarded, 1, 1)
