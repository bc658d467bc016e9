"""Store buffers and the guarantee: which kernels survive them, by each engine, and what a counterexample shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernelmodel.errors import ModelError
from kernelmodel.kernels import kernel, mutant, variant
from kernelmodel.memory_model import MODELS, Memory, model_named
from kernelmodel.text import KernelText
from properties.catalogue import PROPERTIES, find
from verify.api import check as api_check
from verify.bmc.solve import Engine
from verify.explore.__main__ import main as explore
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.ordering.__main__ import main as ordering
from verify.ordering.edges import LOCK, ORDERS, WORK, Edge
from verify.ordering.loosened import Loose, everybody
from verify.ordering.scenario import relaxed_in
from verify.prove.__main__ import main as prove_command
from verify.prove.engine import PROVABLE, prove
from verify.prove.obligations import Prover
from verify.prove.population import texts
from verify.replay.__main__ import main as replay
from verify.runs import Values, check
from verify.scenario import Scenario
from verify.verdict import Result

STRAY = find("no_stray_page")
FREES = Scenario(cpus=2, frees=1, allocs=0, updates=0)
DOCS = Path(__file__).parents[1] / "docs"
SHOW = ["--frees", "1", "--allocs", "0", "--updates", "0", "--property", "no_stray_page", "--beside", "none"]


def chosen(name: str) -> type[KernelText]:
    return kernel(name) if name.startswith("v") else mutant(name)


def explored(text: type[KernelText], memory: Memory) -> Result:
    return Explorer(text, Finite(FREES, 2), memory=memory).decide([STRAY], deadlock=False)[0].result


@pytest.mark.parametrize(
    ("name", "under_tso"),
    [
        ("v5.11", Result.HOLDS), ("no-force-all-cpus", Result.VIOLATED), ("v6.10", Result.VIOLATED), ("v6.11", Result.HOLDS),
        *(
            pytest.param(name, Result.HOLDS if name in ("v5.15", "v6.1") else Result.VIOLATED, marks=pytest.mark.deep)
            for name in ("v5.15", "v6.0", "v6.1", "v6.2", "v6.8")
        ),
    ],
)  # fmt: skip
def test_frees_alone(name: str, under_tso: Result) -> None:
    """What the changelog says of the check of pcp->count needs store buffers; who looks at it without a lock has the race."""
    assert explored(chosen(name), "sc") is Result.HOLDS
    assert explored(chosen(name), "tso") is under_tso


BARRIERS = '''
from kernelmodel import ops, page_ops
from kernelmodel.kernels import mutant


class Barriers(mutant("no-force-all-cpus")):
    """The store to count is seen before high is read."""

    def free_unref_page_commit(self, page, migratetype, cpu):
        """mm/page_alloc.c: free_unref_page_commit(), of a page of a type that has a pcplist."""
        zone = page.zone
        if migratetype >= 3:
            yield from self.free_one_page(zone, page, migratetype)
            return
        yield page_ops.list_add(self.config, page, cpu, migratetype)
        yield ops.add(1, "pcp.count", zone.index, cpu)
        yield ops.full_barrier()
        count = yield ops.read("pcp.count", zone.index, cpu)
        high = yield ops.read_once("pcp.high", zone.index, cpu)
        if count >= high:
            batch = yield ops.read_once("pcp.batch", zone.index, cpu)
            yield from self.free_pcppages_bulk(zone, batch, cpu)
'''


def test_a_full_barrier_mends_it(tmp_path: Path) -> None:
    """smp_mb() between the store to count and the load of high; disable has its own, for a mutex is taken."""
    file = tmp_path / "barriers.py"
    file.write_text(BARRIERS)
    assert explored(variant(f"{file}:Barriers"), "tso") is Result.HOLDS
    file.write_text(BARRIERS.replace("ops.full_barrier()", 'ops.barrier("smp_wmb()")'))
    assert explored(variant(f"{file}:Barriers"), "tso") is Result.VIOLATED


@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_bmc_agrees(memory: Memory) -> None:
    """For all values of the limits, too; the counterexample is replayed with buffers."""
    verdict = Engine(mutant("no-force-all-cpus"), FREES, memory=memory).decide(STRAY)
    assert verdict.result is (Result.HOLDS if memory == "sc" else Result.VIOLATED)
    assert verdict.memory_model == MODELS[memory]
    if memory == "tso":
        assert verdict.replayed
        assert "store buffer" in verdict.trace


def test_random_runs_find_it_with_buffers_only() -> None:
    """The concrete machine has buffers of its own, and knows nothing of which matter."""
    text = mutant("no-force-all-cpus")
    for memory, times in (("sc", 0), ("tso", 1)):
        found = check(text, FREES, [STRAY], Values(limits=((2, 2),), memory=memory), most=200, seconds=60)
        assert len(found.contradictions) == times


def test_proofs_for_any_size() -> None:
    """v5.11 is proved with loads that find anything; where high finds anything too, it is not."""
    prover = Prover(kernel("v5.11"), [find(n) for n in PROVABLE], memory="tso")
    assert prover.system.loose is not None
    assert {(k, c) for k, _, _, c in prover.system.loose.looks} >= {("reclaim", "pcp.count"), ("drain", "pcp.count")}
    proof = prove(prover)
    assert not proof.all_failed
    assert all(proof.proves(p.name) for p in prover.properties)


def test_a_load_of_anything_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: what is loose goes into the proof."""
    monkeypatch.setattr("verify.prove.obligations.loose", lambda _: Loose(anywhere=frozenset({"pcp.high"})))
    prover = Prover(kernel("v5.11"), [STRAY], memory="tso")
    assert not prove(prover).proves(STRAY.name)


