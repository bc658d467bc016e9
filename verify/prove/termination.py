"""Whether offline_pages() comes to its end: ranks, waits without a cycle, and the loop's test, each put to Z3.

The claim is about one call of offline_pages() that holds mem_hotplug_lock, called *it* here.  It returns, for any number of
CPUs and pages and of other tasks, under the ASSUMED.  Why: sections with interrupts off wait for nothing and have a rank,
so interrupts come on again and again; then work items end, for they wait for nothing else; then whoever holds
pcpu_drain_mutex goes on, and so on down the levels that Z3 finds.  It itself has a rank once the ways back into its loop
are shut, which the lemmas show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import z3

from kernelmodel.cells import CELLS, stops_others
from kernelmodel.graphs.ways import told
from kernelmodel.ops import Kind
from kernelmodel.terms import Term
from kernelmodel.text import KernelText
from properties.arguments import CPUS, MEM, OFFLINER
from properties.catalogue import find
from properties.lemmas import DRAIN_LOCK
from verify import page
from verify.prove.engine import ENGINE, find_trace
from verify.prove.loop import Known, Loop
from verify.prove.obligations import Proof, Prover
from verify.prove.onwards import onwards
from verify.prove.population import ZONE, Size, texts
from verify.prove.ranking import Ranking
from verify.prove.roles import OVER, Program, Step, hangs
from verify.smt import Expr
from verify.verdict import Result, Verdict

NAME = "offline_ends"
STATEMENT = (
    "a call of offline_pages() that holds mem_hotplug_lock returns, and needs no further drain, once every page of its range"
    " is free: for any number of CPUs, pages and other tasks"
)
BOUND = "none: any number of CPUs, zones, pages and pageblocks, any number of other tasks; under the assumptions below"
ASSUMED = (
    "from some moment on every page of the range is free: no task holds one (held is 0), and no section with interrupts off"
    " has one on its lists at the test",
    "strong fairness: what a task can do again and again it does at some time, be it to get a mutex, a CPU's interrupts, or"
    " just to go on",
    "no CPU comes or goes, and one that is offline has empty lists",
)
#: what it has got when the claim begins to speak of it
BEGIN = (MEM, CPUS)
WORK, INTERRUPTS = "drain work", "interrupts off"
NOTHING_LEFT, ISOLATED, SCAN, TEST = "nothing_left_on_pcplists", "stays_isolated", "scan_finds_nothing", "test_succeeds"
RANKS, ANY_NUMBER, WAITS, KEEPS = "ranks", "any_number_of_cpus", "waits_have_levels", "nothing_is_kept"
HANGS, STARTS, QUEUED = "no_section_hangs", "queued_work_starts", "queued_under_the_mutex"

#: which property of the catalogue a part that fails may break, to look for a real trace
BREAKS = {
    NOTHING_LEFT: "offline_progress", ISOLATED: "offline_progress", WAITS: "lock_order", KEEPS: "enable_on_every_exit",
    HANGS: "bulk_free_terminates",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """One part of the argument: whether it was shown, and what it says, or what it fails on."""

    name: str
    good: bool
    words: str


class Termination:
    """The argument for one kernel; ``proof`` tells whether the lemmas show offline_progress."""

    def __init__(self, kernel: type[KernelText], prover: Prover, proof: Proof) -> None:
        self.kernel, self.prover, self.proof = kernel, prover, proof
        self.program = prover.system.program
        self.steps = self.program.steps
        self.loop = Loop({u: s for u, s in self.steps.items() if s.kind.name == OFFLINER})
        self.kinds = [
            k for k in dict.fromkeys(s.kind.name for s in self.steps.values()) if k == OFFLINER or self._may_run(k)
        ]
        self.held = may_hold(self.steps)
        self.acting = [s for s in self.steps.values() if s.kind.name in self.kinds]
        self.parts = [self._nothing_left(), self._isolated(), self._scan(), self._test()]
        shut = all(p.good for p in self.parts)
        ranking = self._ranking(self.program, shut)
        self.parts += [
            self._ranks(ranking), self._any_number(ranking, shut), self._waits(), self._keeps(), self._hangs(),
            self._starts(), self._queued(),
        ]  # fmt: skip

    def _may_run(self, kind: str) -> bool:
        """Whether a kind of task can be in the midst of anything while another task holds mem_hotplug_lock."""
        mine = [s for s in self.steps.values() if s.kind.name == kind]
        return any((s.locks or s.irqs_off) and MEM not in s.locks for s in mine) or not any(s.locks for s in mine)

    # --- the loop ---

    def _nothing_left(self) -> Shown:
        good = not self.proof.differs and bool(self.loop.range) and self.proof.proves("offline_progress")
        words = "at the test a CPU with interrupts on has no page of the range on its lists: offline_progress"
        return Shown(NOTHING_LEFT, good, words if good else f"the lemmas do not show that {words}")

    def _isolated(self) -> Shown:
        for s in self.steps.values():
            if any(CELLS[c.name].values == "type" for c, _ in s.op.updates) and MEM not in s.locks:
                return Shown(ISOLATED, False, f"{s.name} changes a pageblock without {MEM}")
        flags = self.loop.isolated_at()
        unsure = [s for s in self.loop.testing() if not flags[s.uid]]
        if unsure:
            return Shown(ISOLATED, False, f"the range may not be isolated at {unsure[0].name}")
        return Shown(ISOLATED, True, f"the range is ISOLATE at the test; whoever changes a pageblock holds {MEM}")

    def _scan(self) -> Shown:
        open_ = [s for s in self.loop.scanning() if self._open(s, self.loop.free) != (1, 1)]
        words = "scan_movable_pages() finds nothing to migrate" if not open_ else f"{open_[0].name} may find a page"
        return Shown(SCAN, not open_, words)

    def _test(self) -> Shown:
        tests = self.loop.testing()
        bad = [s for s in tests if self._open(s, self.loop.settled) != (1, 1)]
        good = bool(tests) and not bad
        words = "test_pages_isolated() succeeds: the way back into the loop is shut, the way on is open"
        return Shown(TEST, good, words if good else f"not so: {words}")

    def _open(self, step: Step, known: Known) -> tuple[int, int]:
        """How many of a step's ways are open, and how many are shut."""
        ways = [self.loop.can(step, c, known) for c, _ in step.edges]
        return sum(ways), len(ways) - sum(ways)

    # --- ranks ---

    def _ranking(self, program: Program, shut: bool) -> Ranking:
        loop = Loop({u: s for u, s in program.steps.items() if s.kind.name == OFFLINER})

        def skipped(step: Step, conditions: tuple[Term, ...], _: int) -> bool:
            if hangs(step.op) or step.op.does.ends:
                # past a hang there is nothing, and each item of work is ranked for itself
                return True
            if step.kind.name != OFFLINER or not shut:
                return False
            known = loop.settled if step.op.does.tests else loop.free if step.op.does.scans else None
            return known is not None and not loop.can(step, conditions, known)

        return Ranking(program, self.kinds, skipped)

    def _ranks(self, ranking: Ranking) -> Shown:
        failing = ranking.failing()
        if failing:
            # the loop's test says most
            move = next((m for m, s in failing if s.op.does.tests), failing[0][0])
            return Shown(RANKS, False, f"a loop that nothing bounds: {move}")
        size = f"each of {len(ranking.moves)} moves between {len(ranking.places)} places of {len(self.kinds)} kinds of tasks"
        return Shown(RANKS, True, f"{size} lowers the task's rank, for any number of CPUs")

    def _any_number(self, ranking: Ranking, shut: bool) -> Shown:
        size = Size(5, 2)
        others = self._ranking(Program(texts(self.kernel, size)), shut)
        good = others.moves.keys() == ranking.moves.keys()
        words = f"the moves are the same with {self.prover.system.size.cpus} and with {size.cpus} CPUs"
        return Shown(ANY_NUMBER, good, words if good else f"not so: {words}")

    # --- waits ---

    def _waits(self) -> Shown:
        """Each wait is for something of a higher level than all that the waiting task holds."""
        solver = z3.Solver()
        guilty: dict[str, str] = {}
        resources: dict[str, Expr] = {}

        def level(name: str) -> Expr:
            return resources.setdefault(name, z3.Int(f"level of {name}"))

        for s in self.acting:
            wanted = _wait(s)
            if wanted is None or ((wanted == MEM or CPUS in wanted) and MEM not in s.locks):
                continue
            if wanted == "?":
                return Shown(WAITS, False, f"{s.name} waits for something that is not known")
            for held in sorted(self.held[s.uid]):
                name = f"{s.uid} {held}"
                guilty[name] = f"{s.name} waits for {wanted} with {held} held"
                solver.assert_and_track(level(wanted) > level(held), name)
        if solver.check() != z3.sat:
            core = [guilty[str(c)] for c in solver.unsat_core()]
            return Shown(WAITS, False, f"a cycle: {'; '.join(sorted(core))}" if core else "the solver cannot tell")
        model = solver.model()
        order = sorted(resources, key=lambda n: model.eval(resources[n], model_completion=True).as_long())
        return Shown(WAITS, True, f"who holds one waits only for later ones: {', '.join(order)}")

    def _keeps(self) -> Shown:
        """Nobody returns with a mutex held or interrupts off: what a task waits for is given back."""
        for s in self.steps.values():
            ends = [conditions for conditions, t in s.edges if t == OVER]
            kept = {x for conditions in ends for x in _after(s, self.held[s.uid], conditions)}
            if kept:
                return Shown(KEEPS, False, f"{s.name} may be the last of a task that has {', '.join(sorted(kept))}")
        return Shown(KEEPS, True, "no task returns with a mutex held or with interrupts off")

    def _hangs(self) -> Shown:
        """Where a section would hang: not in a state of the lemmas; in another zone than the followed the same text."""
        system = self.prover.system
        zones = self._zones_of_hangs()
        mine = {s.stack for u, s in self.steps.items() if hangs(s.op) and zones.get(u) == {ZONE}}
        for s in self.steps.values():
            if hangs(s.op) and s.stack not in mine:
                return Shown(HANGS, False, f"{s.name}, and nothing like it in the followed zone")
        for at, steps in (("section.at", system.section_steps), ("worker.at", system.worker_steps)):
            for u, s in steps.items():
                if hangs(s.op) and zones.get(u) == {ZONE}:
                    solver = self.prover.solver(None)
                    solver.add(system.variables[at] == u)
                    if self.prover.check(solver, *self.prover.assumed()) != z3.unsat:
                        return Shown(HANGS, False, f"{s.name} may be reached")
        return Shown(HANGS, True, "free_pcppages_bulk() never finds its lists shorter than count: pages_conserved")

    def _zones_of_hangs(self) -> dict[int, set[int]]:
        """The zone of the lists on whose emptiness a task hangs."""
        found: dict[int, set[int]] = {}
        taking = [(s, lists[1]) for s in self.steps.values() if s.op.does.takes and (lists := s.op.does.lists)]
        queue = [(t, zone) for s, zone in taking for _, t in s.edges]
        while queue:
            u, zone = queue.pop()
            if (
                u == OVER
                or zone in found.get(u, set())
                or not (self.steps[u].op.does.spins or self.steps[u].op.does.hangs)
            ):
                continue
            found.setdefault(u, set()).add(zone)
            queue += [(t, zone) for _, t in self.steps[u].edges]
        return found

    def _starts(self) -> Shown:
        """The worker begins what is queued: nothing but the queue holds it up."""
        system = self.prover.system
        idle = system.worker_steps[system.worker_idle]
        solver = self.prover.solver(None)
        solver.add(system.variables["worker.at"] == idle.uid, system.variables[f"work.pending[{system.cpu}]"])
        solver.add(z3.Not(self.prover.predicates.formula(idle.op.guard)))
        good = self.prover.check(solver, *self.prover.assumed()) == z3.unsat
        words = "an idle worker can begin a queued item: work_item_runs_once"
        return Shown(STARTS, good, words if good else f"not so: {words}")

    def _queued(self) -> Shown:
        for s in self.steps.values():
            if (s.op.does.queues or s.op.does.awaits) and DRAIN_LOCK not in s.locks:
                return Shown(QUEUED, False, f"{s.name} without {DRAIN_LOCK}")
        return Shown(
            QUEUED, True, f"work is queued and waited for with {DRAIN_LOCK} held, so nobody queues what is waited for"
        )


