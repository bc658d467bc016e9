"""offline_pages() migrates pages of its range: what it allocates for that goes through the pcplist of its CPU."""

from __future__ import annotations

import pytest

from kernelmodel import ops
from kernelmodel.config import Config
from kernelmodel.errors import ModelError
from kernelmodel.graphs.automaton import extract
from kernelmodel.kernels import kernel, mutant
from kernelmodel.machine import Machine
from kernelmodel.memory.state import Place
from kernelmodel.mmzone import MigrateType, PageRange
from kernelmodel.versions.systematic import build, mutations
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from verify.bmc.__main__ import main as bmc
from verify.bmc.sections import apart, in_stretches
from verify.bmc.solve import Engine
from verify.explore.__main__ import main
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.runs import Values, check
from verify.scenario import Scenario
from verify.verdict import Result

STRAY = PROPERTIES["no_stray_page"]
#: one offline_pages() alone, with a page in its range or outside
ALONE = Scenario(cpus=2, frees=0, allocs=0, updates=0, migrations=1)


def machine(pages_outside: int = 3, order: int = 2) -> Machine:
    config = Config(nr_cpus=2, block_types=(MigrateType.MOVABLE,) * 2, pageblock_order=order, max_order=order + 2)
    made = Machine(V5_11, config, (2, 2))
    for _ in range((1 << order) - pages_outside):
        made.allocate(0)
    return made


def test_batch_left_old_is_violated_by_one_offline_pages_alone():
    left = mutant("batch-left-old")
    (searched,) = Explorer(left, Finite(ALONE, 3)).decide([STRAY], deadlock=False)
    solved = Engine(left, ALONE).decide(STRAY)
    for verdict in (searched, solved):
        assert (verdict.result, verdict.replayed) == (Result.VIOLATED, True)
        assert "alloc_migration_target()" in verdict.trace and "free0" not in verdict.trace
    assert check(left, ALONE, [STRAY], Values(((2, 2),), 3), 400, 60.0).contradictions


@pytest.mark.parametrize("name", [pytest.param("v5.11", marks=pytest.mark.deep), "no-force-all-cpus"])
def test_what_the_others_do_not_break_a_migration_does_not_break(name):
    made = kernel(name) if name == "v5.11" else mutant(name)
    assert Explorer(made, Finite(ALONE, 3)).decide([STRAY], deadlock=False)[0].result is Result.HOLDS
    assert Engine(made, ALONE).decide(STRAY).result is Result.HOLDS
    without = Scenario(cpus=2, frees=0, allocs=0, updates=0)
    assert Explorer(mutant("batch-left-old"), Finite(without, 3)).decide([STRAY], False)[0].result is Result.HOLDS


@pytest.mark.parametrize(
    ("name", "scenario", "pages"),
    [
        ("v5.11", ALONE, 2), ("batch-left-old", ALONE, 3), ("base", ALONE, 2),
        pytest.param("v5.11", Scenario(cpus=1, frees=1, allocs=1, updates=0, migrations=1), 3, marks=pytest.mark.deep),
    ],
)  # fmt: skip
def test_reductions_change_no_verdict_where_pages_migrate(name, scenario, pages):
    made = mutant(name) if name == "batch-left-old" else kernel(name)
    results = []
    for reduce in ("none", "movers", "full"):
        verdicts = Explorer(made, Finite(scenario, pages), reduce).decide(list(PROPERTIES.values()))
        results.append({v.property: v.result for v in verdicts})
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(("moved", "outside"), [(True, 3), (False, 3), (True, 0)])
def test_the_page_that_is_not_needed_is_freed(moved, outside):
    """The old one when the content has moved; the new one, or none, when it stays."""
    made = machine(outside)
    pfn = made.allocate(1)
    offline = made.spawn("offline", made.kernel.offline_pages(PageRange(1, 1)))
    tried = False
    for _ in range(2000):
        if offline.done:
            break
        ready = [t for t in (offline, *made.workers) if not made.why_not(t)]
        made.step(ready[0], {"moved": moved, "signal": tried})
        tried |= made.history[-1].text in ("unmap_and_move()", "putback_movable_pages()") and not (moved and outside)
    assert made.state.audit() == []
    if moved and outside:
        assert offline.result == 0 and made.state.place[pfn] is Place.OFFLINE
    else:
        assert offline.result < 0 and made.state.place[pfn] is Place.IN_USE
        assert sum(p is Place.IN_USE for p in made.state.place) == (1 << 2) - outside + 1


