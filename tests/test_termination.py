"""offline_pages() ends: each part of the argument is shown for v5.11, and fails for a kernel made to fail it."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import pytest

from kernelmodel import ops
from kernelmodel.kernels import kernel, mutant
from kernelmodel.ops import Kind, Op, mark
from kernelmodel.terms import Cell, choice, const
from kernelmodel.text import KernelText
from kernelmodel.versions.mutants import MUTANTS
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import find
from verify.prove.__main__ import main
from verify.prove.engine import PROVABLE, find_trace
from verify.prove.obligations import Proof, Prover
from verify.prove.onwards import onwards
from verify.prove.termination import (
    ANY_NUMBER,
    HANGS,
    ISOLATED,
    KEEPS,
    NOTHING_LEFT,
    QUEUED,
    RANKS,
    SCAN,
    STARTS,
    TEST,
    WAITS,
    Shown,
    Termination,
    traced,
    verdict,
)
from verify.verdict import Result

PARTS = (NOTHING_LEFT, ISOLATED, SCAN, TEST, RANKS, ANY_NUMBER, WAITS, KEEPS, HANGS, STARTS, QUEUED)


class Taken(Proof):
    """A proof that is taken for granted, for what else the argument needs."""

    def proves(self, goal: str) -> bool:
        del goal
        return True


def prover_of(chosen: type[KernelText]) -> Prover:
    return Prover(chosen, [find(name) for name in PROVABLE])


@functools.cache
def v5_11() -> Prover:
    return prover_of(V5_11)


def parts_of(chosen: type[KernelText], proof: Proof | None = None, dropped: str = "") -> dict[str, Shown]:
    prover = v5_11() if chosen is V5_11 else prover_of(chosen)
    prover.dropped = {dropped} - {""}
    try:
        return {p.name: p for p in Termination(chosen, prover, proof or Taken()).parts}
    finally:
        prover.dropped = set()


def bad(parts: dict[str, Shown]) -> set[str]:
    return {p.name for p in parts.values() if not p.good}


def test_v5_11_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert main(["--terminates", "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert "claim: " in said and "strong fairness" in said
    assert said.count("    shown: ") == len(PARTS) and "NOT shown" not in said
    assert "offline_ends                  proved" in said
    (record,) = json.loads(out.read_text())["verdicts"]
    assert record["property"] == "offline_ends" and record["result"] == "proved"
    assert list(record["statistics"]) == list(PARTS)
    order = "mem_hotplug_lock, pcp_batch_high_lock, pcpu_drain_mutex, drain work, interrupts off"
    assert record["statistics"][WAITS].endswith(order)


@pytest.mark.parametrize(
    ("name", "lasso"), [("no-drain", True), *(pytest.param(n, True, marks=pytest.mark.deep) for n in (
        "no-force-all-cpus", "no-flush", "high-read-irqs-on", "batch-left-old", "drain-before-high",
    ))],
)  # fmt: skip
def test_a_mutant_goes_round_for_ever(name: str, lasso: bool) -> None:
    found = find_trace(mutant(name), find("offline_progress"))
    assert found.result is Result.VIOLATED
    assert ("for ever (a lasso)" in onwards(mutant(name), found)) == lasso


@pytest.mark.parametrize("name", ["base", pytest.param("v5.10", marks=pytest.mark.deep)])
def test_before_the_patch_a_further_drain_is_needed(name: str) -> None:
    """The way back into the loop is not shut there, and a real run takes it and drains once more."""
    parts = Termination(kernel(name), prover_of(kernel(name)), Proof()).parts
    assert {p.name for p in parts if not p.good} == {NOTHING_LEFT, RANKS}
    assert "test_pages_isolated() [offline] -> mutex_trylock" in next(p.words for p in parts if p.name == RANKS)
    found = traced(kernel(name), parts)
    assert found.result is Result.VIOLATED and found.replayed
    assert re.search("a further drain, of CPU[01], has to come first", found.trace)


@pytest.mark.deep
@pytest.mark.parametrize("name", [m.name for m in MUTANTS.values() if m.breaks != "equivalent"])
def test_no_mutant_that_breaks_progress_is_said_to_end(name: str) -> None:
    progress = find_trace(mutant(name), find("offline_progress")).result is Result.VIOLATED
    code = main(["--terminates", "--mutant", name])
    assert code in ((1,) if progress else (0, 1, 3))


# --- twins: for each part a kernel that fails it ---


class ChangesBlocks(V5_11):
    """A free changes a pageblock's type on its way out."""

    def free_unref_page(self, page):  # type: ignore[no-untyped-def]
        """mm/page_alloc.c: free_unref_page()."""
        yield from super().free_unref_page(page)
        yield mark("steals the block", "mark", [(Cell("pageblock.migratetype", (0,)), const(1))])


class IgnoresFailure(V5_11):
    """offline_pages() goes on although the range could not be isolated."""

    def start_isolate_page_range(self, page_range, migratetype, flags):  # type: ignore[no-untyped-def]
        """mm/page_isolation.c: start_isolate_page_range()."""
        yield from super().start_isolate_page_range(page_range, migratetype, flags)
        return 0


