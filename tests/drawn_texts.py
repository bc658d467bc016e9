"""Routine texts as Hypothesis draws them, and Python itself as the oracle of what a control graph must say of one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from kernelmodel.graphs.automaton import CUT, DONE, Graph
from kernelmodel.graphs.extraction import abandon
from kernelmodel.graphs.folded_graph import RETURNED, FoldedGraph
from kernelmodel.machine import packed
from kernelmodel.ops import Op
from kernelmodel.running import advance, bound_to
from kernelmodel.terms import Cell, Term, evaluate

HEADER = """
from kernelmodel import V5_11
from kernelmodel.ops import environment, happens, read, write


class Drawn(V5_11):
"""
#: each may call those after it
ROUTINES = ("direct_reclaim", "first_part", "second_part")
NUMBERS, TRUTHS = ("a", "b", "c"), ("p", "q")
#: a run that is not over by then is good enough
LONGEST = 60


class Lines:
    """A text under way: its lines, and numbers for what has to have a name of its own."""

    def __init__(self, numbers: Lines | None = None) -> None:
        """Nothing yet; ``numbers`` are taken from another text's."""
        self.lines: list[str] = []
        self.names = 0
        self.numbers = numbers or self
        self.forever = False

    def add(self, depth: int, line: str) -> None:
        """One line, indented."""
        self.lines.append("    " * depth + line)

    def fresh(self) -> int:
        """A number that nothing has yet."""
        self.numbers.names += 1
        return self.numbers.names


_number = st.sampled_from([*NUMBERS, "0", "1", "a + 1", "b + c", "2"])
_condition = st.sampled_from(
    ["a > 1", "a == b", "b == 0", "p", "not q", "p and a > 0", "q or b > c", "a + b > 2", "p == q", "0 < c < 3"]
)
_iterable = st.sampled_from(
    ["(a, a)", "(a, b)", "reversed((a, c))", "(x for x in (b, b))", "range(2)", "[c, a]", "(0, 1)", "map(abs, (0, 0))"]
)


@st.composite
def texts(draw: Any) -> str:
    """A class whose direct_reclaim() is made of branches, loops, calls, closures and values in between."""
    whole = ""
    numbers = Lines()
    for name in ROUTINES:
        outer = name == "direct_reclaim"
        if not outer and f"self.{name}(" not in whole:
            continue
        text = Lines(numbers)
        text.add(1, f"def {name}({'self' if outer else 'self, a, b'}):")
        if outer:
            text.add(2, "b, c, q = 0, 1, False")
            text.add(2, "a = yield read('pcp.count', 0, 0)")
            text.add(2, "p = yield environment('e0', 'e0?')")
        else:
            text.add(2, "c, p, q = 0, False, False")
        text.add(2, "kept = []")
        _block(draw, text, 2, 2, ROUTINES[ROUTINES.index(name) + 1 :], outer)
        text.add(2, f"yield write(a + b, 'zone.pageset_high', 0)  # {name} ends")
        text.add(2, f"return {draw(_number)}")
        whole += "\n".join(text.lines) + "\n\n"
    return HEADER + whole


def _block(draw: Any, text: Lines, depth: int, left: int, calls: tuple[str, ...], outer: bool) -> None:
    for _ in range(draw(st.integers(2, 5) if outer else st.integers(1, 2))):
        _statement(draw, text, depth, left, calls, outer)


_PAIRS = {"enumerate": "enumerate((a, c))", "zip": "zip((1, 1), (b, a))"}
_SIMPLE = ("read", "ask", "rebind", "swap", "say", "stack", "keep", "closure", "lambdas", "choose", "either")
_NESTED = ("if", "ifelse", "for", "enumerate", "zip", "counter", "forever", "try", "call", "stackcall", "return")


