"""The reader of C against a compiler: drawn functions are run as translated, and as g++ makes them, and must do the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import kernelmodel.ctext.switches as switches_module
from kernelmodel.cells import declare
from kernelmodel.config import Config
from kernelmodel.ctext.files import Tree
from kernelmodel.ctext.kernel import NAMES
from kernelmodel.ctext.reader import Reading, compiled
from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.machine import packed
from kernelmodel.mmzone import Zone
from kernelmodel.ops import Op
from kernelmodel.running import bound_to
from kernelmodel.terms import Cell, atoms, evaluate
from kernelmodel.versions.v6_0 import V6_0
from kernelmodel.vocabulary import values
from kernelmodel.vocabulary.eras import V6_0_WORDS
from kernelmodel.vocabulary.values import Pcp
from kernelmodel.vocabulary.words import PAGE_ALLOC
from tests.ctree import make
from tests.drawn_c import COMPILER, FIELDS, SHIM, files, run_compiled

Meddling = tuple[tuple[str, int], tuple[str, int]]

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++: nothing to hold the reader against")

#: count, high, batch, a and b
INPUTS = [(0, 0, 1, 0, 2), (3, 6, 2, 1, 0), (5, 2, 1, 4, 3), (1, 1, 3, 2, 5)]
#: what somebody else stores, in this order
MEDDLING = [(("high", 0), ("batch", 1)), (("count", 2), ("high", 5)), (("batch", 4), ("count", 0))]

MAIN = """
static int first, second, steps, field1, value1, field2, value2;
static bool under_lock, in_vain;
static per_cpu_pages *those;
static void store(int field, int value) {
  (field == 0 ? those->count : field == 1 ? those->high : those->batch).value = value;
}
static void event() {
  if (under_lock && held && steps == first) in_vain = true;
  if (steps == first) store(field1, value1);
  if (steps == second) store(field2, value2);
  steps++;
}
typedef int function(per_cpu_pages *, int, int);
static void one(function *f, int c, int h, int b, int x, int y, std::set<std::string> &outcomes) {
  per_cpu_pages p;
  p.count.value = c; p.high.value = h; p.batch.value = b;
  those = &p; told = ""; steps = 0; held = in_vain = false;
  int r = f(&p, x, y);
  /* what was not yet done is done now: a function may do less than its translation, which reads in vain */
  if (first >= steps) store(field1, value1);
  if (second >= steps) store(field2, value2);
  if (!in_vain)
    outcomes.insert(told + "-> " + std::to_string(r) + " " + std::to_string(p.count.value) + " "
                    + std::to_string(p.high.value) + " " + std::to_string(p.batch.value));
}
static void all(function *f, int c, int h, int b, int x, int y) {
  std::set<std::string> outcomes;
  for (first = 0; ; first++) {
    for (second = first; ; second++) {
      one(f, c, h, b, x, y, outcomes);
      if (under_lock || second >= steps) break;
    }
    if (first >= steps) break;
  }
  for (auto &o : outcomes) std::printf("%s|", o.c_str());
  std::printf("\\n");
}
"""


def as_compiled(
    folder: Path, texts: list[str], meddling: Meddling | None = None, under_lock: bool = False
) -> list[str]:
    """What each function may do with each input, as g++ makes it, with somebody else's stores anywhere (None: nobody's).

    ``under_lock``: these two are made under pcp->lock.
    """
    first, second = meddling or (("count", 0), ("count", 0))
    calls = [
        f"field1 = {FIELDS.index(first[0])}; value1 = {first[1]}; field2 = {FIELDS.index(second[0])}; value2 = {second[1]};"
        f" under_lock = {int(under_lock)};"
    ]
    for n in range(len(texts)):
        for numbers in INPUTS:
            with_these = f"(f{n}, {', '.join(map(str, numbers))}"
            alone = (
                f"{{ std::set<std::string> o; first = second = -1; one{with_these}, o);"
                ' std::printf("%s|\\n", o.begin()->c_str()); }'
            )
            calls.append(f"all{with_these});" if meddling else alone)
    return run_compiled(folder, SHIM + "".join(texts) + MAIN + f"int main() {{\n{chr(10).join(calls)} return 0;\n}}\n")


def as_read(folder: Path, texts: list[str], meddling: Meddling | None = None, under_lock: bool = False) -> list[str]:
    """The same by the translation."""
    declare(V6_0.cells)
    reading = Reading(Tree(TreeSpec(str(make(folder, *texts)))), V6_0_WORDS)
    told = []
    for n in range(len(texts)):
        function = reading.function(f"f{n}", PAGE_ALLOC)
        assert function is not None
        method = reading.read(function.name, function)
        assert not reading.refused, reading.refused
        made = reading.translated[method]
        routine = compiled(made.python, made.lines, "f.c", NAMES)
        for numbers in INPUTS:
            outcomes = set()
            for schedule in _schedules(under_lock) if meddling else iter([Schedule((), -1, -1)]):
                schedule.stores = meddling or ()
                outcome = run(routine, dict(zip(FIELDS, numbers[:3], strict=True)), numbers[3:], schedule)
                outcomes |= {outcome} - {""}
            told.append("".join(f"{o}|" for o in sorted(outcomes)))
    return told


@dataclass
class Schedule:
    """When somebody else makes two stores: before the accesses of these numbers.  ``steps``: how many there were."""

    stores: Meddling | tuple[()]
    first: int
    second: int
    under_lock: bool = False
    steps: int = 0


def _schedules(under_lock: bool) -> Iterator[Schedule]:
    """All that make a difference: each is asked for once the one before has been run."""
    first = 0
    while True:
        second = first
        while True:
            yield (schedule := Schedule((), first, second, under_lock))
            if under_lock or second >= schedule.steps:
                break
            second += 1
        if first >= schedule.steps:
            return
        first += 1


class _Kernel:
    config = Config()


def run(routine: Any, memory: dict[str, int], arguments: tuple[int, ...], schedule: Schedule) -> str:
    """One run: the stores that change something, the result, and what is left in memory; empty if it cannot be."""
    name_of = {Cell(f"pcp.{n}", (0, 0)): n for n in FIELDS}
    generator = routine(_Kernel(), Pcp(Zone(), 0), *arguments)
    told: list[str] = []
    value, held, in_vain = None, False, False

    def load(cell: Cell) -> int:
        return memory[name_of[cell]]

    for _ in range(1000):
        try:
            op: Op = bound_to(generator.send(value), 0)
        except StopIteration as stop:
            for at, store in zip((schedule.first, schedule.second), schedule.stores, strict=False):
                if at >= schedule.steps:
                    memory.update([store])
            left = " ".join(str(memory[n]) for n in FIELDS)
            return "" if in_vain else f"{''.join(f'{t} ' for t in told)}-> {int(stop.value)} {left}"
        locks = op.does.acquires is not None or op.does.releases is not None
        if locks or op.updates or any(atoms(t, "cell") for t in op.returns):
            if schedule.under_lock and held and schedule.steps == schedule.first:
                in_vain = True
            for at, store in zip((schedule.first, schedule.second), schedule.stores, strict=False):
                if schedule.steps == at:
                    memory.update([store])
            schedule.steps += 1
        if locks:
            held = op.does.acquires is not None
            told.append("lock" if held else "unlock")
        choices: Mapping[str, int] = op.effect(None, {}).choices if op.effect else {}  # type: ignore[arg-type]
        returned = tuple(evaluate(t, load, {}, choices) for t in op.returns)
        for cell, term in op.updates if not locks else ():
            new = evaluate(term, load, {}, choices)
            # a store under a condition that does not hold leaves what was there
            told += [f"{name_of[cell]}={new}"] if memory[name_of[cell]] != new else []
            memory[name_of[cell]] = new
        value = packed(op, returned)
    raise AssertionError("it never ends")


# a file is large: what is wrong with one of its functions is found faster than by making it smaller
DRAWN = settings(max_examples=6, deadline=None, phases=(Phase.explicit, Phase.generate))


@settings(DRAWN)
@given(texts=files(12))
def test_a_function_does_what_a_compiler_makes_of_it(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("drawn")
    assert as_read(folder, texts) == as_compiled(folder, texts), "\n".join(texts)


@settings(DRAWN, max_examples=4)
@given(texts=files(3), meddling=st.sampled_from(MEDDLING), under_lock=st.booleans())
def test_each_schedule_of_a_function_is_one_of_the_translation_and_the_other_way_round(
    texts: list[str], meddling: Meddling, under_lock: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What comes of it when somebody else stores to two fields, at any two accesses, or at one while nobody has the lock."""
    folder = tmp_path_factory.mktemp("drawn")
    given_them = (folder, texts, meddling, under_lock)
    assert as_read(*given_them) == as_compiled(*given_them), "\n".join(texts)


