"""Whatever a user's file says, the engines read it as Python does, or refuse it in one line."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kernelmodel import V5_11, Config, Zone, ops
from kernelmodel.does import Does
from kernelmodel.errors import ModelError
from kernelmodel.graphs import automaton, continuation, folded, frames
from kernelmodel.graphs.automaton import extract
from kernelmodel.graphs.continuation import op_picture
from kernelmodel.graphs.folded import fold
from kernelmodel.graphs.frames import check_interpreter, frame_parts
from kernelmodel.kernels import kernel, variant
from kernelmodel.terms import const, deciding, lnot, minimum, reg
from kernelmodel.text import KernelText
from kernelmodel.variants import loading
from properties.catalogue import PROPERTIES
from verify.bmc.solve import Engine
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.prove import population
from verify.prove.engine import prove
from verify.prove.obligations import TOGETHER, Prover
from verify.scenario import Scenario
from verify.verdict import Result

STRAY = PROPERTIES["no_stray_page"]
SMALL = Scenario(cpus=2, frees=1, allocs=1, updates=0)
HEADER = """
from itertools import chain

from kernelmodel import V5_11, ops, page_ops
from kernelmodel.ops import read, read_once, write

LOG = []
ORDER = (0, 1)


class Mine(V5_11):
"""


def write_variant(folder: Path, body: str) -> Path:
    file = folder / "mine.py"
    file.write_text(HEADER + textwrap.indent(textwrap.dedent(body), "    "))
    return file


def refill(body: str) -> str:
    """An override of rmqueue_bulk() that changes ``count`` first."""
    return (
        "def rmqueue_bulk(self, zone, count, cpu, migratetype):\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
        + "    return (yield page_ops.refill(self.config, zone, cpu, migratetype, count))\n"
    )


def disable(body: str) -> str:
    """An override of zone_pcp_disable() with something of its own after the lists have been drained."""
    return (
        "def zone_pcp_disable(self, zone):\n"
        '    yield from self.mutex_lock("pcp_batch_high_lock")\n'
        "    yield from self.set_pageset_high_and_batch(zone, 0, 1)\n"
        "    yield from self._drain_all_pages(zone, True)\n" + textwrap.indent(textwrap.dedent(body), "    ")
    )


OPEN = "yield from self.set_pageset_high_and_batch(zone, 5, 4)\n"
#: name -> a broken kernel that was read as one that holds
MISREAD = {
    "two operations at one place": refill("if count > 1:\n    count = count + 0\nelse:\n    count = 1 + count\n"),
    "a value on the evaluation stack": disable(
        "high = 0\n"
        'if (yield ops.environment("late", "the administrator is quick")):\n'
        "    high = 5\n"
        'yield from self.set_pageset_high_and_batch(zone, high, (yield read("pcp.batch", zone.index, 0)))\n'
    ),
    "a loop over equal values": disable(f'for x in (zone, zone):\n    yield ops.happens("a look")\n{OPEN}'),
    "a loop over a generator expression": disable(
        f'for x in (zone for _ in "ab"):\n    yield ops.happens("a look")\n{OPEN}'
    ),
    "a loop over zip": disable(f'for x, _ in zip((zone, zone), (1, 1)):\n    yield ops.happens("a look")\n{OPEN}'),
    "a loop over enumerate": disable(
        f'for _, x in enumerate((zone, zone)):\n    _ = 0\n    yield ops.happens("a look")\n{OPEN}'
    ),
    "a loop over reversed": disable(f'for x in reversed((zone, zone)):\n    yield ops.happens("a look")\n{OPEN}'),
    "a loop over chain": disable(f'for x in chain((zone,), (zone,)):\n    yield ops.happens("a look")\n{OPEN}'),
    "a while with a counter": disable(f'n = 0\nwhile n < 2:\n    n += 1\n    yield ops.happens("a look")\n{OPEN}'),
    "which of two lambdas": disable(
        # the branch that is walked first is the one that is right
        "limit = lambda: 5\n"
        'if (yield ops.environment("late", "the administrator is quick")):\n'
        "    limit = lambda: 0\n"
        'yield ops.happens("a pause")\n'
        "yield from self.set_pageset_high_and_batch(zone, limit(), 1)\n"
    ),
    "what a list holds": disable(
        "kept = []\n"
        'if (yield ops.environment("late", "the administrator is quick")):\n'
        "    kept.append(5)\n"
        'yield ops.happens("a pause")\n'
        "yield from self.set_pageset_high_and_batch(zone, len(kept) * 5, 4)\n"
    ),
    "what a try remembers": disable(
        "high = 0\n"
        "try:\n"
        '    if (yield ops.environment("late", "the administrator is quick")):\n'
        "        high = 5\n"
        '    yield ops.happens("a pause")\n'
        "finally:\n"
        "    yield from self.set_pageset_high_and_batch(zone, high, 4)\n"
    ),
}
#: name -> (a text that no engine can be trusted with, what the refusal says)
REFUSED = {
    "an attribute of self": (disable("self.late = 1\n"), "self.late is written"),
    "an item of an attribute": (disable("self.table[0] = 1\n"), "self.table[0] is written"),
    "a global list": (disable("LOG.append(1)\nyield ops.happens('a pause')\n"), "LOG, used by"),
    "a global": (disable("global ORDER\nORDER = 1\n"), "a global is written"),
    "a class attribute": ("seen = []\n" + disable("self.seen.append(1)\n"), "Mine.seen, is a list"),
    "a mutable default": (
        "def zone_pcp_disable(self, zone, seen=[]):\n    seen.append(1)\n    yield ops.happens('x')\n", "a default of"
    ),
    "setattr": (disable("setattr(self, 'x', 1)\n"), "setattr() is used"),
    "the type of a value": (refill("if isinstance(count, int):\n    count = 2\n"), "isinstance() is used"),
    "the identity of a value": (refill("if count is 1:\n    count = 2\n"), "asks for identity"),
    "a concrete half": (
        disable("yield ops.Op('x', effect=lambda state, _: None)\n"), "effect= gives an operation a concrete half"
    ),
    "what is private": (disable("yield ops._read(1)\n"), "ops._read is private"),
    "a class pattern": (refill("match count:\n    case int():\n        count = 2\n"), "a class pattern"),
    "an exception handler": (refill("try:\n    count = count // 1\nexcept TypeError:\n    count = 2\n"), "is caught"),
    "a finally block with a jump": (refill("try:\n    pass\nfinally:\n    return 0\n"), "left by a jump"),
    "a with statement": (refill("with self.config:\n    pass\n"), "a with statement"),
    "a class in a routine": (refill("class X:\n    pass\n"), "class X is made anew"),
    "an import of its own": (refill("import random\n"), "random is imported"),
    "a frame": (refill("x = self.rmqueue_bulk.gi_frame\n"), "reaches into a frame"),
    "a dunder attribute": (refill("self.__dict__.clear()\n"), ".__dict__ reaches"),
    "a dunder method": ("def __getattr__(self, name):\n    return 0\n", "is called by Python unseen"),
}  # fmt: skip
#: name -> a text that is refused when it is run with a term
REFUSED_LATER = {
    "a look-up in a set": (refill("if count in {1, 2}:\n    count = 2\n"), "looked up in a set or dict"),
    "a look-up in a dict": (refill("count = {1: 2}.get(count, 1)\n"), "looked up in a set or dict"),
    "the text of a value": (refill('if f"{count}" == "1":\n    count = 2\n'), "made into text"),
    "a division": (refill("count = count // 2\n"), "unsupported operand"),
    "a comparison with text": (refill('if count == "1":\n    count = 2\n'), "no number"),
    "an object that cannot be compared": (
        disable("x = bytearray(1)\nyield ops.happens('x')\nx.append(1)\n"),
        "bytearray",
    ),
}


def load(folder: Path, body: str) -> type[KernelText]:
    return variant(str(write_variant(folder, body)))


def telling(names: Iterable[str], *among: str) -> list[Any]:
    """Parameters of which all but some are left to `make deep`."""
    return [n if n in among else pytest.param(n, marks=pytest.mark.deep) for n in names]


@pytest.mark.parametrize(
    "name",
    telling(MISREAD, "two operations at one place", "a value on the evaluation stack", "a loop over zip", "what a list holds"),
)  # fmt: skip
def test_a_broken_kernel_that_was_misread_is_violated_in_bmc(tmp_path: Path, name: str) -> None:
    found = Engine(load(tmp_path, MISREAD[name]), SMALL).decide(STRAY)
    assert (found.result, found.replayed) == (Result.VIOLATED, True)


@pytest.mark.parametrize("name", MISREAD)
def test_a_broken_kernel_that_was_misread_is_violated_in_explore(tmp_path: Path, name: str) -> None:
    made = load(tmp_path, MISREAD[name])
    # but for a refill that takes too much, a page that is freed is enough
    few = Finite(SMALL, 3) if name == "two operations at one place" else Finite(replace(SMALL, allocs=0), 1)
    (searched,) = Explorer(made, few).decide([STRAY], deadlock=False)
    assert (searched.result, searched.replayed) == (Result.VIOLATED, True)


@pytest.mark.parametrize(
    "name",
    telling(["two operations at one place", "a loop over zip", "which of two lambdas"]),
)
def test_a_broken_kernel_that_was_misread_is_not_proved(tmp_path: Path, name: str) -> None:
    proof = prove(Prover(load(tmp_path, MISREAD[name]), [STRAY]), TOGETHER)
    assert not proof.proves(STRAY.name)


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_engine_could_misread_is_refused_with_file_and_line(tmp_path: Path, name: str) -> None:
    body, says = REFUSED[name]
    with pytest.raises(ModelError) as refusal:
        load(tmp_path, body)
    assert says in str(refusal.value) and str(tmp_path / "mine.py") in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", REFUSED_LATER)
def test_what_would_get_another_answer_for_a_term_is_refused(tmp_path: Path, name: str) -> None:
    body, says = REFUSED_LATER[name]
    made = load(tmp_path, body)
    for engine in (lambda: Engine(made, SMALL).decide(STRAY), lambda: Explorer(made, Finite(SMALL, 3)).decide([STRAY])):
        with pytest.raises(ModelError, match=says):
            engine()


HARMLESS = refill(
    "steps = [1, 2]\n"
    "steps[0] = 3\n"
    "for i, x in enumerate(steps):\n"
    "    if count > x and not i:\n"
    "        count = min(count, 2)\n"
    "chosen = (lambda n: n)\n"
    "count = chosen(count)\n"
    "if ORDER[0] is not None and count in (7, 8):\n"
    "    count = 7\n"
)


def test_a_harmless_text_of_the_same_kind_is_read(tmp_path: Path) -> None:
    made = load(tmp_path, HARMLESS)
    assert Engine(made, SMALL).decide(STRAY).result is Result.HOLDS
    (searched,) = Explorer(made, Finite(SMALL, 3)).decide([STRAY], deadlock=False)
    assert searched.result is Result.HOLDS


# --- twins: each misreading comes back when its mend is taken out ---


def _key_without_conditions(op: Any) -> Any:
    return (op.text, op.tag, tuple((c, t.key) for c, t in op.updates))


def _without_stack(generator: Any) -> Any:
    names, _ = frame_parts(generator)
    return names, ()


TWINS = {
    "two operations at one place": [(automaton, "op_picture", _key_without_conditions)],
    "a value on the evaluation stack": [(continuation, "frame_parts", _without_stack)],
    "a loop over equal values": [(continuation, "frame_parts", _without_stack)],
    "a loop over zip": [(continuation, "frame_parts", _without_stack)],
    "which of two lambdas": [(continuation._Picture, "_function", lambda _, f: f.__qualname__)],
}


@pytest.mark.parametrize("name", telling(TWINS, "two operations at one place", "a loop over equal values"))
def test_without_the_mend_the_broken_kernel_is_read_as_one_that_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for where, attribute, broken in TWINS[name]:
        monkeypatch.setattr(where, attribute, broken)
    made = load(tmp_path, MISREAD[name])
    for module in (automaton, folded):
        monkeypatch.setattr(module, "from_a_file", lambda _: False)
    assert Engine(made, SMALL).decide(STRAY).result is not Result.VIOLATED


# --- what survives from one path to the next is found by running the text twice ---


class Remembers(V5_11):
    """Keeps in an attribute what it should keep in a local: no file, so nobody has read its text."""

    def zone_pcp_disable(self, zone: Zone) -> Any:
        """mm/page_alloc.c: zone_pcp_disable()."""
        yield from self.mutex_lock("pcp_batch_high_lock")
        if (yield ops.environment("late", "the administrator is quick")):
            self.__dict__["late"] = True
        yield ops.happens("a pause")
        high = 5 if self.__dict__.get("late") else 0
        yield from self.set_pageset_high_and_batch(zone, high, 1)


CALLS: list[int] = []


class Counts(V5_11):
    """Keeps in a global how often it was called."""

    def zone_pcp_disable(self, zone: Zone) -> Any:
        """mm/page_alloc.c: zone_pcp_disable()."""
        yield from self.mutex_lock("pcp_batch_high_lock")
        if (yield ops.environment("late", "the administrator is quick")):
            CALLS.append(5)
        yield ops.happens("a pause")
        yield from self.set_pageset_high_and_batch(zone, len(CALLS), 1)


@pytest.mark.parametrize(("made", "says"), [(Remembers, "attribute late"), (Counts, "does not run the same way twice")])
def test_what_outlives_a_path_is_told_by_running_the_text_again(made: type[V5_11], says: str) -> None:
    text = made(Config())
    with pytest.raises(ModelError, match=says):
        extract(made, lambda: text.zone_pcp_disable(Zone(0)), 0)
    again = made(Config())
    with pytest.raises(ModelError, match=says):
        fold(again, lambda: again.zone_pcp_disable(Zone(0)), [0, 1], {})


@pytest.mark.parametrize("made", [Remembers, Counts])
def test_without_that_it_would_be_read_wrongly(monkeypatch: pytest.MonkeyPatch, made: type[V5_11]) -> None:
    for module in (automaton, folded, continuation):
        monkeypatch.setattr(module, "from_a_file", lambda _: False)
    text = made(Config())
    extract(made, lambda: text.zone_pcp_disable(Zone(0)), 0)
    fold(text, lambda: text.zone_pcp_disable(Zone(0)), [0, 1], {})


# --- the pieces ---


def test_this_python_is_one_whose_frames_can_be_read() -> None:
    check_interpreter()


def test_another_python_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    frames._prefix.cache_clear()
    monkeypatch.setattr(frames, "gc", SimpleNamespace(get_referents=lambda _: []))
    with pytest.raises(ModelError, match=r"use CPython 3\.11"):
        check_interpreter()
    monkeypatch.undo()
    check_interpreter()


def nested(limit: int) -> Iterator[Any]:
    def inner(x: int) -> Iterator[Any]:
        yield (x, (yield "inner"))

    for i in range(limit):
        yield from inner(i)


def test_equal_places_have_equal_pictures_and_others_have_not() -> None:
    def at(steps: int, limit: int = 3) -> Any:
        generator = nested(limit)
        for _ in range(steps):
            next(generator)
        return continuation.continuation(generator)

    assert at(1) == at(1)
    assert len({at(n) for n in range(1, 6)}) == 5
    assert at(1) != at(1, 4)
    assert at(1).positions == at(3).positions


def looked_at_in_passing(routine: Iterator[Any]) -> tuple[bool, int]:
    """Whether a routine's pictures are those of a fresh look when what waits is not looked at again; how often it was not."""
    waiting: continuation.Waiting = {}
    same, spared = True, 0
    for _ in routine:
        before = dict(waiting)
        known = continuation.continuation(routine, waiting)
        spared += sum(waiting.get(k) is w for k, w in before.items() if w.generator.gi_yieldfrom is w.inner)
        same = same and known == continuation.continuation(routine)
    return same, spared


