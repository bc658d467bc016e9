"""verify.explore's compiled inner loop: what it finds is what NumPy alone finds, and nothing needs it."""

from __future__ import annotations

import ctypes
import json
import os
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kernelmodel.kernels import KERNELS, kernel, mutant
from kernelmodel.versions.mutants import MUTANTS
from properties.catalogue import PROPERTIES
from verify.explore import library as c
from verify.explore import native, transactions
from verify.explore.__main__ import main
from verify.explore.arena import UNKNOWN, Arena
from verify.explore.blocks import Block, Packed
from verify.explore.decisions import Decisions
from verify.explore.finite import Finite
from verify.explore.mapped import Memory
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


#: how the compiled loop says how many cells at the ends of a grown set are filled last, and so few that little fills them
_HEAD, _SHORT = "#define HEAD (1 << 16)", "#define HEAD (1 << 10)"


def _clustered() -> list[np.ndarray]:
    """Fingerprints all over, and such as have few places among them, farther apart than what a set so short moves last."""
    all_over = np.unique(np.random.default_rng(3).integers(1, 1 << 63, 90_000, dtype=np.uint64))
    inverse = np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64))
    at_one_place = np.arange(1, 1601, dtype=np.uint64) * inverse
    at_the_end = (np.arange(1, 101, dtype=np.uint64) + np.uint64(2**64 - 102)) * inverse
    return [all_over, at_one_place, at_the_end, np.concatenate([at_one_place[:1100], all_over, at_the_end])]


def _changed(tmp_path, monkeypatch, *changes):
    """The compiled loop with something else in it, such as a planted bug."""
    source = c._SOURCE.read_text()
    for old, new in changes:
        assert source.count(old) == 1
        source = source.replace(old, new)
    (tmp_path / "native.c").write_text(source)
    monkeypatch.setattr(c, "_SOURCE", tmp_path / "native.c")
    c._compile(c.compiler(), tmp_path / "planted.so")
    return c._declared(ctypes.CDLL(str(tmp_path / "planted.so")))


@compiled
@pytest.mark.parametrize("moves", [True, False], ids=["", "copied"])
@pytest.mark.parametrize("prints", _clustered(), ids=["all over", "one place", "the end", "all of them"])
def test_a_set_that_grows_where_it_lies_loses_nothing(prints, moves, tmp_path, monkeypatch):
    if not moves:
        monkeypatch.setattr(Memory, "grow", lambda *_: False)
    found = PrintSet(_changed(tmp_path, monkeypatch, (_HEAD, _SHORT)))
    assert sum(found.add(part) for part in np.array_split(prints, 7)) == len(prints)
    assert found.add(prints) == 0 and np.count_nonzero(found._cells) == len(prints)


@compiled
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\tif (longest(set, before) >= HEAD / 2 - 1)\n\t\treturn 0;", ""),
        ("\tfor (int64_t i = 0; i < n; i++)\n\t\tinsert(set, rest[i]);", ""),
    ],
    ids=["far from their places", "the first ones"],
)
def test_one_that_forgets_some_as_it_grows_shows(old, new, tmp_path, monkeypatch):
    planted = _changed(tmp_path, monkeypatch, (_HEAD, _SHORT), (old, new))

    def lost(prints):
        found = PrintSet(planted)
        return sum(found.add(part) for part in np.array_split(prints, 7)) != len(prints) or found.add(prints) > 0

    assert any(lost(prints) for prints in _clustered())


def test_memory_that_grows_keeps_what_it_has_and_is_0_beyond():
    memory = Memory(1 << 14)
    memory.array(np.uint8)[:] = 7
    assert memory.grow(1 << 24)
    found = memory.array(np.uint8)
    assert len(found) == 1 << 24 and (found[: 1 << 14] == 7).all() and not found[1 << 14 :].any()
    # as long as there is an array of it, it stays
    assert not memory.grow(1 << 25) and len(found) == 1 << 24


def _block(rows):
    block = Block(len(rows), rows.shape[1], 2)
    block.rows[:], block.struct.n = rows, len(rows)
    block.hashes[:] = np.random.default_rng(5).integers(0, 1 << 63, block.hashes.shape, dtype=np.uint64)
    return block


def _comes_back(loaded, rows):
    block, back = _block(rows), Block(len(rows) + 3, rows.shape[1], 2)
    packed = Packed(loaded, block)
    packed.unpack(back)
    n = len(rows)
    same = (back.rows[:n] == rows).all() and (back.hashes[:n] == block.hashes).all()
    return back.states == n == packed.states and same, (packed._rows.nbytes + packed._hashes.nbytes) / (
        rows.nbytes + block.hashes.nbytes
    )