#: one function for each thing that a translation may get wrong
KNOWN = [
    "static int f0(struct per_cpu_pages *pcp, int a, int b)\n{ if (a > 1) { b = 3; } return b;\n}\n",
    "static int f1(struct per_cpu_pages *pcp, int a, int b)\n{ int i; "
    "for (i = 0; i < 3; i++) { if (i == a) continue; b += i; }\n return b;\n}\n",
    "static int f2(struct per_cpu_pages *pcp, int a, int b)\n{ if (a) goto out; b = 7; pcp->high = b;\nout:\n return b;\n}\n",
    "static int f3(struct per_cpu_pages *pcp, int a, int b)\n{ int n = 0;\nagain:\n n++; if (n < b) goto again; return n;\n}\n",
    "static int f4(struct per_cpu_pages *pcp, int a, int b)\n{ if (pcp->count > a) return pcp->count - a; return min(b, 2);\n}\n",
    "static int f5(struct per_cpu_pages *pcp, int a, int b)\n{ int c = 7; switch (a) { case 0: case 3: c = 1; fallthrough;\n"
    "case 2: b++; break; default: c = 4; if (b) break; c = 5; } return c + b;\n}\n",
]  # fmt: skip


def test_the_known_functions(tmp_path: Path) -> None:
    assert as_read(tmp_path, KNOWN) == as_compiled(tmp_path, KNOWN)