def may_hold(steps: Mapping[int, Step]) -> dict[int, frozenset[str]]:
    """What a task that is about to do a step may have, on some way to it, that others may wait for."""
    found: dict[int, frozenset[str]] = {}
    queue: list[tuple[int, frozenset[str]]] = [(u, frozenset()) for u in steps]
    while queue:
        u, held = queue.pop()
        new = found.get(u, frozenset()) | held
        if u not in found or new != found[u]:
            found[u] = new
            queue += [(t, _after(steps[u], new, conditions)) for conditions, t in steps[u].edges if t != OVER]
    return found


def _after(step: Step, held: frozenset[str], conditions: Sequence[Term]) -> frozenset[str]:
    op = step.op
    failed = any(told(name, conditions) is False for name in step.returned)
    for cell, new in op.updates:
        if CELLS[cell.name].sleeps and new.op == "const":
            held -= {str(cell.index[0])}
        elif CELLS[cell.name].sleeps and not (new.op == "ite" and failed):
            # a trylock that returns false has taken nothing
            held |= {str(cell.index[0])}
    does = op.does
    for begins, what in ((stops_others(does.acquires), INTERRUPTS), (does.begins, WORK)):
        held |= {what} if begins else set()
    for ends, what in ((stops_others(does.releases), INTERRUPTS), (does.ends, WORK)):
        held -= {what} if ends else set()
    return held