@pytest.mark.parametrize("name", ["v5.11", "v6.11"])
def test_what_waits_need_not_be_looked_at_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def both(generator: Any, waiting: continuation.Waiting) -> Any:
        known, fresh = whole(generator, waiting), whole(generator)
        looks.append(bool(waiting))
        assert known == fresh
        return known

    whole = continuation.continuation
    monkeypatch.setattr(folded, "continuation", both)
    chosen = kernel(name)
    for kind in population.kinds(chosen, population.Size().of(chosen)):
        population._graph(chosen(population.Size().of(chosen).config), kind)
    assert sum(looks) > 200


def shares_a_list() -> Iterator[Any]:
    def inner(found: list[int]) -> Iterator[Any]:
        for n in range(3):
            found.append(n)
            yield n

    found: list[int] = []
    yield from inner(found)
    yield len(found)


def closes_over_what_another_assigns() -> Iterator[Any]:
    def inner() -> Iterator[Any]:
        nonlocal last
        for n in range(3):
            last = n
            yield n

    last = 7
    yield from inner()
    yield last


@pytest.mark.parametrize("routine", [shares_a_list, closes_over_what_another_assigns])
def test_who_waits_and_holds_what_another_changes_is_looked_at_again(
    routine: Callable[[], Iterator[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looked_at_in_passing(nested(3)) == (True, 0)
    assert looked_at_in_passing(routine()) == (True, 0)
    once = continuation._Picture._once

    def unnoticed(self: Any, value: Any, picture: Any) -> Any:
        before = self.meetings
        found = once(self, value, picture)
        self.meetings = before
        return found

    monkeypatch.setattr(continuation._Picture, "_once", unnoticed)
    same, spared = looked_at_in_passing(routine())
    assert not same and spared


def test_two_names_for_one_list_are_not_two_equal_lists() -> None:
    def text(shared: bool) -> Iterator[str]:
        one: list[int] = []
        two = one if shared else []
        yield "here"
        one.append(1)
        yield str(two)

    def picture(shared: bool) -> Any:
        generator = text(shared)
        next(generator)
        return continuation.continuation(generator).held[3][:2]  # type: ignore[index]

    assert picture(True) == picture(True) != picture(False)


def test_a_picture_of_an_operation_has_all_of_it() -> None:
    plain = ops.read("pcp.batch", 0, 0)
    fields = {"guard": const(False), "where": reg("x", "bool"), "counted": reg("x", "bool"), "returns": (), "external": True,
              "text": "other", "tag": "other", "does": Does(hangs=True), "must": "never",
              "info": {"cpu": 1}, "choices": (reg("x"),),
              "counted_returns": (const(1),), "shown": (const(1),), "kind": ops.Kind.RMW,
              "updates": ((ops.Cell("pcp.batch", (0, 0)), const(1)),), "pack": lambda values, _: values}  # fmt: skip
    from dataclasses import fields as fields_of

    assert {f.name for f in fields_of(plain)} == {*fields, "effect", "told"}
    for name, other in fields.items():
        assert op_picture(replace(plain, **{name: other})) != op_picture(plain), name


def test_a_number_in_the_place_of_a_truth_value_is_what_it_is_in_c() -> None:
    n, flag = reg("n"), reg("b", "bool")
    asked = []
    with deciding(lambda t: asked.append(t.key) or True):
        assert n
    assert asked == [lnot(n == 0).key]
    assert (n + flag).sort == "int" and (n == flag).sort == "bool" and minimum(flag, n).sort == "int"


def test_kernels_checks_the_source_before_it_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = disable("self.late = 1\n")
    monkeypatch.setattr(loading, "check_source", lambda *_: None)
    assert issubclass(load(tmp_path, body), V5_11)