def _statement(draw: Any, text: Lines, depth: int, left: int, calls: tuple[str, ...], outer: bool) -> None:
    kinds = [*_SIMPLE, *(_NESTED if left else ())]
    # of loops without bound one: what several carry from round to round multiplies
    known = {"call": bool(calls), "stackcall": bool(calls), "forever": not text.numbers.forever}
    kind = draw(st.sampled_from([k for k in kinds if known.get(k, True)]))
    v, w, n = draw(st.sampled_from(NUMBERS)), draw(_number), text.fresh()
    add: Callable[[int, str], None] = text.add

    def nested() -> None:
        _block(draw, text, depth + 1, left - 1, calls, False)

    if kind == "read":
        add(depth, f"{v} = yield read('pcp.count', 0, 0)")
    elif kind == "ask":
        add(depth, f"{draw(st.sampled_from(TRUTHS))} = yield environment('e{n}', 'e{n}?')")
    elif kind == "rebind":
        add(depth, f"{v} = {w}")
    elif kind == "swap":
        add(depth, "a, b = b, a")
    elif kind == "say":
        add(depth, f"yield write({w}, 'zone.pageset_batch', 0)")
    elif kind == "stack":
        add(
            depth,
            f"yield write({v} + (yield read('pcp.high', 0, 0)) + (yield read('pcp.batch', 0, 0)), 'zone.pageset_high', 0)",
        )
    elif kind == "keep":
        add(depth, f"kept.append({w})")
        add(depth, f"{v} = kept[0] + len(kept)")
    elif kind == "closure":
        add(depth, f"later = lambda: {v}")
        add(depth, f"{draw(st.sampled_from(NUMBERS))} = {w}")
        add(depth, f"yield happens('pause {n}')")
        add(depth, "yield write(later(), 'zone.pageset_batch', 0)")
    elif kind == "lambdas":
        add(depth, "later = lambda: 0")
        add(depth, f"if {draw(_condition)}:")
        add(depth + 1, "later = lambda: 5")
        add(depth, f"yield happens('pause {n}')")
        add(depth, "yield write(later(), 'zone.pageset_batch', 0)")
    elif kind == "either":
        add(depth, f"if {draw(_condition)}:")
        add(depth + 1, f"{v} = {v} + 0")
        add(depth, "else:")
        add(depth + 1, f"{v} = 1 + {v}")
        add(depth, f"yield write({v}, 'zone.pageset_batch', 0)")
        add(depth, f"{v} = 0")
    elif kind == "choose":
        add(depth, f"{v} = {w} if {draw(_condition)} else {draw(_number)}")
    elif kind in ("if", "ifelse"):
        add(depth, f"if {draw(_condition)}:")
        nested()
        if kind == "ifelse":
            add(depth, "else:")
            nested()
    elif kind == "for":
        add(depth, f"for {v} in {draw(_iterable)}:")
        nested()
    elif kind in _PAIRS:
        add(depth, f"for {v}, x{n} in {_PAIRS[kind]}:")
        nested()
    elif kind == "counter":
        add(depth, f"i{n} = 0")
        add(depth, f"while i{n} < 2:")
        add(depth + 1, f"i{n} += 1")
        nested()
    elif kind == "forever":
        text.numbers.forever = True
        add(depth, "while True:")
        add(depth + 1, f"if (yield environment('e{n}', 'e{n}?')):")
        add(depth + 2, "break")
        nested()
    elif kind == "try":
        add(depth, "try:")
        nested()
        add(depth, "finally:")
        add(depth + 1, f"yield write({w}, 'zone.pageset_batch', 0)")
    elif kind == "call":
        add(depth, f"{v} = yield from self.{draw(st.sampled_from(calls))}({w}, {draw(_number)})")
    elif kind == "stackcall":
        add(depth, f"yield from self.{draw(st.sampled_from(calls))}({w}, (yield read('pcp.count', 0, 0)))")
    else:
        add(depth, f"if {draw(_condition)}:")
        add(depth + 1, f"return {w}")


def written(folder: Path, text: str) -> Path:
    """The text as a user's file."""
    file = folder / "drawn.py"
    file.write_text(text)
    return file


class DifferentError(AssertionError):
    """A graph says something else of a text than Python does."""


def in_lockstep(make: Callable[[], Any], graph: Graph | FoldedGraph, seed: int) -> set[int]:
    """Run the Python text with random values for what it reads, and the graph with the same; the nodes that were passed.

    DifferentError where they part: at each step one edge is open, and leads to the operation that Python yields.
    """
    generator = make()
    try:
        return _walked(generator, graph, random.Random(seed))
    finally:
        abandon(generator)


def _walked(generator: Any, graph: Graph | FoldedGraph, rng: random.Random) -> set[int]:
    registers: dict[str, int] = {}
    value, edges = None, graph.entry
    passed: set[int] = set()
    for _ in range(LONGEST):
        try:
            op: Op | None = bound_to(advance(generator, value), 0)
        except StopIteration:
            op = None
        number = _next(graph, edges, registers)
        if number == CUT:
            return passed
        if op is None or number == DONE:
            if op is not None or number != DONE:
                raise DifferentError(
                    f"Python {'is over' if op is None else f'does {op.text}'}, the graph goes to {number}"
                )
            return passed
        node = graph.nodes[number]
        _same(op, node.op, registers, isinstance(graph, Graph))
        returned = tuple(rng.random() < 0.5 if t.sort == "bool" else rng.randrange(4) for t in node.op.returns)
        registers |= {f"{number}.{i}": x for i, x in enumerate(returned)}
        value, edges = packed(op, returned), node.edges
        passed.add(number)
    return passed


def _next(graph: Graph | FoldedGraph, edges: Any, registers: dict[str, int]) -> int:
    pairs = [(e.conditions, e.target) if isinstance(graph, Graph) else e for e in edges]
    ways = [target for conditions, target in pairs if all(_value(c, registers) for c in conditions)]
    if len(ways) != 1:
        raise DifferentError(f"{len(ways)} of {len(pairs)} edges are open")
    if isinstance(graph, Graph):
        return int(ways[0])
    if ways[0] == RETURNED:
        return DONE
    (number,) = graph.locations[ways[0]]
    return number


def _value(term: Term, registers: dict[str, int]) -> int:
    def no_cell(cell: Cell) -> int:
        raise DifferentError(f"an edge reads {cell}")

    return evaluate(term, no_cell, registers)


def _same(python: Op, graph: Op, registers: dict[str, int], texts: bool) -> None:
    # a folded graph has one of several nodes that do the same and go on alike, and the text of that
    mine, theirs = ((op.text if texts else "", op.kind, op.tag) for op in (python, graph))
    if mine != theirs:
        raise DifferentError(f"Python does {python.text}, the graph {graph.text}")
    for (cell, one), (other, two) in zip(_written(python), _written(graph), strict=True):
        if cell != other or _value(one, {}) != _value(two, registers):
            raise DifferentError(f"{python.text}: Python has {one} for {cell}, the graph {two} for {other}")


def _written(op: Op) -> Iterator[tuple[Any, Term]]:
    yield from op.updates
    yield from ((i, t) for i, t in enumerate(op.shown))