def test_a_page_that_somebody_frees_after_the_scan_is_not_migrated():
    made = machine()
    pfn = made.allocate(1)
    offline = made.spawn("offline", made.kernel.offline_pages(PageRange(1, 1)))
    for _ in range(500):
        if offline.done or made.operation(offline).text == "isolate_lru_page(page)":
            break
        made.step(next(t for t in (offline, *made.workers) if not made.why_not(t)))
    free = made.free("free", pfn, 1)
    assert made.step(offline).returned == (False,)
    made.run(free)
    made.settle(offline)
    assert offline.result == 0 and made.state.audit() == []


def test_migrations_is_an_option_and_has_a_default(capsys):
    assert main(["--frees", "0", "--allocs", "0", "--updates", "0", "--property", "no_stray_page"]) == 0
    assert "1 page in use that it may have to migrate" in capsys.readouterr().out
    assert (
        main(["--frees", "0", "--allocs", "0", "--updates", "0", "--migrations", "0", "--property", "lock_order"]) == 0
    )
    assert "no migration of its own" in capsys.readouterr().out
    with pytest.raises(SystemExit) as refusal:
        main(["--allocs", "0", "--pages", "1"])
    assert refusal.value.code == 2 and "--migrations" in capsys.readouterr().err


class EndsAlike(V5_11):
    """Two sections with interrupts off that begin apart, and end with the same operations."""

    def begins_apart(self):
        if (yield ops.environment("signal", "signal_pending(current)")):
            cpu = yield ops.local_irq_save(2)
            yield ops.write(1, "pcp.batch", 0, cpu)
        else:
            cpu = yield ops.local_irq_save(2)
        return cpu, (yield ops.read("pcp.count", 0, cpu))

    def two(self):
        cpu, count = yield from self.begins_apart()
        yield ops.write(count, "pcp.high", 0, cpu)
        yield ops.local_irq_restore(cpu)


def test_sections_that_end_alike_are_kept_apart():
    made = EndsAlike(Config(nr_cpus=2))
    graph = extract(EndsAlike, lambda: made.two(), 0)
    saves = [n.number for n in graph.nodes if n.op.tag == "irq_save"]
    assert len(saves) == 2

    def section(of, first):
        found, queue = set(), [first]
        while queue:
            n = queue.pop()
            if n not in found:
                found.add(n)
                if of.nodes[n].op.tag != "irq_restore":
                    queue += [e.target for e in of.nodes[n].edges if e.target >= 0]
        return found

    assert section(graph, saves[0]) & section(graph, saves[1])
    split = apart(graph, ["irqs_off"])
    one, other = (section(split, s) for s in saves)
    assert not one & other and one | other == in_stretches(split, ["irqs_off"])
    # the copy uses its own value
    stores = [n for n in split.nodes if n.op.updates and n.op.updates[0][0].name == "pcp.high"]
    assert len({n.op.updates[0][1].key for n in stores}) == len(stores) == 2


class ThirdSection(EndsAlike):
    """What the end that two sections share returns decides what a third section does."""

    def two(self):
        cpu, count = yield from self.begins_apart()
        yield ops.local_irq_restore(cpu)
        cpu = yield ops.local_irq_save(2)
        yield ops.write(count, "pcp.high", 0, cpu)
        yield ops.local_irq_restore(cpu)


