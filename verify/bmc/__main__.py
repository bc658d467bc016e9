"""``python -m verify.bmc``: bounded proofs and counterexamples, for all values of high, batch and list lengths."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from kernelmodel.errors import ModelError
from kernelmodel.text import KernelText
from kernelmodel.variants.overrides import check_reached
from kernelmodel.versions.base import Base
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import find
from properties.property import Property
from verify.bmc.pool import decide_all, net_of
from verify.bmc.smt2 import script
from verify.bmc.solve import ENGINE, Engine
from verify.command import command, write_text
from verify.options import (
    ADD_A_TASK,
    EXIT_CODES,
    Parser,
    add_kernel,
    add_memory,
    add_output,
    add_property,
    add_scenario,
    expected_of,
    fail,
    kernel_of,
    listing,
    positive_seconds,
    properties_of,
    race_of,
    scenario_of,
    writable,
)  # fmt: skip
from verify.report import heading
from verify.run import Run
from verify.scenario import Scenario
from verify.verdict import Exit, Result, Verdict, worst


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m verify.bmc",
        description="Decides the properties of a kernel for all interleavings of a set of tasks, and for all values of "
        "high, batch and initial list lengths, with Z3.  With no option: v5.11 is verified, then the race of `base`, "
        "which the patch closes, is shown.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_kernel(p)
    add_scenario(p)
    add_property(p)
    add_memory(p)
    p.add_argument("--timeout", type=positive_seconds, metavar="S", help="give up after so many seconds: undecided")
    p.add_argument("--json", metavar="FILE", help="write the verdicts as JSON (-: to standard output)")
    add_output(p)
    p.add_argument("--smt2", metavar="FILE", help="write the queries that decided as SMT-LIB, to run with `z3 FILE`")
    p.add_argument("--quiet", action="store_true", help="print nothing but violations; the exit code tells the rest")
    p.add_argument("--list", action="store_true", help="list kernels, mutants and properties")
    return p


@dataclass(slots=True)
class BoundedRun(Run):
    """A run of bounded proofs; the race of `base` that it may show as well is no verdict on the kernel that was asked about."""

    scenario: Scenario = field(default_factory=Scenario)
    deadline: float | None = None
    demonstration: list[Verdict] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)

    def engine(self, kernel: type[KernelText], scenario: Scenario | None = None, hunting: bool = False) -> Engine:
        """An engine for a kernel within this run's bound, or another; ``hunting`` where it is known that it does not hold."""
        keep = bool(self.options.smt2)
        bound = scenario or self.scenario
        return Engine(kernel, bound, self.deadline, keep, self.progress, self.options.memory, hunting)

    def one_by_one(self, kernel: type[KernelText], properties: Sequence[Property]) -> None:
        """Decide properties of one kernel until one is violated."""
        engine = self.engine(kernel, hunting=bool(self.options.mutant))
        net = net_of(engine, properties)
        with closing(decide_all([(engine, p) for p in properties])) as found:
            for n, prop in enumerate(properties):
                verdict = self._judged(engine, prop, net.held_against(next(found)))
                if verdict.result is Result.VIOLATED:
                    self.left_out([p.name for p in properties[n + 1 :] if p.applies_to(kernel)])
                    break

    def all_of(self, kernel: type[KernelText], properties: Sequence[Property], with_race: bool) -> None:
        """Decide all properties of one kernel, and show the race of `base` if asked."""
        engine = self.engine(kernel)
        net = net_of(engine, properties)
        work = [(engine, p) for p in properties]
        if with_race:
            # before the patch nobody disables pcplists
            work.append((self.engine(Base, self.scenario.having(hwpoisons=0), hunting=True), find(race_of(Base))))
        self.progress("proving")
        for (asked, prop), verdict in zip(work, decide_all(work), strict=True):
            if asked is engine:
                self._judged(asked, prop, net.held_against(verdict))
                continue
            self.progress("")
            self.say(f"\nbefore the patch, the race that it closes:\n{heading(verdict)}")
            self._judged(asked, prop, verdict)
            self.demonstration.append(self.verdicts.pop())

    def _judged(self, engine: Engine, prop: Property, verdict: Verdict) -> Verdict:
        expected = expected_of(self.options, engine.kernel, prop, self.scenario)
        if self.options.smt2:
            self.queries.append(script(verdict, engine.queries(prop)))
        return self.take(replace(verdict, expected=expected))

    def finish(self, interrupted: bool) -> Exit:
        """Write what was asked for and tell the exit code."""
        code = max(self.code(interrupted), worst(_as_demonstration(v) for v in self.demonstration))
        self.verdicts += self.demonstration
        self.write(code, interrupted, scenario=self.scenario.numbers())
        if self.options.smt2:
            try:
                write_text(self.options.smt2, "\n".join(self.queries))
            except OSError as error:
                self.cannot_write(error)
        return code


def _as_demonstration(verdict: Verdict) -> Verdict:
    """The race of `base` is expected: shown, it is as good as a property that holds."""
    if verdict.result is Result.VIOLATED and verdict.replayed and verdict.as_expected:
        return replace(verdict, result=Result.HOLDS, expected=None)
    return verdict


@command("python -m verify.bmc")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.list:
        print(listing())
        return int(Exit.OK)
    try:
        kernel = kernel_of(options)
        scenario = scenario_of(options, kernel)
        properties, stop = properties_of(options)
        writable([options.json, options.trace, options.html, options.smt2])
    except ModelError as error:
        fail(f"python -m verify.bmc: {error}")
    # many small z3 objects and no cycles to speak of: collecting costs a tenth of the time and frees nothing
    gc.disable()
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    typed = sys.argv[1:] if arguments is None else arguments
    run = BoundedRun(ENGINE, options, typed, scenario=scenario, deadline=deadline)
    interrupted = False
    try:
        if options.variant and kernel is not None:
            run.engine(kernel).model(misplaced=False)
            check_reached(kernel, scenario.tasks_in_words(), ADD_A_TASK)
        if kernel is not None and stop:
            run.one_by_one(kernel, properties)
        else:
            run.all_of(kernel or V5_11, properties, with_race=kernel is None and not options.property)
    except KeyboardInterrupt:
        interrupted = True
        run.interrupted(len(properties))
    except ModelError as error:
        fail(f"python -m verify.bmc: {error}")
    return run.end(run.finish(interrupted))


if __name__ == "__main__":
    raise SystemExit(main())
