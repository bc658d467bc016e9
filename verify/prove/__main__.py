"""``python -m verify.prove``: inductive proofs, for any number of CPUs, pages and tasks, and runs of any length."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from kernelmodel.errors import ModelError
from kernelmodel.kernels import NEWEST
from kernelmodel.memory_model import MODELS
from kernelmodel.text import KernelText
from kernelmodel.variants.overrides import check_reached
from kernelmodel.versions.later_mutants import EVERY
from kernelmodel.versions.mutants import EQUIVALENT
from kernelmodel.versions.v5_11 import V5_11
from properties.arguments import BY_WORK_ITEM, argument_of
from properties.catalogue import PROPERTIES, find
from properties.property import Property
from verify import page
from verify.command import command
from verify.options import (
    EXIT_CODES,
    Parser,
    add_kernel,
    add_memory,
    add_output,
    add_property,
    add_scheduler,
    expected_of,
    fail,
    files_are_here,
    kernel_of,
    listing,
    positive_seconds,
    race_of,
    writable,
)  # fmt: skip
from verify.prove.decide import Deciding, Listener
from verify.prove.describe import failure
from verify.prove.engine import BOUND, ENGINE, PROVABLE, settled
from verify.prove.explain import explanation
from verify.prove.export import write_all
from verify.prove.obligations import EACH, FAILED, LOCKS_KEPT, TOGETHER, UNKNOWN, UNTOUCHED, WITHOUT, Proof, Prover
from verify.prove.population import texts
from verify.prove.roles import ProjectionError
from verify.prove.scope import NOT_PROVED
from verify.prove.second import available, recheck
from verify.report import given
from verify.run import Run
from verify.scenario import Scenario
from verify.smt import interruptible
from verify.spread.alone import LostError
from verify.tracefile.record import KernelSpec
from verify.verdict import Exit, Result, Verdict


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m verify.prove",
        description="Proves properties of a kernel by lemmas that every operation of every routine preserves, so for any "
        "number of CPUs, pages and tasks and for runs of any length.  Where a proof fails, a real trace is looked for.  "
        "With no option: v5.11.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_kernel(p)
    add_property(p)
    add_memory(p)
    p.add_argument("--explain", action="store_true", help="print the proof as an argument, and what it assumes")
    p.add_argument("--terminates", action="store_true", help="does offline_pages() end?  ranks and waits, for any size")
    p.add_argument("--infer", action="store_true", help="find lemmas by Houdini, and prove from these alone")
    p.add_argument("--timeout", type=positive_seconds, metavar="S", help="give up after so many seconds: undecided")
    p.add_argument("--json", metavar="FILE", help="write the verdicts and all obligations as JSON")
    add_output(p)
    p.add_argument("--smt2", metavar="DIR", help="write each obligation as an SMT-LIB file; each must be unsat")
    p.add_argument("--second-opinion", action="store_true", help="check all obligations again with cvc5")
    add_scheduler(p)
    p.add_argument("--quiet", action="store_true", help="print nothing but violations; the exit code tells the rest")
    p.add_argument("--list", action="store_true", help="list kernels, mutants, properties and lemmas")
    return p


class ProofRun(Run, Listener):
    """A run of the proof; what becomes of it is told as it comes."""

    def __init__(
        self, options: argparse.Namespace, arguments: Sequence[str], kernel: type[KernelText], deadline: float | None
    ) -> None:
        """``arguments`` are what was typed."""
        Run.__init__(self, ENGINE, options, arguments, _SAID)
        self.kernel, self.deadline = kernel, deadline
        one_by_one = EACH if options.smt2 or options.second_opinion else TOGETHER
        depth = WITHOUT if options.explain else one_by_one
        elsewhere = None
        if options.scheduler:
            # takes a while to import, and is not always there
            from verify.prove.portions import on_workers

            elsewhere = on_workers(KernelSpec.of(options), options.memory, deadline, options.scheduler)
        self.deciding = Deciding(kernel, deadline, options.memory, depth, self, elsewhere)
        self.told: set[tuple[str, str]] = set()

    def properties(self) -> tuple[list[Property], bool]:
        """What to decide, what is expected to fail first; and whether to stop at the first violation."""
        if self.options.property and "all" not in self.options.property:
            return [find(name) for name in dict.fromkeys(self.options.property)], False
        first = race_of(self.kernel)
        if self.options.mutant and EVERY[self.options.mutant].breaks != EQUIVALENT:
            first = EVERY[self.options.mutant].breaks
        missing = [n for n in PROVABLE if not find(n).applies_to(self.kernel)]
        names = dict.fromkeys(
            [*missing, *([first] if first else []), *PROVABLE, *(PROPERTIES if self.options.property else ())]
        )
        return [find(name) for name in names], not self.options.property

    def ends(self) -> None:
        """The verdict on whether offline_pages() comes to its end, with the argument."""
        # nobody else needs it, and its import takes a while
        from verify.prove import termination

        self.say(f"{self.kernel.name}, {ENGINE}, sequential consistency")
        prover, proof = self.deciding.proved()
        if proof.all_failed:
            # what follows may rest only on lemmas that hold
            proof = self.deciding.without_what_fails()
        if proof.differs:
            raise ProjectionError(proof.differs)
        began = time.monotonic()
        parts = termination.Termination(self.kernel, prover, proof).parts
        verdict = termination.verdict(self.kernel, parts, time.monotonic() - began)
        self.say(termination.argument(parts))
        if verdict.result is not Result.PROVED:
            verdict = termination.traced(self.kernel, parts, self.deadline)
        self.take(verdict, headed=False)

    def infer(self) -> None:
        """Lemmas that Houdini finds, and what they prove without the hand-written ones."""
        # nobody else needs it, and its import takes a while
        from verify.prove import infer

        say = self.say
        say(f"{self.kernel.name}, {ENGINE} from inferred lemmas, sequential consistency")
        say(page.paragraph(f"bound: {BOUND}", "  ", "    "))
        prover = Prover(self.kernel, [find(name) for name in PROVABLE], self.deadline)
        began = time.monotonic()
        seen = infer.reached_rows(self.kernel, self.deadline)
        say(f"  {len(seen)} combinations of the vocabulary are reached; {time.monotonic() - began:.1f} s")
        houdini = infer.infer(prover, seen, lambda words: say(f"  {words}"), self.deadline)
        for clause in houdini.alive:
            say(f"    {houdini.result.words(clause)}")
        formula = houdini.formula()
        for name, follows in infer.implied(prover, formula):
            say(f"  hand-written {name:30} {'follows' if follows else 'does not follow'}")
        proof = infer.proof_from(prover, formula)
        for prop in prover.properties:
            verdict = settled(self.kernel, prop, proof)
            if verdict is None:
                why = proof.differs or "does not follow from the inferred lemmas"
                verdict = Verdict.on(self.kernel, prop.name, ENGINE, BOUND, Result.UNDECIDED, reason=why)
            self.take(verdict, headed=False)

    def decide(self) -> None:
        """Verdicts on the properties, and real traces where the proof fails."""
        properties, stop = self.properties()
        self.say(f"{self.kernel.name}, {ENGINE}, {MODELS[self.options.memory]}")
        self.say("\n".join([page.paragraph(f"bound: {BOUND}", "  ", "    "), *given(self.kernel.given)]))
        net = self.deciding.net(properties)
        for n, prop in enumerate(properties):
            verdict = self.take(net.held_against(self.deciding.verdict(prop, self._expected(prop))), headed=False)
            if verdict.result is Result.VIOLATED and stop:
                rest = [p.name for p in properties[n + 1 :] if p.applies_to(self.kernel)]
                if rest and not self.options.quiet:
                    print(f"  not decided: {', '.join(rest)} (--property all decides them too)")
                break
        asked = {p.name for p in properties}
        open_ = [n for n in NOT_PROVED if n not in asked and find(n).applies_to(self.kernel)]
        if open_ and not self.options.quiet and not self.options.property:
            open_words = (
                "what the lemmas do not decide, and why (verify.bmc and verify.explore do, within their bounds):"
            )
            print(page.paragraph(open_words, "  ", "    "))
            for name in open_:
                print(page.paragraph(f"{name}: {NOT_PROVED[name]}", "    ", "      "))

    def _expected(self, prop: Property) -> Result | None:
        expected = expected_of(self.options, self.kernel, prop, Scenario())
        if expected is Result.HOLDS:
            return Result.PROVED if prop.name in PROVABLE else None
        return expected

    def dropped(self, lemmas: Sequence[str]) -> None:
        """Say which lemmas fail."""
        fails = f"not inductive here: {', '.join(lemmas)}; what follows is proved without"
        self.say(page.paragraph(fails, "  ", "    "))

    def proved(self, proof: Proof) -> None:
        """Say what all obligations came to."""
        count = {r: sum(a.result == r for a in proof.answers) for r in {a.result for a in proof.answers}}
        failed = count.get(FAILED, 0) + count.get(UNKNOWN, 0)
        summary = (
            f"{proof.transitions} transitions x {len(proof.lemmas)} lemmas: {len(proof.answers)} obligations,"
            f" {count.get(UNTOUCHED, 0)} of them of lemmas that the transition does not touch;"
            f" {failed or 'none'} not proved; {proof.seconds:.1f} s"
        )
        self.say(page.paragraph(summary, "  ", "    "))
        if proof.vacuous:
            self.say(page.paragraph(f"never possible when the lemmas hold: {'; '.join(proof.vacuous)}", "  ", "    "))
        elif proof.open:
            told = f"it is not known of {len(proof.open)} transitions whether they are possible when the lemmas hold"
            self.say(page.paragraph(told, "  ", "    "))
        else:
            self.say("  each transition is possible when the lemmas hold")

    def failed(self, prop: Property, prover: Prover, proof: Proof) -> None:
        """Say on which obligation a property's proof fails."""
        if self.options.quiet or proof.differs or prover.late:
            return
        goals = {prop.name, *proof.rests_on(prop.name)}
        order = [*(n for n in reversed(proof.lemmas) if n in goals), prop.name, LOCKS_KEPT]
        guilty = next((a for name in order for a in proof.failed(name)), None)
        if guilty is None or (guilty.where, guilty.goal) in self.told:
            return
        self.told.add((guilty.where, guilty.goal))
        print("\n" + failure(prover, guilty) + "\n")

    def finish(self, interrupted: bool) -> Exit:
        """Write what was asked for and tell the exit code."""
        code, proof = self.code(interrupted), self.deciding.proof
        if proof is not None and proof.vacuous and any(v.result is Result.PROVED for v in self.verdicts):
            code = max(code, Exit.VACUOUS)
        if self.options.second_opinion and not interrupted:
            opinion = recheck(*self.deciding.proved(), self.deadline)
            code = max(code, opinion.code)
            self.say(f"  {opinion.words}")
        # of thousands, where nobody reads them
        told = proof.answers if proof and self.options.json else ()
        self.write(code, interrupted, obligations=[asdict(a) for a in told])
        if self.options.smt2 and not interrupted:
            try:
                number = write_all(*self.deciding.proved(), Path(self.options.smt2))
            except OSError as error:
                self.cannot_write(error)
            self.say(f"  {number} obligations written to {self.options.smt2}")
        return code


