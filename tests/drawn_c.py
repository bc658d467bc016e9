"""Drawn C functions in the kernel's style over the fields of struct per_cpu_pages, and a shim to compile them against.

g++ and not gcc, for a field that knows who reads and writes it is a class with operators there.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from hypothesis import strategies as st

COMPILER = shutil.which("g++")
FIELDS = ("count", "high", "batch")

SHIM = """
#include <cstdio>
#include <string>
#include <set>
static std::string told;
static bool held;
static void event();          /* before each access: others may do something here */
struct Field {
  int value; const char *name;
  operator int() const { event(); return value; }
  int operator=(const Field &other) { int v = other; return *this = v; }
  int operator=(int v) {
    event();
    if (value != v) told += std::string(name) + "=" + std::to_string(v) + " ";
    return value = v;
  }
  /* one step, as in the model: only for fields that nobody else writes at the time */
  int operator+=(int v) {
    event();
    if (v) told += std::string(name) + "=" + std::to_string(value + v) + " ";
    return value += v;
  }
};
struct Lock {};
struct per_cpu_pages { Field count{0, "count"}, high{0, "high"}, batch{0, "batch"}; Lock lock; };
static void spin_lock(Lock *) { event(); held = true; told += "lock "; }
static void spin_unlock(Lock *) { event(); held = false; told += "unlock "; }
#define READ_ONCE(x) (x)
#define WRITE_ONCE(x, v) ((x) = (v))
/* as in the kernel, each argument once, and in their order */
#define min(a, b) ({ int x_ = (a); int y_ = (b); x_ < y_ ? x_ : y_; })
#define max(a, b) ({ int x_ = (a); int y_ = (b); x_ > y_ ? x_ : y_; })
#define clamp(v, lo, hi) ({ int v_ = (v); int l_ = (lo); int h_ = (hi); v_ < l_ ? l_ : v_ > h_ ? h_ : v_; })
#define likely(x) (x)
#define unlikely(x) (x)
#define fallthrough do {} while (0)
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
def changes(draw: st.DrawFn) -> str:
    """A statement that stores to a local variable or to a field."""
    e, v = draw(expressions()), draw(st.sampled_from("abcd"))
    local = [f"{v} += {e};", f"{v}++;", f"--{v};", f"c = {v} = {e};", f"d = pcp->high = {e};"]
    shared = [f"pcp->high = {e};", f"WRITE_ONCE(pcp->batch, {e});", f"pcp->count += {e};"]
    return draw(st.sampled_from([*local, *shared]))


@st.composite
def statements(draw: st.DrawFn, depth: int, loops: int, plain: bool, jumps: tuple[str, ...] = ()) -> str:
    """Some statements, with these ways out of what is around; ``plain`` ones are those of a function that computes a value."""
    lines = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 8 if plain else 13))
        e, v = draw(expressions()), draw(st.sampled_from("abcd"))
        if kind <= 1:
            lines.append(f"{v} = {e};")
        elif kind <= 3:
            lines.append(draw(changes()))
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
        elif kind == 13 and not loops:
            inside = " ".join(draw(st.lists(changes(), min_size=1, max_size=3)))
            lines.append(f"spin_lock(&pcp->lock); {inside} spin_unlock(&pcp->lock);")
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
def files(draw: st.DrawFn, size: int) -> list[str]:
    """The functions f0, f1, … of one file."""
    return [draw(functions(n)) for n in range(size)]


def run_compiled(folder: Path, text: str) -> list[str]:
    """The lines that a program prints."""
    (folder / "f.cc").write_text(text)
    command = [str(COMPILER), "-O0", "-w", "-fpermissive", "f.cc", "-o", "f"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[:2000]
    return subprocess.run([str(folder / "f")], check=True, capture_output=True, text=True).stdout.splitlines()