@pytest.mark.deep
def test_what_is_loose_is_found_in_the_graphs_of_proofs() -> None:
    """Each place of a scenario's loads is one of the projection, or nothing would be loosened there."""
    for name in ("v5.11", "v6.1", "v6.11"):
        text = kernel(name)
        found = Prover(text, [STRAY], memory="tso").system.loose
        assert found is not None
        plain = {(t.kind.name, n.number): n.op for t in texts(text) for n in t.graph.kept}
        changed = [
            (t.kind.task, n.stack)
            for t in texts(text, loose=found)
            for n in t.graph.kept
            if len(n.op.choices) != len(plain[t.kind.name, n.number].choices)
        ]
        reached = {(kind, stack) for kind, stack, _, cell in found.looks if cell not in found.locks}
        # whether a zone is populated is a constant of the projection
        assert {r for r in reached if r[1][-1] != "populated_zone"} <= set(changed)


def test_a_counterexample_replays_with_its_memory_model_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trace file names the model; without buffers the load finds what was stored."""
    file = tmp_path / "race.json"
    assert (
        explore(["--mutant", "no-force-all-cpus", "--memory", "tso", "--trace", str(file), "--width", "80", *SHOW]) == 1
    )
    printed = capsys.readouterr().out
    columns = printed[printed.index("CPU0   ") : printed.index("exit 1")].strip()
    assert columns in (DOCS / "memory-models.md").read_text()
    assert replay([str(file)]) == 1
    assert "store buffer" in capsys.readouterr().out
    document = json.loads(file.read_text())
    assert document["memory_model"] == MODELS["tso"]
    file.write_text(json.dumps({**document, "memory_model": MODELS["sc"]}))
    assert replay([str(file)]) == 70
    assert "the trace does not fit" in capsys.readouterr().err
    file.write_text(json.dumps({**document, "memory_model": "PDP-11"}))
    with pytest.raises(SystemExit) as refused:
        replay([str(file)])
    assert refused.value.code == 2
    assert "unknown memory model 'PDP-11'" in capsys.readouterr().err


def test_a_kernel_that_needs_no_buffer_has_no_more_states() -> None:
    """v5.11 in the default configuration: no store is delayed, so each run is one under sequential consistency."""
    few = Scenario(cpus=2, frees=1, allocs=1, updates=1)
    assert not relaxed_in(kernel("v5.11"), few).pairs
    assert relaxed_in(kernel("v6.10"), few).cells == {"pcp.count", "pcp.lock"}
    sizes = [
        Explorer(kernel("v5.11"), Finite(few, 3), memory=memory).search([STRAY]).found.states
        for memory in ("sc", "tso")
    ]
    assert sizes[0] == sizes[1]


def test_two_waiting_stores_are_refused(tmp_path: Path) -> None:
    """What the engines cannot follow is undecided, with the reason."""
    file = tmp_path / "twice.py"
    file.write_text(
        BARRIERS.replace("yield ops.full_barrier()", "yield ops.write(1, 'pcp.count', 0, cpu)").replace(
            "Barriers(", "Twice("
        )
    )
    verdict = Explorer(variant(f"{file}:Twice"), Finite(FREES, 2), memory="tso").decide([STRAY], deadlock=False)[0]
    assert verdict.result is Result.UNDECIDED
    assert "two stores of a task" in verdict.reason


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """verify.ordering names stores and loads; options that do not go together are refused in one line."""
    assert ordering(["--kernel", "v5.11"]) == 0
    said = capsys.readouterr().out
    assert "free: free_unref_page_commit(): pcp[cpu]->count += n" in said
    assert "reclaim: drain_all_pages(): pcp[cpu]->count" in said
    with pytest.raises(SystemExit):
        prove_command(["--memory", "tso", "--infer"])
    assert "is about sequential consistency" in capsys.readouterr().err
    with pytest.raises(ModelError):
        model_named("x86")
    assert everybody(kernel("v5.11")).offlines == 2


@pytest.mark.parametrize("name", ["v6.2", "no-force-all-cpus"])
def test_reductions_change_no_verdict(name: str) -> None:
    """Movers and symmetry, with buffers as cells, find what single steps find, and nothing else."""
    finite = Finite(FREES, 2, 2, 1)
    found = []
    for reduce in ("none", "movers", "full"):
        explorer = Explorer(chosen(name), finite, reduce, memory="tso")
        properties = [p for p in PROPERTIES.values() if not explorer.why_not(p)]
        group = explorer.search(properties)
        found.append({p.name: group.broken(p) for p in properties if not p.stuck})
    assert found[0] == found[1] == found[2]
    assert any(found[0].values())


def test_what_cannot_be_followed_is_undecided(capsys: pytest.CaptureFixture[str]) -> None:
    """v6.11's decay_pcp_high() stores to pcp->high without the lock, while frees do; a proof takes any value there."""
    assert explore(["--kernel", "v6.11", "--memory", "tso", "--tasks", "decay=1", "--property", "no_stray_page"]) == 3
    assert "while others write pcp[0]->high too" in " ".join(capsys.readouterr().out.split())


