"""verify.explore's compiled inner loop: what it finds is what NumPy alone finds, and nothing needs it."""

from __future__ import annotations

import ctypes
import json
import random
import subprocess
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from kernelmodel.kernels import KERNELS, kernel, mutant
from kernelmodel.versions.mutants import MUTANTS
from properties.catalogue import PROPERTIES
from verify.explore import library as c
from verify.explore import native, transactions
from verify.explore.__main__ import main
from verify.explore.arena import UNKNOWN, Arena
from verify.explore.decisions import Decisions
from verify.explore.finite import Finite
from verify.explore.model import Model
from verify.explore.native import NativeSearch, PrintSet, search_by
from verify.explore.search import Limits, Search, initial_rows
from verify.explore.solve import Explorer
from verify.explore.symmetry import Symmetric
from verify.explore.table import Table, Transitions
from verify.scenario import Scenario

compiled = pytest.mark.skipif(c.library() is None, reason="no C compiler: verify.explore searches with NumPy alone")

ONE_CPU = Finite(Scenario(cpus=1, frees=1, allocs=1, updates=0), 2)
TWO_CPUS = Finite(Scenario(cpus=2, frees=1, allocs=1, updates=1), 3)


def transitions_of(name, finite, reduce):
    kern = kernel(name) if name in KERNELS else mutant(name)
    explorer = Explorer(kern, finite, reduce)
    properties = [p for p in PROPERTIES.values() if not explorer.why_not(p)]
    return explorer._transitions(finite, properties, ())[0]


def found_by(how, transitions, threads=2):
    search = search_by(how, threads, transitions, Limits(), 0)
    found = search.run(initial_rows(transitions.model, isinstance(transitions, Symmetric)))
    assert found.loop == {"auto": "C", "none": "NumPy"}[how]
    return (
        found.states, found.transitions, found.levels, found.violated, found.reached, found.deadlocks,
        found.widest, found.stopped,
    )  # fmt: skip


CASES = [
    *(("full", TWO_CPUS, n) for n in ("v5.11", "isolate-before-disable")),
    *(("movers", ONE_CPU, n) for n in ("v5.11", "no-flush")),
    *(("none", ONE_CPU, n) for n in ("v5.11",)),
]
MORE = [
    (reduce, finite, name)
    for reduce, finite in (("full", TWO_CPUS), ("movers", TWO_CPUS), ("none", ONE_CPU))
    for name in [*KERNELS, *MUTANTS]
    if (reduce, finite, name) not in CASES
]


@compiled
@pytest.mark.parametrize(
    ("reduce", "finite", "name"), [*CASES, *(pytest.param(*m, marks=pytest.mark.deep) for m in MORE)]
)
def test_both_loops_find_the_same(reduce, finite, name):
    assert found_by("auto", transitions_of(name, finite, reduce)) == found_by(
        "none", transitions_of(name, finite, reduce)
    )


@compiled
@pytest.mark.parametrize("reduce", ["full", "movers"])
def test_threads_that_miss_the_same_find_it_once(reduce, monkeypatch):
    """Blocks of few states, so that two threads have one each on all but the first levels."""
    whole = found_by("none", transitions_of("v5.11", TWO_CPUS if reduce == "full" else ONE_CPU, reduce))
    monkeypatch.setattr(native, "_ROOM", 256)
    known = []
    monkeypatch.setattr(
        Arena, "knows", lambda self, root, v, whole=Arena.knows: known.append(whole(self, root, v)) or known[-1]
    )
    assert found_by("auto", transitions_of("v5.11", TWO_CPUS if reduce == "full" else ONE_CPU, reduce)) == whole
    assert reduce == "movers" or (any(known) and not all(known))


@compiled
@pytest.mark.parametrize("reduce", ["movers", "none"])
def test_what_follows_depends_on_the_key_alone(reduce, monkeypatch):
    """Where pages are told apart, one outcome stands for all rows with the same key."""
    whole, different = Table.decide, []

    def decide(self, v):
        key = [0] * len(v)
        for address in self.addresses:
            key[address] = v[address]
        found = whole(self, v)
        different.extend([self.node.op.text] * (found != whole(self, key)))
        return found

    monkeypatch.setattr(Table, "decide", decide)
    found_by("auto", transitions_of("v5.11", ONE_CPU, reduce))
    assert not different
    columns = Transitions.columns_of
    monkeypatch.setattr(Transitions, "columns_of", lambda self, cells: columns(self, cells) - set(self.model.block))
    found_by("auto", transitions_of("v5.11", ONE_CPU, reduce))
    assert different


def test_a_tree_answers_as_its_decisions_do():
    """Questions follow from the answers before them; what was not decided is not known, and nothing is decided twice."""
    arena = Arena(transitions_of("v5.11", ONE_CPU, "full"))
    dice = random.Random(1)

    def looked(v):
        return [0, *([1, 2] if v[0] else [3]), *([4] if v[2 if v[0] else 3] == 1 else [])]

    kept, decided, root = Decisions(), {}, UNKNOWN
    for i in range(300):
        v = [dice.randrange(3) for _ in range(5)]
        assert arena.knows(root, v) == (kept.find(v) is not None)
        if not arena.knows(root, v):
            root = arena.learn(root, v, looked(v), i)
            kept.learn(v, looked(v), [i])
            decided[tuple(v)] = i
        assert arena.knows(root, v)
    assert len(decided) > 20
    for again in ([*looked(v), 4], looked(v)[:-1], looked(v)):
        with pytest.raises(AssertionError):
            arena.learn(root, v, again, 0)


