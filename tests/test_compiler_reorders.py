"""--compiler-reorders: what a compiler may do to plain accesses, and nothing to those that are volatile on both sides."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random

import pytest
from test_memory_models import KNOWN, drawn

from kernelmodel.errors import ModelError
from kernelmodel.kernels import kernel, mutant
from properties.catalogue import find
from tests.litmus import Outcome, Program, Thread, abstract, explored, loads
from verify.explore.__main__ import main
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.scenario import Scenario
from verify.verdict import Result

PLAIN = {"W": "w", "R": "r"}


def plain(program: Program, random: Random | None = None) -> Program:
    """The program with plain accesses instead of volatile ones: all, or some."""
    return tuple(
        tuple((PLAIN.get(op[0], op[0]) if random is None or random.random() < 0.5 else op[0], *op[1:]) for op in thread)
        for thread in program
    )


def may_swap(a: tuple[object, ...], b: tuple[object, ...]) -> bool:
    """Whether a compiler may put two accesses that follow each other in the other order."""
    barrier = {a[0], b[0]} & {"mb", "xchg"}
    return not barrier and a[1] != b[1] and bool({a[0], b[0]} & {"w", "r"})


def compiled(thread: Thread) -> Iterator[tuple[int, ...]]:
    """The orders in which a compiler may leave a thread's accesses, by their place in the text."""
    first = tuple(range(len(thread)))
    todo, seen = [first], {first}
    while todo:
        order = todo.pop()
        yield order
        for i in range(len(order) - 1):
            if may_swap(thread[order[i]], thread[order[i + 1]]):
                new = (*order[:i], order[i + 1], order[i], *order[i + 2 :])
                if new not in seen:
                    seen.add(new)
                    todo.append(new)


def outcomes(program: Program) -> set[Outcome]:
    """What may come of a program when each of its threads has been compiled, on a sequentially consistent machine."""
    found = set()
    for orders in itertools.product(*map(compiled, program)):
        made = tuple(
            tuple((thread[i][0].upper() if thread[i][0] in "wr" else thread[i][0], *thread[i][1:]) for i in order)
            for thread, order in zip(program, orders, strict=True)
        )
        # registers are named in the order of the text
        places, number = [], 0
        for thread, order in zip(program, orders, strict=True):
            names = {i: number + n for n, i in enumerate(i for i, op in enumerate(thread) if loads((op,)))}
            places += [names[i] for i in order if i in names]
            number += len(names)
        for outcome in abstract(made, "sc"):
            found.add(tuple(x for _, x in sorted(zip(places, outcome, strict=True))))
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_volatile_accesses_stay_where_they_are(name: str) -> None:
    program = KNOWN[name][0]
    assert explored(program, "compiler") == abstract(program, "sc") == outcomes(program)


@pytest.mark.parametrize("name", KNOWN)
def test_plain_accesses_may_come_in_any_order_that_a_compiler_makes(name: str) -> None:
    program = plain(KNOWN[name][0])
    assert explored(program, "compiler") >= outcomes(program)


def test_store_buffering_takes_one_plain_access_on_each_side() -> None:
    """The shape of the free path: a plain store, then READ_ONCE() of what the other one writes with WRITE_ONCE()."""
    plain_store: Program = ((("w", "x", 1), ("R", "y")), (("W", "y", 1), ("r", "x")))
    assert (0, 0) in outcomes(plain_store) and (0, 0) in explored(plain_store, "compiler")
    volatile: Program = ((("W", "x", 1), ("R", "y")), (("W", "y", 1), ("R", "x")))
    assert (0, 0) not in explored(volatile, "compiler")


def test_drawn_programs_have_all_outcomes_that_a_compiler_can_make() -> None:
    more = 0
    for number in range(10):
        program = plain(drawn(Random(number)), Random(number))
        wanted = outcomes(program)
        try:
            found = explored(program, "compiler")
        except ModelError as error:
            assert "which store is last is open" in str(error)
            continue
        assert found >= wanted, program
        more += wanted != abstract_volatile(program)
    # the twin: some of these programs have outcomes that no order of the text has
    assert more > 0


def abstract_volatile(program: Program) -> set[Outcome]:
    """What comes of the program as it stands."""
    return abstract(tuple(tuple((str(op[0]).replace("w", "W").replace("r", "R") if op[0] in "wr" else op[0], *op[1:])
                                for op in t) for t in program), "sc")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("v5.11", Result.HOLDS), ("v6.1", Result.HOLDS), ("v6.11", Result.HOLDS), ("no-force-all-cpus", Result.UNDECIDED),
        ("v6.10", Result.UNDECIDED),
    ],
)  # fmt: skip
def test_frees_alone(name: str, result: Result) -> None:
    """pcp->count is written plainly: who looks at it without the lock may miss it, whatever the machine."""
    text = kernel(name) if name.startswith("v") else mutant(name)
    finite = Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0), 2)
    found = Explorer(text, finite, memory="compiler").decide([find("no_stray_page")], deadlock=False)
    assert [v.result for v in found] == [result]


def test_options(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--compiler-reorders", "--frees", "1", "--allocs", "0", "--updates", "0", "--property", "no_stray_page"]
    assert main(asked) == 0
    assert "sequential consistency, plain accesses in any order" in capsys.readouterr().out
    # which includes it
    assert main([*asked, "--memory", "weak"]) == 0
    assert "any loads between synchronisations" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main([*asked, "--memory", "tso"])
    assert left.value.code == 2 and "--memory weak allows both" in capsys.readouterr().err
