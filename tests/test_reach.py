"""What a routine can come to: all that it asks the kernel for, and two kernels that have that in common have one graph of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kernelmodel import ops
from kernelmodel.graphs import reach as module
from kernelmodel.graphs import remembered as keeping
from kernelmodel.graphs.digest import said
from kernelmodel.graphs.folded_graph import op_key
from kernelmodel.graphs.reach import Reach, functions_in, reach
from kernelmodel.kernels import KERNELS, kernel, mutant
from kernelmodel.tasks import TASKS, kinds_of
from kernelmodel.text import KernelText
from kernelmodel.versions.mutants import MUTANTS
from kernelmodel.versions.v5_11 import V5_11
from verify.prove import population
from verify.prove.population import Size, kinds


def same(one: Reach, other: Reach) -> bool:
    return list(map(id, one.parts())) == list(map(id, other.parts()))


def graph_of(kind: type[KernelText], task: population.Kind) -> object:
    """The graph of a task, made anew, as something that can be compared."""
    text = kind(Size().of(kind).config)
    graph = population._graph(text, task, twice=False)
    return [
        [(n.number, op_key(n.op), n.op.text, n.stack, n.cpu, n.irqs_off) for n in graph.nodes], graph.locations,
        [[([c.key for c in cs], to) for cs, to in edges] for edges in (graph.entry, *(n.edges for n in graph.nodes))],
    ]  # fmt: skip


def asked_by(kind: type[KernelText], monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """What each task's routine asks the kernel for while its graph is made, by the task's name."""
    names: set[str] = set()

    def asked(self: KernelText, name: str) -> object:
        names.add(name)
        return object.__getattribute__(self, name)

    found = {}
    with monkeypatch.context() as patched:
        patched.setattr(KernelText, "__getattribute__", asked, raising=False)
        for task in kinds(kind, Size().of(kind)):
            text = kind(Size().of(kind).config)
            names.clear()
            population._graph(text, task, twice=False)
            found.setdefault(task.task, set()).update(n for n in names if hasattr(kind, n))
    return found


@pytest.mark.parametrize("name", KERNELS)
def test_a_routine_asks_for_nothing_else(name, monkeypatch):
    kind = kernel(name)
    for task, names in asked_by(kind, monkeypatch).items():
        found = reach(kind, kinds_of(kind)[task].make)
        assert found.is_ours
        # what an object has from Python itself, such as its class, is no text's
        assert {n for n in names if not hasattr(object, n)} <= found.attributes.keys() | {"__dict__"}, task
        assert len(found.attributes) < len(dir(kind)) * 2 / 3


class Hides(V5_11):
    """Asks for a routine by a name that stands nowhere."""

    def zone_pcp_disable(self, zone):
        yield from super().zone_pcp_disable(zone)
        yield from getattr(self, "_".join(("not", "told")))()

    def not_told(self):
        yield ops.happens("a pause")


def test_a_name_that_is_put_together_shows(monkeypatch):
    asked = asked_by(Hides, monkeypatch)["offline"]
    assert "not_told" in asked - reach(Hides, TASKS["offline"].make).attributes.keys()


def shared_wrongly(name: str) -> list[str]:
    """The tasks of a mutant that have a graph of its own, and would be given that of its kernel."""
    kind = mutant(name)
    base = MUTANTS[name].of
    size = Size().of(kind)
    return [
        task.name
        for task in kinds(kind, size)
        if same(reach(kind, TASKS[task.task].make), reach(base, TASKS[task.task].make))
        and graph_of(kind, task) != graph_of(base, task)
    ]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_shares_what_it_does_not_change_and_nothing_else(name):
    kind = mutant(name)
    base = MUTANTS[name].of
    shared = {t for t, k in kinds_of(kind).items() if same(reach(kind, k.make), reach(base, k.make))}
    assert shared and shared != set(kinds_of(kind))
    assert not shared_wrongly(name)


def test_a_reach_that_forgets_a_routine_shows(monkeypatch):
    monkeypatch.setattr(module, "DESCRIBES", module.DESCRIBES | {"zone_pcp_disable", "drain_all_pages"})
    monkeypatch.setattr(module, "_found", {})
    assert "offline" in shared_wrongly("batch-left-old")


class Waits(V5_11):
    """Changes one routine."""

    def zone_pcp_disable(self, zone):
        yield from super().zone_pcp_disable(zone)
        yield ops.happens("a pause")


class Begins(V5_11):
    """Looks at the machine when it is made."""

    def __init__(self, config):
        super().__init__(config)


@pytest.mark.parametrize(
    ("kind", "own"), [(Waits, {"offline", "hwpoison"}), (Begins, set(kinds_of(V5_11)))], ids=["a routine", "the start"]
)
def test_a_change_has_graphs_of_its_own_where_it_is_come_to(kind, own, monkeypatch):
    monkeypatch.setattr(keeping, "_kept", type(keeping._kept)())
    made = []
    population.texts(V5_11)
    monkeypatch.setattr(population, "_graph", lambda _, task, **how: made.append((task.task, how)) or _EMPTY)
    population.texts(kind)
    assert {task for task, _ in made} == {t.task for t in kinds(V5_11, Size())} & own and not any(
        how for _, how in made
    )


_EMPTY = population.FoldedGraph((), (), ())


def test_what_is_put_into_a_class_is_seen_at_once(monkeypatch):
    before = reach(V5_11, TASKS["drain"].make)
    assert reach(V5_11, TASKS["drain"].make) is before
    with monkeypatch.context() as patched:
        patched.setattr(V5_11, "flush_work", Waits.zone_pcp_disable, raising=False)
        changed = reach(V5_11, TASKS["drain"].make)
        assert not same(changed, before) and not changed.is_ours
    assert same(reach(V5_11, TASKS["drain"].make), before)


def test_a_routine_under_another_name_is_another_text():
    class Renames(V5_11): ...

    # the last in its class, so that it has the same values in the same order under either name
    Renames.another = Hears.flush_work
    assert reach(Renames, TASKS["drain"].make).is_ours
    del Renames.another
    Renames.flush_work = Hears.flush_work
    assert "flush_work" in reach(Renames, TASKS["drain"].make).attributes
    assert not reach(Renames, TASKS["drain"].make).is_ours


class Says:
    """One of two bases that ask each other through ``super()``."""

    def queue_work_on(self, cpu):
        yield from super().flush_work(cpu)


class Hears:
    """The other one."""

    def flush_work(self, cpu):
        yield ops.happens(f"a pause on {cpu}")


class SaysFirst(Says, Hears, V5_11):
    pass


class HearsFirst(Hears, Says, V5_11):
    pass


def test_the_order_of_bases_counts():
    one, other = (reach(kind, TASKS["drain"].make) for kind in (SaysFirst, HearsFirst))
    # each name has the same definitions in the same order
    assert {n: [v for _, v in d] for n, d in one.attributes.items()} == {
        n: [v for _, v in d] for n, d in other.attributes.items()
    }
    assert not same(one, other)


def test_functions_are_found_in_whatever_holds_them():
    def one(): ...

    class Holder:
        of_class = classmethod(one)
        static = staticmethod(one)
        asked = property(one)

    held = [one, *vars(Holder).values(), (0, [one]), {"a": {"b": one}}, replace(TASKS["drain"], name="x").make]
    assert sum(one in set(functions_in(value)) for value in held) == 6
    assert said(one)[0] == "code"
