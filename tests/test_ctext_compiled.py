"""The reader of C against a compiler: drawn functions are run as translated, and as g++ makes them, and must do the same.

g++ and not gcc, for a field that records who reads and writes it is a class with operators there.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import kernelmodel.ctext.switches as switches_module
from kernelmodel.config import Config
from kernelmodel.ctext.files import Tree
from kernelmodel.ctext.kernel import NAMES
from kernelmodel.ctext.reader import Reading, compiled
from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.machine import packed
from kernelmodel.mmzone import Zone
from kernelmodel.ops import Op, bound_to
from kernelmodel.terms import Cell, evaluate
from kernelmodel.vocabulary import values
from kernelmodel.vocabulary.eras import V6_0_WORDS
from kernelmodel.vocabulary.values import Pcp
from kernelmodel.vocabulary.words import PAGE_ALLOC
from tests.ctree import make

COMPILER = shutil.which("g++")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++: nothing to hold the reader against")

FIELDS = ("count", "high", "batch")
INPUTS = [(0, 0, 1, 0, 2), (3, 6, 2, 1, 0), (5, 2, 1, 4, 3), (1, 1, 3, 2, 5)]

SHIM = """
#include <cstdio>
struct Field {
  int value; const char *name;
  operator int() const { return value; }
  int operator=(const Field &other) { return *this = other.value; }
  int operator=(int v) { value = v; std::printf("%s=%d ", name, v); return v; }
  int operator+=(int v) { return *this = value + v; }
  int operator-=(int v) { return *this = value - v; }
};
struct per_cpu_pages { Field count{0, "count"}, high{0, "high"}, batch{0, "batch"}; };
#define READ_ONCE(x) (x)
#define WRITE_ONCE(x, v) ((x) = (v))
static int min(int a, int b) { return a < b ? a : b; }
static int max(int a, int b) { return a > b ? a : b; }
static int clamp(int v, int lo, int hi) { return min(max(v, lo), hi); }
#define likely(x) (x)
#define unlikely(x) (x)
#define fallthrough __attribute__((fallthrough))
"""


_LOOP = ("break", "continue")


@st.composite
def expressions(draw: st.DrawFn, depth: int = 2) -> str:
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        return draw(
            st.sampled_from(["a", "b", "c", "d", "0", "1", "2", "pcp->count", "pcp->high", "READ_ONCE(pcp->batch)"])
        )
    one, other = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    kind = draw(st.integers(0, 8))
    if kind > 6:  # what a parser without declarations could take for a cast
        return f"(({one}) {draw(st.sampled_from('+-'))} {other})" if kind == 7 else f"({one})"
    if kind == 5:
        return f"({draw(conditions(depth - 1))} ? {one} : {other})"
    return (f"({one} + {other})", f"({one} - {other})", f"({one} << 1)", f"min({one}, {other})", f"max({one}, {other})",
            "", f"clamp({one}, 1, 4)")[kind]  # fmt: skip


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> str:
    one, other = draw(expressions(1)), draw(expressions(1))
    if depth == 0 or draw(st.booleans()):
        sign = draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
        return draw(st.sampled_from([f"{one} {sign} {other}", one, f"!({one})", f"unlikely({one} {sign} {other})"]))
    a, b = draw(conditions(depth - 1)), draw(conditions(depth - 1))
    return draw(st.sampled_from([f"({a} && {b})", f"(({a}) && {b})", f"({a} || {b})", f"!({a})"]))


@st.composite
def statements(draw: st.DrawFn, depth: int, loops: int, plain: bool, jumps: tuple[str, ...] = ()) -> str:
    """Some statements, with these ways out of what is around; ``plain`` ones are those of a function that computes a value."""
    lines = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 8 if plain else 12))
        e, v = draw(expressions()), draw(st.sampled_from("abcd"))
        if kind <= 1:
            lines.append(f"{v} = {e};")
        elif kind == 2:
            changes = [f"{v} += {e};", f"{v}++;", f"--{v};", f"c = {v} = {e};", f"d = pcp->high = {e};"]
            lines.append(draw(st.sampled_from(changes)))
        elif kind == 3:
            lines.append(
                draw(st.sampled_from([f"pcp->high = {e};", f"WRITE_ONCE(pcp->batch, {e});", f"pcp->count += {e};"]))
            )
        elif kind <= 6 and depth:
            then = draw(statements(depth - 1, loops, plain, jumps))
            other = f" else {{ {draw(statements(depth - 1, loops, plain, jumps))} }}" if draw(st.booleans()) else ""
            lines.append(f"if ({draw(conditions())}) {{ {then} }}{other}")
        elif kind == 7:
            lines.append(f"if ({draw(conditions())}) return {e};")
        elif kind == 8 and depth:
            lines.append(draw(switches(depth - 1, loops, plain, jumps)))
        elif kind == 12 and depth and loops < 2:
            i = "ij"[loops]
            lines.append(f"for ({i} = 0; {i} < 2; {i}++) {{ {draw(statements(depth - 1, loops + 1, plain, _LOOP))} }}")
        elif kind == 9 and depth and loops < 2:
            i = "ij"[loops]
            body = draw(statements(depth - 1, loops + 1, plain, _LOOP))
            lines.append(f"{i} = 0; do {{ {body} }} while (++{i} < 2);")
        elif kind == 10 and jumps:
            lines.append(f"if ({draw(conditions())}) {draw(st.sampled_from(jumps))};")
        elif kind == 11:
            lines.append(f"if ({draw(conditions())}) goto {draw(st.sampled_from(['last', 'out']))};")
    return " ".join(lines) or ";"


@st.composite
def switches(draw: st.DrawFn, depth: int, loops: int, plain: bool, jumps: tuple[str, ...]) -> str:
    """A switch: some cases fall through, are left in the middle, or have several labels."""
    subject = draw(st.one_of(st.sampled_from("abcd"), expressions()))
    labels = draw(st.permutations(["case 0:", "case 1: ", "case 2:\n", "case (1 + 2):", "default:"]))
    # with a break in the middle and a continue it is refused
    own = ("break",) if not plain and draw(st.booleans()) else tuple(j for j in jumps if j == "continue")
    made = []
    for label in labels[: draw(st.integers(1, 5))]:
        body = draw(
            st.sampled_from(["", "{}", "{{ {} }}", "{} break;", "{} break;", "{{ {} break; }}", "{} fallthrough;"])
        )
        made.append(f"{label} {body.format(draw(statements(depth, loops, plain, own)))}")
    return f"switch ({subject}) {{ {' '.join(made)}; }}"


@st.composite
def functions(draw: st.DrawFn, number: int) -> str:
    plain = draw(st.booleans())
    first = draw(statements(2, 0, plain))
    labels = "" if plain else f"last:\n\tc = c + 1;\nout:\n\t{draw(statements(1, 0, True))}\n"
    declared = "int c = 0, d = 1;" if plain else "int c = 0, d = 1, i, j;"
    return (
        f"static int f{number}(struct per_cpu_pages *pcp, int a, int b)\n{{\n\t{declared}\n\n\t{first}\n{labels}"
        "\treturn c + d;\n}\n"
    )


@st.composite
def files(draw: st.DrawFn) -> list[str]:
    return [draw(functions(n)) for n in range(12)]


def as_compiled(folder: Path, texts: list[str]) -> list[str]:
    """What each function does with each input, as g++ makes it."""
    calls = "".join(
        f"  {{ per_cpu_pages p; p.count.value = {c}; p.high.value = {h}; p.batch.value = {b}; int r = f{n}(&p, {x}, {y});"
        f' std::printf("-> %d %d %d %d\\n", r, p.count.value, p.high.value, p.batch.value); }}\n'
        for n in range(len(texts)) for c, h, b, x, y in INPUTS
    )  # fmt: skip
    (folder / "f.cc").write_text(SHIM + "".join(texts) + f"int main() {{\n{calls}  return 0;\n}}\n")
    command = [str(COMPILER), "-O0", "-w", "-fpermissive", "f.cc", "-o", "f"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return subprocess.run([str(folder / "f")], check=True, capture_output=True, text=True).stdout.splitlines()


def as_read(folder: Path, texts: list[str]) -> list[str]:
    """The same by the translation; a store under a condition that does not hold is none."""
    reading = Reading(Tree(TreeSpec(str(make(folder, *texts)))), V6_0_WORDS)
    told = []
    for n in range(len(texts)):
        function = reading.function(f"f{n}", PAGE_ALLOC)
        assert function is not None
        method = reading.read(function.name, function)
        assert not reading.refused, reading.refused
        made = reading.translated[method]
        routine = compiled(made.python, made.lines, "f.c", NAMES)
        told += [run(routine, dict(zip(FIELDS, given[:3], strict=True)), given[3:]) for given in INPUTS]
    return told


class _Kernel:
    config = Config()


def run(routine: Any, memory: dict[str, int], arguments: tuple[int, ...]) -> str:
    """One run: the stores that change something, the result, and what is left in memory."""
    name_of = {Cell(f"pcp.{n}", (0, 0)): n for n in FIELDS}
    generator = routine(_Kernel(), Pcp(Zone(), 0), *arguments)
    stores, value = [], None

    def load(cell: Cell) -> int:
        return memory[name_of[cell]]

    for _ in range(1000):
        try:
            op: Op = bound_to(generator.send(value), 0)
        except StopIteration as stop:
            left = " ".join(str(memory[n]) for n in FIELDS)
            return f"{' '.join([*stores, '->'])} {int(stop.value)} {left}"
        choices: Mapping[str, int] = op.effect(None, {}).choices if op.effect else {}  # type: ignore[arg-type]
        returned = tuple(evaluate(t, load, {}, choices) for t in op.returns)
        for cell, term in op.updates:
            new = evaluate(term, load, {}, choices)
            stores.append(f"{name_of[cell]}={new}")
            memory[name_of[cell]] = new
        value = packed(op, returned)
    raise AssertionError("it never ends")


def without_idle(lines: list[str]) -> list[str]:
    """Without stores of the value that is there already: a conditional store that is not done leaves what was there."""
    told = []
    for line, (count, high, batch, *_) in zip(lines, INPUTS * (len(lines) // len(INPUTS)), strict=True):
        memory = {"count": count, "high": high, "batch": batch}
        kept = []
        for word in line.split():
            name, equals, new = word.partition("=")
            if equals:
                if memory[name] == int(new):
                    continue
                memory[name] = int(new)
            kept.append(word)
        told.append(" ".join(kept))
    return told


# a file is large: what is wrong with one of its functions is found faster than by making it smaller
@settings(max_examples=6, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(texts=files())
def test_a_function_does_what_a_compiler_makes_of_it(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("drawn")
    assert without_idle(as_read(folder, texts)) == without_idle(as_compiled(folder, texts)), "\n".join(texts)


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
    assert without_idle(as_read(tmp_path, KNOWN)) == without_idle(as_compiled(tmp_path, KNOWN))


@pytest.mark.parametrize("planted", ["choose", "less", "greater"])
def test_a_planted_mistranslation_is_found(planted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"choose": lambda *given: given[1], "less": lambda *given: given[1] <= given[2], "greater": min}[planted]
    monkeypatch.setattr(values, planted, wrong)
    texts = [*KNOWN, "static int f6(struct per_cpu_pages *pcp, int a, int b)\n{ return max(a, b);\n}\n"]
    assert without_idle(as_read(tmp_path, texts)) != without_idle(as_compiled(tmp_path, texts))


def test_a_fall_through_that_is_lost_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switches_module, "_ends", lambda _group: True)
    assert without_idle(as_read(tmp_path, KNOWN)) != without_idle(as_compiled(tmp_path, KNOWN))


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
