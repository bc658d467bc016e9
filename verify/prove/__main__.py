"""``python -m verify.prove``: inductive proofs, for any number of CPUs, pages and tasks, and runs of any length."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
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
from verify.folding import columns_of
from verify.options import (
    EXIT_CODES,
    Parser,
    add_kernel,
    add_memory,
    add_output,
    add_property,
    expected_of,
    fail,
    kernel_of,
    listing,
    positive_seconds,
    race_of,
    writable,
)  # fmt: skip
from verify.output import write_traces
from verify.prove.describe import failure
from verify.prove.engine import BOUND, ENGINE, PROVABLE, inapplicable, prove, searched, settled, weakened
from verify.prove.explain import explanation
from verify.prove.export import write_all
from verify.prove.obligations import EACH, FAILED, LOCKS_KEPT, TOGETHER, UNKNOWN, UNTOUCHED, WITHOUT, Proof, Prover
from verify.prove.population import texts
from verify.prove.roles import ProjectionError
from verify.prove.scope import NOT_PROVED
from verify.prove.second import available, recheck
from verify.report import as_json, given, line, write_json
from verify.runs import Net, Values
from verify.scenario import Scenario
from verify.verdict import Exit, Result, Verdict, worst


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
    p.add_argument("--quiet", action="store_true", help="print nothing but violations; the exit code tells the rest")
    p.add_argument("--list", action="store_true", help="list kernels, mutants, properties and lemmas")
    return p


@dataclass(slots=True)
class Run:
    """A command under way."""

    options: argparse.Namespace
    kernel: type[KernelText]
    deadline: float | None
    verdicts: list[Verdict] = field(default_factory=list)
    prover: Prover | None = None
    proof: Proof | None = None
    #: what is left of it without the lemmas that fail
    left: Proof | None = None
    said: set[tuple[str, str]] = field(default_factory=set)

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

    def proved(self) -> tuple[Prover, Proof]:
        """All obligations, checked once; one by one where some fail, to tell which property rests on what."""
        if self.prover is None or self.proof is None:
            self.prover = Prover(self.kernel, [find(name) for name in PROVABLE], self.deadline, self.options.memory)
            one_by_one = EACH if self.options.smt2 or self.options.second_opinion else TOGETHER
            depth = WITHOUT if self.options.explain else one_by_one
            self.proof = prove(self.prover, depth)
            if depth == TOGETHER and self.proof.all_failed and not self.prover.late:
                self.proof = prove(self.prover, EACH)
            self._summary(self.proof)
        return self.prover, self.proof

    def ends(self) -> None:
        """The verdict on whether offline_pages() comes to its end, with the argument."""
        # nobody else needs it, and its import takes a while
        from verify.prove import termination

        say = (lambda *_: None) if self.options.quiet else print
        say(f"{self.kernel.name}, {ENGINE}, sequential consistency")
        prover, proof = self.proved()
        if proof.all_failed:
            # what follows may rest only on lemmas that hold
            proof = self._weakened(prover, proof)
        if proof.differs:
            raise ProjectionError(proof.differs)
        began = time.monotonic()
        parts = termination.Termination(self.kernel, prover, proof).parts
        verdict = termination.verdict(self.kernel, parts, time.monotonic() - began)
        say(termination.argument(parts))
        if verdict.result is not Result.PROVED:
            verdict = termination.traced(self.kernel, parts, self.deadline)
        self.verdicts.append(verdict)
        if not self.options.quiet or verdict.told:
            print(line(verdict), flush=True)
        if verdict.trace:
            print("\n" + columns_of(verdict, self.options.full) + "\n", flush=True)

    def infer(self) -> None:
        """Lemmas that Houdini finds, and what they prove without the hand-written ones."""
        # nobody else needs it, and its import takes a while
        from verify.prove import infer

        say = (lambda *_: None) if self.options.quiet else print
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
                verdict = Verdict(prop.name, self.kernel.name, ENGINE, BOUND, Result.UNDECIDED, reason=why)
            self.verdicts.append(verdict)
            say(line(verdict))

    def decide(self) -> None:
        """Verdicts on the properties, and real traces where the proof fails."""
        properties, stop = self.properties()
        if not self.options.quiet:
            print(f"{self.kernel.name}, {ENGINE}, {MODELS[self.options.memory]}")
            print("\n".join([page.paragraph(f"bound: {BOUND}", "  ", "    "), *given(self.kernel.given)]))
        net = Net(self.kernel, Scenario(), properties, Values(any_size=True, memory=self.options.memory))
        for n, prop in enumerate(properties):
            verdict = net.held_against(self._verdict(prop))
            self.verdicts.append(verdict)
            if not self.options.quiet or verdict.told:
                print(line(verdict), flush=True)
            if verdict.trace:
                print("\n" + columns_of(verdict, self.options.full) + "\n", flush=True)
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

    def _verdict(self, prop: Property) -> Verdict:
        expected = expected_of(self.options, self.kernel, prop, Scenario())
        if expected is Result.HOLDS:
            expected = Result.PROVED if prop.name in PROVABLE else None
        verdict, why = inapplicable(self.kernel, prop), ""
        if verdict is None and prop.name in PROVABLE:
            try:
                prover, proof = self.proved()
                verdict = settled(self.kernel, prop, proof)
                if verdict is None and expected is Result.VIOLATED:
                    self._say_why(prop, prover, proof)
                elif verdict is None:
                    verdict = settled(self.kernel, prop, self._weakened(prover, proof))
                    if verdict is None:
                        self._say_why(prop, prover, proof)
            except ProjectionError as error:
                why = str(error)
        return replace(
            verdict or searched(self.kernel, prop, self.proof, self.deadline, why, self.options.memory),
            expected=expected,
            memory_model=MODELS[self.options.memory],
            given=self.kernel.given,
        )

    def _weakened(self, prover: Prover, proof: Proof) -> Proof:
        """What is left of the proof without the lemmas that fail; worked out once."""
        if self.left is None:
            self.left = proof if proof.differs or prover.late else weakened(prover, proof)
            if self.left.dropped and not self.options.quiet:
                fails = f"not inductive here: {', '.join(self.left.dropped)}; what follows is proved without"
                print(page.paragraph(fails, "  ", "    "))
        return self.left

    def _summary(self, proof: Proof) -> None:
        if self.options.quiet:
            return
        count = {r: sum(a.result == r for a in proof.answers) for r in {a.result for a in proof.answers}}
        failed = count.get(FAILED, 0) + count.get(UNKNOWN, 0)
        summary = (
            f"{proof.transitions} transitions x {len(proof.lemmas)} lemmas: {len(proof.answers)} obligations,"
            f" {count.get(UNTOUCHED, 0)} of them of lemmas that the transition does not touch;"
            f" {failed or 'none'} not proved; {proof.seconds:.1f} s"
        )
        print(page.paragraph(summary, "  ", "    "))
        if proof.vacuous:
            print(page.paragraph(f"never possible when the lemmas hold: {'; '.join(proof.vacuous)}", "  ", "    "))
        else:
            print("  each transition is possible when the lemmas hold")

    def _say_why(self, prop: Property, prover: Prover, proof: Proof) -> None:
        """The obligation that a property's proof fails on."""
        if self.options.quiet or proof.differs or prover.late:
            return
        goals = {prop.name, *proof.rests_on(prop.name)}
        order = [*(n for n in reversed(proof.lemmas) if n in goals), prop.name, LOCKS_KEPT]
        guilty = next((a for name in order for a in proof.failed(name)), None)
        if guilty is None or (guilty.where, guilty.goal) in self.said:
            return
        self.said.add((guilty.where, guilty.goal))
        print("\n" + failure(prover, guilty) + "\n")

    def finish(self, interrupted: bool) -> Exit:
        """Write what was asked for and tell the exit code."""
        code = worst(self.verdicts)
        proved = any(v.result is Result.PROVED for v in self.verdicts)
        if proved and self.proof is not None and self.proof.vacuous:
            code = max(code, Exit.VACUOUS)
        if interrupted:
            code = max(code, Exit.UNDECIDED)
        if self.options.second_opinion and not interrupted:
            opinion = recheck(*self.proved(), self.deadline)
            code = max(code, opinion.code)
            if not self.options.quiet:
                print(f"  {opinion.words}")
        try:
            if self.options.json:
                record = as_json(self.verdicts, sys.argv[1:], interrupted)
                obligations = [asdict(a) for a in self.proof.answers] if self.proof else []
                write_json(self.options.json, {**record, "exit": int(code), "obligations": obligations})
            write_traces(self.verdicts, self.options)
            if self.options.smt2 and not interrupted:
                number = write_all(*self.proved(), Path(self.options.smt2))
                if not self.options.quiet:
                    print(f"  {number} obligations written to {self.options.smt2}")
        except OSError as error:
            fail(f"python -m verify.prove: cannot write {error.filename}: {error.strerror}")
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
        kernel = kernel_of(options) or V5_11
        deadline = None if options.timeout is None else time.monotonic() + options.timeout
        run = Run(options, kernel, deadline)
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
            if options.terminates:
                run.ends()
            if options.infer:
                run.infer()
            if options.property or not (options.terminates or options.infer):
                run.decide()
            if options.explain:
                print("\n" + explanation(*run.proved()))
        except KeyboardInterrupt:
            interrupted = True
            print(
                f"\n{ENGINE}: interrupted after {len(run.verdicts)} properties; what was decided is kept",
                file=sys.stderr,
            )
        code = run.finish(interrupted)
    except TimeoutError as error:
        print(f"  out of time: {error}", file=sys.stderr)
        return int(Exit.UNDECIDED)
    except (ModelError, ProjectionError) as error:
        fail(f"python -m verify.prove: {error}")
    if not options.quiet:
        print(f"exit {int(code)}: {_SAID[code]}")
    return int(code)


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