@command("python -m verify.prove")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.list:
        print(listing())
        for argument, words in ((BY_WORK_ITEM, "up to v5.15"), (argument_of(NEWEST), "from v6.0 on")):
            print(f"\nlemmas of the proof, {words}:")
            print("\n".join(f"  {lemma.name:36} {lemma.says}" for lemma in argument.lemmas.values()))
        return int(Exit.OK)
    if options.memory != "sc" and (options.terminates or options.infer):
        what = "--terminates" if options.terminates else "--infer"
        fail(f"python -m verify.prove: {what} is about sequential consistency: leave --memory {options.memory} out")
    try:
        files_are_here(options)
        kernel = kernel_of(options) or V5_11
        deadline = None if options.timeout is None else time.monotonic() + options.timeout
        run = ProofRun(options, sys.argv[1:] if arguments is None else arguments, kernel, deadline)
        run.properties()
        writable([options.json, options.trace, options.html])
        if options.smt2:
            Path(options.smt2).mkdir(parents=True, exist_ok=True)
        if options.second_opinion:
            available()
    except ModelError as error:
        fail(f"python -m verify.prove: {error}")
    except OSError as error:
        fail(f"python -m verify.prove: cannot write {error.filename}: {error.strerror}")
    # many small z3 objects and no cycles to speak of: collecting costs time and frees nothing
    gc.disable()
    interrupted = False
    try:
        if options.variant:
            check_reached(kernel, ", ".join(t.kind.name for t in texts(kernel)))
        try:
            with interruptible():
                if options.terminates:
                    run.ends()
                if options.infer:
                    run.infer()
                if options.property or not (options.terminates or options.infer):
                    run.decide()
                if options.explain:
                    print("\n" + explanation(*run.deciding.proved()))
        except KeyboardInterrupt:
            interrupted = True
            # the properties are not what is asked about with these
            run.interrupted(None if options.terminates or options.infer else len(run.properties()[0]))
        code = run.finish(interrupted)
    except LostError as error:
        print(f"python -m verify.prove: {error}", file=sys.stderr)
        return int(Exit.UNDECIDED)
    except TimeoutError as error:
        print(f"  out of time: {error}", file=sys.stderr)
        return int(Exit.UNDECIDED)
    except (ModelError, ProjectionError) as error:
        fail(f"python -m verify.prove: {error}")
    return run.end(code)


_SAID = {
    Exit.OK: "proved, for any size",
    Exit.VIOLATED: "a property is violated",
    Exit.UNDECIDED: "undecided",
    Exit.VACUOUS: "vacuous: an operation can never happen when the lemmas hold",
    Exit.DISAGREE: "a contradiction: see above",
    Exit.CRASHED: "a part of it crashed: see above",
}

if __name__ == "__main__":
    raise SystemExit(main())