@pytest.mark.parametrize("planted", ["choose", "less", "greater"])
def test_a_planted_mistranslation_is_found(planted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"choose": lambda *given: given[1], "less": lambda *given: given[1] <= given[2], "greater": min}[planted]
    monkeypatch.setattr(values, planted, wrong)
    texts = [*KNOWN, "static int f6(struct per_cpu_pages *pcp, int a, int b)\n{ return max(a, b);\n}\n"]
    assert as_read(tmp_path, texts) != as_compiled(tmp_path, texts)


def test_a_fall_through_that_is_lost_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switches_module, "_ends", lambda _group: True)
    assert as_read(tmp_path, KNOWN) != as_compiled(tmp_path, KNOWN)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("switch (a) { case 0 ... 3: b = 2; }", "does not parse as C: '... 3'"),
        ("switch (a) { case 0: b = 2; case 1: switch (b) { a = 2; } }", "f0(): a switch that has a statement before"),
        (
            "while (b--) { switch (a) { case 0: if (b) break; continue; default: b = 0; } }",
            "both a break in the middle",
        ),
        ("switch (a) { b = 3; case 0: b = 2; }", "a statement before its first case"),
        ("switch (a) { case 0: b = 2; { case 1: b = 3; } }", "a case within a block"),
    ],
)
def test_a_switch_that_cannot_be_read_is_refused_by_name(body: str, why: str, tmp_path: Path) -> None:
    text = f"static int f0(struct per_cpu_pages *pcp, int a, int b)\n{{\n\t{body}\n\treturn b;\n}}\n"
    reading = Reading(Tree(TreeSpec(str(make(tmp_path, text)))), V6_0_WORDS)
    function = reading.function("f0", PAGE_ALLOC)
    assert function is not None
    reading.read("f0", function)
    (refused,) = reading.refused.values()
    assert why in refused


def _function(body: str) -> list[str]:
    return [f"static int f0(struct per_cpu_pages *pcp, int a, int b)\n{{\n\t{body}\n\treturn a;\n}}\n"]


@pytest.mark.parametrize(
    ("one", "other", "under_lock"),
    [
        ("b = pcp->high; if (b > 1) a = b;", "if (pcp->high > 1) a = pcp->high;", False),
        ("a = pcp->high + pcp->batch;", "b = pcp->batch; a = pcp->high + b;", False),
        ("spin_lock(&pcp->lock); a = pcp->high + pcp->batch; spin_unlock(&pcp->lock);",
         "spin_lock(&pcp->lock); a = pcp->high; spin_unlock(&pcp->lock); a += pcp->batch;", True),
    ],
    ids=["read twice", "read in another order", "read outside of the lock"],
)  # fmt: skip
def test_what_only_a_schedule_shows_is_found(one: str, other: str, under_lock: bool, tmp_path: Path) -> None:
    """Had the reader taken one for the other: alone they do the same."""
    read, made = _function(one), _function(other)
    assert as_compiled(tmp_path, made) == as_read(tmp_path, read)
    meddling = (("high", 0), ("batch", 4))
    assert as_read(tmp_path, read, meddling, under_lock) == as_compiled(tmp_path, read, meddling, under_lock)
    assert as_read(tmp_path, read, meddling, under_lock) != as_compiled(tmp_path, made, meddling, under_lock)