def _wait(step: Step) -> str | None:
    """What a step may have to wait for; None for nothing, a question mark if it is not known."""
    op = step.op
    if (op.guard.op == "const" and op.guard.args[0]) or hangs(op) or op.must or op.does.begins:
        # to get to a step that must be possible when it is not is an error, which the concrete machine reports
        return None
    if op.does.awaits:
        return WORK
    if stops_others(op.does.acquires):
        return INTERRUPTS
    taken = [str(c.index[0]) for c, _ in op.updates if CELLS[c.name].sleeps]
    if op.kind is Kind.LOCK:
        return taken[0] if taken else CPUS
    return "?"


def argument(parts: Sequence[Shown]) -> str:
    """The claim, what it assumes, and its parts, for people."""

    def filled(text: str, first: str) -> str:
        return page.paragraph(text, first, "      ")

    lines = [filled(f"claim: {STATEMENT}", "  ")]
    lines += [filled(f"assumed: {words}", "  ") for words in ASSUMED]
    lines += [filled(f"{'shown' if p.good else 'NOT shown'}: {p.name}: {p.words}", "    ") for p in parts]
    return "\n".join(lines)


def verdict(kernel: type[KernelText], parts: Sequence[Shown], seconds: float = 0.0) -> Verdict:
    """The verdict that the parts of the argument call for, without a look for a real trace."""
    bad = [p for p in parts if not p.good]
    return Verdict.on(
        kernel, NAME, ENGINE, BOUND, Result.UNDECIDED if bad else Result.PROVED, reachable=not bad,
        reason="; ".join(f"not shown: {p.name}" for p in bad), seconds=seconds,
        statistics={p.name: p.words for p in parts},
    )  # fmt: skip


def traced(kernel: type[KernelText], parts: Sequence[Shown], deadline: float | None = None) -> Verdict:
    """The verdict where the argument fails: violated, if a part that fails has a real trace that ends no better."""
    open_ = verdict(kernel, parts)
    for name in dict.fromkeys(BREAKS[p.name] for p in parts if not p.good and p.name in BREAKS):
        prop = find(name)
        if not prop.applies_to(kernel):
            continue
        found = find_trace(kernel, prop, deadline)
        if found.result is Result.VIOLATED:
            more = onwards(kernel, found)
            trace = f"{found.trace}\n{page.paragraph(more)}" if more else found.trace
            why = f"{open_.reason}; the trace, of {name}, is from verify.{found.engine}"
            return replace(found, property=NAME, engine=ENGINE, bound=BOUND, reason=why, trace=trace)
    return replace(open_, reason=f"{open_.reason}; no trace found")