_EXTREMES = np.array([[-(1 << 15), 0, 7, -1], [(1 << 15) - 1, 0, 7, 1], [-1, 1, 7, 0]], np.int16)


def _rows():
    random = np.random.default_rng(4)
    widths = random.integers(0, 17, 90)
    wide = [random.integers(0, 1 << int(w), 500) - (1 << int(w) >> 1) for w in widths]
    return [np.array(wide, np.int16).T.copy(), _EXTREMES, _EXTREMES[:1], np.zeros((9, 40), np.int16)]


@compiled
@pytest.mark.parametrize("rows", _rows(), ids=["of all widths", "extremes", "one row", "all equal"])
def test_a_block_that_is_packed_comes_back(rows):
    same, _ = _comes_back(c.library(), rows)
    assert same


@compiled
def test_rows_that_differ_little_take_little():
    rows = np.random.default_rng(6).integers(0, 2, (1000, 64)).astype(np.int16)
    same, part = _comes_back(c.library(), rows)
    assert same and part < 0.2


@compiled
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("packed[part->word] >> part->shift & part->mask", "packed[part->word] >> part->shift & part->mask >> 1"),
        ("most[c] = row[c] > most[c] ? row[c] : most[c];", ""),
        ("memcpy(row, same, (size_t)width * sizeof(*row));", ""),
    ],
    ids=["a bit", "the range", "what does not differ"],
)
def test_a_block_that_is_packed_wrong_shows(old, new, tmp_path, monkeypatch):
    planted = _changed(tmp_path, monkeypatch, (old, new))
    assert not all(_comes_back(planted, rows)[0] for rows in _rows())


@compiled
@pytest.mark.parametrize("threads", [1, 3])
def test_a_search_whose_levels_are_packed_finds_the_same(threads, monkeypatch):
    transitions = transitions_of("v5.11", TWO_CPUS, "full")
    whole = NativeSearch(c.library(), 1, "", transitions, Limits(), 0).run(initial_rows(transitions.model, True))
    monkeypatch.setattr(native, "_ROOM", 128)
    monkeypatch.setattr(native, "_LOOSE", 0)
    unpacked = []
    monkeypatch.setattr(Packed, "unpack", lambda p, block, plain=Packed.unpack: unpacked.append(p) or plain(p, block))
    packed = NativeSearch(c.library(), threads, "", transitions, Limits(), 0).run(initial_rows(transitions.model, True))
    told = [(f.states, f.transitions, f.levels, f.widest, f.reached, f.violated, f.deadlocks) for f in (whole, packed)]
    assert told[0] == told[1] and unpacked


@compiled
def test_structures_have_the_size_that_the_loop_expects(tmp_path):
    """The fields of library.py are those of native.c: a program in C says how large its structures are."""
    names = ("table", "map", "program", "set", "block", "packing", "tally")
    lines = "".join(f'printf("%zu\\n", sizeof(struct {n}));' for n in names)
    (tmp_path / "size.c").write_text(f'#include <stdio.h>\n#include "{c._SOURCE}"\nint main(void) {{ {lines} }}\n')
    subprocess.run([*c.compiler(), "-o", str(tmp_path / "size"), str(tmp_path / "size.c")], check=True)
    said = subprocess.run([str(tmp_path / "size")], check=True, capture_output=True, text=True).stdout.split()
    ours = (c.TableC, c.MapC, c.ProgramC, c.SetC, c.BlockC, c.PackingC, c.TallyC)
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
@pytest.mark.parametrize("chosen", ["", "there-is-no-such-compiler"])
def test_a_compiler_that_is_a_package_will_do(fresh_library, monkeypatch, chosen):
    """It is asked for code for any such machine; $CC is not second-guessed."""
    theirs, package = c.compiler(), fresh_library / "site" / "ziglang"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import os, subprocess, sys\n"
        "assert sys.argv[1:3] == ['cc', '-mcpu=baseline'] and os.environ['ZIG_GLOBAL_CACHE_DIR'], sys.argv\n"
        f"subprocess.run([{theirs[0]!r}, *sys.argv[3:]], check=True, env={dict(os.environ)!r})\n"
    )
    monkeypatch.setenv("CC", chosen)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.syspath_prepend(package.parent)
    assert (c.library() is None) == bool(chosen)


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