# --- any machine ---


@pytest.mark.parametrize(
    ("name", "carried_by"),
    [
        ("v5.11", {WORK}),
        pytest.param("v5.15", {WORK}, marks=pytest.mark.deep),
        ("v6.1", {LOCK}),
        pytest.param("v6.11", {LOCK}, marks=pytest.mark.deep),
        pytest.param("v6.2", None, marks=pytest.mark.deep),
        ("no-force-all-cpus", None),
    ],
)
def test_what_carries_it_on_any_machine(name: str, carried_by: set[Edge] | None) -> None:
    """With loads that find anything it holds, and rests on one synchronisation; without that one it does not (the twin)."""
    finite = Finite(FREES, 2)

    def holds(*without: Edge) -> bool:
        explorer = Explorer(chosen(name), finite, memory="weak", without=frozenset(without))
        verdict = explorer.decide([STRAY], deadlock=False)[0]
        assert verdict.memory_model == MODELS["weak"]
        assert verdict.result in (Result.HOLDS, Result.UNDECIDED)
        return verdict.result is Result.HOLDS

    assert holds() is (carried_by is not None)
    if carried_by is not None:
        assert {edge for edge in ORDERS if not holds(edge)} == carried_by


def test_weak_is_for_explore_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Other engines refuse it in one line."""
    with pytest.raises(SystemExit):
        prove_command(["--memory", "weak"])
    assert "invalid choice: 'weak'" in capsys.readouterr().err
    with pytest.raises(ModelError, match="explore alone"):
        api_check("v5.11", properties=["no_stray_page"], memory="weak")
    found = api_check("v5.11", properties=["no_stray_page"], engine="explore", memory="weak", tasks={"alloc": 0})
    assert [v.result for v in found] == [Result.HOLDS]