def test_a_value_that_leaves_what_sections_share_is_refused():
    made = ThirdSection(Config(nr_cpus=2))
    with pytest.raises(ModelError, match="store it in a cell"):
        apart(extract(ThirdSection, lambda: made.two(), 0), ["irqs_off"])


@pytest.mark.parametrize(
    "options",
    [
        ["--allocs", "0"],
        ["--allocs", "0", "--mutant", "batch-left-old"],
        ["--allocs", "0", "--migrations", "2", "--mutant", "no-drain"],
    ],
    ids=" ".join,
)
def test_smaller_configurations_have_room_for_the_pages_to_migrate(options, capsys):
    """The one beside the search, the one that is probed, and those in which a counterexample is looked for."""
    code = main([*options, "--property", "no_stray_page"])
    out = capsys.readouterr().out
    assert code == (1 if "--mutant" in options else 0)
    assert ("replayed on the concrete model" in out) == ("--mutant" in options)


def test_more_pages_than_there_are_is_one_line(capsys):
    with pytest.raises(SystemExit) as refusal:
        main(["--frees", "12", "--migrations", "8"])
    assert refusal.value.code == 2 and "--migrations 8" in capsys.readouterr().err


class MigratesWhatIsGone(V5_11):
    """do_migrate_range() does not look whether the page was still in use."""

    def do_migrate_range(self, page):
        yield self.isolate_lru_page(page)
        target = yield from self.alloc_migration_target(page)
        if target is not None:
            yield from self.migrate_pages(page, target)


def test_a_text_that_loses_pages_without_end_is_not_searched_without_end():
    """What is violated is shown, and nothing else is said to hold."""
    explorer = Explorer(MigratesWhatIsGone, Finite(ALONE, 3))
    found = {v.property: v for v in explorer.decide([PROPERTIES["pages_accounted"], STRAY])}
    assert found["pages_accounted"].result is Result.VIOLATED and found["pages_accounted"].replayed
    assert found[STRAY.name].result is Result.UNDECIDED and "without end" in found[STRAY.name].reason
    assert found["no_deadlock"].result is Result.UNDECIDED


LOST = """
from kernelmodel import V5_11


class Lost(V5_11):
    name = "lost"

    def do_migrate_range(self, page):
        if not (yield self.isolate_lru_page(page)):
            return
        target = yield from self.alloc_migration_target(page)
        if target is None:
            yield self.putback_movable_pages(page)
"""


@pytest.mark.parametrize("engine", [main, bmc])
def test_where_nothing_migrates_a_text_that_migrates_is_not_judged(engine, tmp_path, capsys):
    """With no page to migrate nobody comes to do_migrate_range(), and that it loses the page is not seen."""
    file = tmp_path / "lost.py"
    file.write_text(LOST)
    with pytest.raises(SystemExit) as stopped:
        engine(["--variant", str(file)])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "ever comes to do_migrate_range()" in said and "--migrations" in said


def test_where_a_page_migrates_it_is_found_lost(tmp_path, capsys):
    file = tmp_path / "lost.py"
    file.write_text(LOST)
    options = "--variant", str(file), "--allocs", "0", "--frees", "0", "--updates", "0", "--property", "pages_accounted"
    assert main([*options, "--beside", "none"]) == 1
    assert "a page of block 1 is neither in use nor free" in capsys.readouterr().out


def test_a_page_that_is_not_isolated_is_not_put_back():
    """The kernel takes a reference with isolate_lru_page(), and gives it back once."""
    (change,) = (m for m in mutations(V5_11, ["do_migrate_range"]) if m.name == "do_migrate_range/double/2")
    verdict = Explorer(build(V5_11, change), Finite(ALONE, 3)).decide([PROPERTIES["pages_accounted"]], False)[0]
    assert (verdict.result, verdict.replayed) == (Result.VIOLATED, True)
    assert "isolate_lru_page() it first" in verdict.found