class FindsAnything(V5_11):
    """scan_movable_pages() may take any page for one that is in use."""

    def scan_movable_pages(self, page_range):  # type: ignore[no-untyped-def]
        """mm/memory_hotplug.c: scan_movable_pages()."""
        op = super().scan_movable_pages(page_range)
        return Op(op.text, op.kind, returns=op.returns, choices=op.choices, pack=op.pack, tag=op.tag)


class OddTest(V5_11):
    """test_pages_isolated() may fail for a reason of its own."""

    def test_pages_isolated(self, page_range, isol_flags):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """mm/page_isolation.c: test_pages_isolated()."""
        info = {"blocks": tuple(page_range.blocks), "zone": page_range.zone.index}
        odd = choice("odd", "bool")
        return (yield Op("test", Kind.CRITICAL, returns=(odd,), choices=(odd,), tag="test_pages_isolated", info=info))


class DrainsTillTold(V5_11):
    """drain_all_pages() repeats itself until the environment says that it is enough."""

    def drain_cpus_with_pcps(self, zone):  # type: ignore[no-untyped-def]
        """mm/page_alloc.c: drain_all_pages()."""
        while True:
            yield from super().drain_cpus_with_pcps(zone)
            if (yield ops.environment("enough", "is that enough?")):
                break


class StartsAgain(V5_11):
    """A loop over CPUs that may begin again at the first: the number of CPUs left does not always fall."""

    def set_pageset_high_and_batch(self, zone, high, batch):  # type: ignore[no-untyped-def]
        """mm/page_alloc.c: __zone_set_pageset_high_and_batch()."""
        again = True
        while again:
            for cpu in self.for_each_cpu():
                yield from self.pageset_update(zone, cpu, high, batch)
            again = yield ops.environment("again", "again?")


class FourthCpuWaits(V5_11):
    """What is done for the fourth CPU is not what is done for the others."""

    def pageset_update(self, zone, cpu, high, batch):  # type: ignore[no-untyped-def]
        """mm/page_alloc.c: pageset_update()."""
        yield from super().pageset_update(zone, cpu, high, batch)
        if cpu == 3:
            yield ops.happens("the fourth CPU")


class FlushesUnlocked(V5_11):
    """zone_pcp_disable() waits for CPU 0's work once more, after it has unlocked pcpu_drain_mutex."""

    def zone_pcp_disable(self, zone):  # type: ignore[no-untyped-def]
        """mm/page_alloc.c: zone_pcp_disable()."""
        yield from super().zone_pcp_disable(zone)
        yield from self.flush_work(0)


class WaitsInSection(V5_11):
    """A free waits for the drain work with interrupts off."""

    def free_unref_page_commit(self, page, migratetype, cpu):  # type: ignore[no-untyped-def]
        """mm/page_alloc.c: free_unref_page_commit()."""
        yield from super().free_unref_page_commit(page, migratetype, cpu)
        yield from self.flush_work(cpu)


@pytest.mark.parametrize(
    ("chosen", "fails"),
    [
        (ChangesBlocks, {ISOLATED, RANKS}),
        pytest.param(IgnoresFailure, {ISOLATED, RANKS}, marks=pytest.mark.deep),
        pytest.param(FindsAnything, {SCAN, RANKS}, marks=pytest.mark.deep),
        pytest.param(OddTest, {TEST, RANKS}, marks=pytest.mark.deep),
        pytest.param(DrainsTillTold, {RANKS}, marks=pytest.mark.deep),
        pytest.param(StartsAgain, {RANKS}, marks=pytest.mark.deep),
        pytest.param(FourthCpuWaits, {ANY_NUMBER}, marks=pytest.mark.deep),
        pytest.param(FlushesUnlocked, {QUEUED}, marks=pytest.mark.deep),
        pytest.param(WaitsInSection, {WAITS, QUEUED}, marks=pytest.mark.deep),
        pytest.param(mutant("update-inside-window"), {WAITS}, marks=pytest.mark.deep),
        (mutant("missed-enable-on-removal-failure"), {KEEPS}),
    ],
)
def test_a_part_fails_where_it_must(chosen: type[KernelText], fails: set[str]) -> None:
    assert bad(parts_of(chosen)) == fails


@pytest.mark.parametrize(
    ("lemma", "part"), [("pages_conserved", HANGS), ("work_item_runs_once", STARTS)]
)  # fmt: skip
def test_a_part_needs_its_lemma(lemma: str, part: str) -> None:
    assert bad(parts_of(V5_11)) == set()
    assert bad(parts_of(V5_11, dropped=lemma)) == {part}


def test_a_verdict_names_what_is_not_shown() -> None:
    shown = [Shown(RANKS, False, "a loop")]
    assert verdict(V5_11, shown).result is Result.UNDECIDED
    assert RANKS in verdict(V5_11, shown).reason
    # no property of the catalogue stands for it, so nothing is looked for
    assert traced(V5_11, shown).result is Result.UNDECIDED