@compiled
def test_a_state_that_the_loop_loses_shows():
    """The comparison above fails where it should: one fingerprint that is in the set already hides a state."""
    transitions = transitions_of("v5.11", ONE_CPU, "full")
    level = Search(transitions, Limits(), 0)
    level.run(initial_rows(transitions.model, True))
    whole = level.found.states
    search = NativeSearch(c.library(), 1, "", transitions, Limits(), 0)
    last = max(level._seen.runs, key=len)[-1:]
    search._prints.add(last)
    found = search.run(initial_rows(transitions.model, True))
    assert found.states < whole


@compiled
def test_the_set_of_fingerprints_is_a_set():
    prints = np.random.default_rng(1).integers(0, 5000, 20000, dtype=np.uint64)
    found = PrintSet(c.library())
    assert sum(found.add(part) for part in np.split(prints, 40)) == len(set(prints.tolist()) - {0})
    assert found.add(np.array([0, 1], np.uint64)) == 0  # 0 stands for an empty cell and is taken for 1
    big = np.unique(np.random.default_rng(2).integers(1 << 20, 1 << 63, 50000, dtype=np.uint64))
    assert found.add(big) == len(big)
    assert found.add(big) == 0


@compiled
def test_threads_that_copy_the_set_lose_nothing(monkeypatch):
    prints = np.unique(np.random.default_rng(3).integers(1, 1 << 63, 700_000, dtype=np.uint64))
    found = PrintSet(c.library(), 3)
    assert sum(found.add(part) for part in np.array_split(prints, 7)) == len(prints)
    assert found.add(prints) == 0
    # the same with a thread that does nothing
    monkeypatch.setattr("verify.explore.blocks.threading.Thread", lambda args, **_: Thread(target=len, args=args))
    lost = PrintSet(c.library(), 3)
    for part in np.array_split(prints, 7):
        lost.add(part)
    assert lost.add(prints) > 0


@compiled
def test_structures_have_the_size_that_the_loop_expects(tmp_path):
    """The fields of library.py are those of native.c: a program in C says how large its structures are."""
    names = ("table", "map", "program", "set", "block", "tally")
    lines = "".join(f'printf("%zu\\n", sizeof(struct {n}));' for n in names)
    (tmp_path / "size.c").write_text(f'#include <stdio.h>\n#include "{c._SOURCE}"\nint main(void) {{ {lines} }}\n')
    subprocess.run([c.compiler(), "-o", str(tmp_path / "size"), str(tmp_path / "size.c")], check=True)
    said = subprocess.run([str(tmp_path / "size")], check=True, capture_output=True, text=True).stdout.split()
    ours = (c.TableC, c.MapC, c.ProgramC, c.SetC, c.BlockC, c.TallyC)
    assert [int(x) for x in said] == [ctypes.sizeof(s) for s in ours]


@pytest.fixture
def fresh_library(monkeypatch, tmp_path):
    """Nothing is compiled yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    c.library.cache_clear()
    yield tmp_path
    c.library.cache_clear()


@pytest.mark.parametrize("cc", ["false", "there-is-no-such-compiler"])
def test_without_a_compiler_numpy_does_it(fresh_library, monkeypatch, capfd, cc):
    monkeypatch.setenv("CC", cc)
    monkeypatch.setenv("PATH", "/nowhere" if cc != "false" else "/usr/bin:/bin")
    assert c.library() is None
    assert main(["--cpus", "1", "--allocs", "0", "--updates", "0", "--property", "no_stray_page"]) == 0
    out, err = capfd.readouterr()
    assert "holds" in out and err == ""


@compiled
def test_what_somebody_else_may_have_compiled_is_not_loaded(fresh_library, monkeypatch):
    assert c.library() is not None
    assert len(list((fresh_library / "cache" / "straypage").glob("native-*.so"))) == 1
    c.library.cache_clear()
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert c.library() is None


@compiled
def test_the_command_says_which_loop_it_used(tmp_path):
    asked = ["--cpus", "1", "--allocs", "0", "--updates", "0", "--property", "no_stray_page", "--json"]
    for how, loop in (("auto", "C"), ("none", "NumPy")):
        target = Path(tmp_path / how)
        assert main([*asked, str(target), "--compiler", how]) == 0
        assert json.loads(target.read_text())["verdicts"][0]["statistics"]["inner_loop"] == loop


class Backwards(Search):
    """The same search with the tables in the other order: of equal states it keeps others."""

    def _may_act(self, rows):
        return reversed(list(super()._may_act(rows)))


@pytest.mark.parametrize("by_slot", [False, True])
def test_equal_states_have_equal_futures(by_slot):
    """The number of states does not depend on which of equal states is kept; it does if registers are told by slot."""
    finite = Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0), 1)
    model = Model(kernel("v5.11"), finite, [PROPERTIES["offline_progress"]], any_order=True)
    counts = []
    for search in (Search, Backwards):
        transitions = Symmetric(model)
        transitions.observed = None
        for task in model.tasks if by_slot else ():
            roles = transitions.roles.get(task.number)
            for known in roles.registers if roles else ():
                known.sort(key=task.slots.__getitem__)
        counts.append(search(transitions, Limits(), 0).run(initial_rows(model, True)).states)
    assert (counts[0] == counts[1]) is not by_slot


@pytest.mark.parametrize("how", [pytest.param("auto", marks=compiled), "none"])
def test_ways_to_one_end_are_one_transition(how, monkeypatch):
    """Where each way counts there are more transitions, and nothing else is found."""
    once = found_by(how, transitions_of("v5.11", TWO_CPUS, "full"))
    monkeypatch.setattr(transactions, "_different", lambda ends: ends)
    each = found_by(how, transitions_of("v5.11", TWO_CPUS, "full"))
    assert each[0] == once[0] and each[2:] == once[2:]
    assert each[1] > once[1]
