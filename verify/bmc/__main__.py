"""``python -m verify.bmc``: bounded proofs and counterexamples, for all values of high, batch and list lengths."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from kernelmodel.errors import ModelError
from kernelmodel.text import KernelText
from kernelmodel.variants.overrides import check_reached
from kernelmodel.versions.base import Base
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import find
from properties.property import Property
from verify.bmc.pool import decide_all
from verify.bmc.smt2 import script
from verify.bmc.solve import ENGINE, Engine
from verify.command import command, write_text
from verify.folding import columns_of
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
from verify.output import write_traces
from verify.report import SAID, as_json, heading, line, not_checked, write_json
from verify.runs import Net, Values
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
class Run:
    """A command under way: what was decided so far is kept whatever comes."""

    options: argparse.Namespace
    scenario: Scenario
    deadline: float | None
    verdicts: list[Verdict] = field(default_factory=list)
    demonstration: list[Verdict] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    net: Net | None = None

    def engine(self, kernel: type[KernelText], scenario: Scenario | None = None) -> Engine:
        """An engine for a kernel within this run's bound, or another."""
        keep = bool(self.options.smt2)
        return Engine(kernel, scenario or self.scenario, self.deadline, keep, self._progress, self.options.memory)

    def one_by_one(self, kernel: type[KernelText], properties: Sequence[Property]) -> None:
        """Decide properties of one kernel until one is violated: the first alone, and if that holds the others together."""
        engine = self.engine(kernel)
        self._spread_net(kernel, properties)
        found = chain((engine.decide(p) for p in properties[:1]), decide_all([(engine, p) for p in properties[1:]]))
        for n, (prop, decided) in enumerate(zip(properties, found, strict=True)):
            verdict = self._take(engine, prop, decided, self.verdicts)
            if verdict.result is Result.VIOLATED:
                rest = [p.name for p in properties[n + 1 :] if p.applies_to(kernel)]
                if rest and not self.options.quiet:
                    print(not_checked(rest))
                break

    def all_of(self, kernel: type[KernelText], properties: Sequence[Property], with_race: bool) -> None:
        """Decide all properties of one kernel, and show the race of `base` if asked."""
        engine = self.engine(kernel)
        self._spread_net(kernel, properties)
        work = [(engine, p) for p in properties]
        if with_race:
            # before the patch nobody disables pcplists
            work.append((self.engine(Base, self.scenario.having(hwpoisons=0)), find(race_of(Base))))
        self._progress("proving")
        for (asked, prop), verdict in zip(work, decide_all(work), strict=True):
            if asked is not engine and not self.options.quiet:
                print("\nbefore the patch, the race that it closes:")
            self._take(asked, prop, verdict, self.verdicts if asked is engine else self.demonstration)

    def _spread_net(self, kernel: type[KernelText], properties: Sequence[Property]) -> None:
        self.net = Net(
            kernel,
            self.scenario,
            [p for p in properties if not p.rest],
            Values(rounds=True, memory=self.options.memory),
        )

    def _take(self, engine: Engine, prop: Property, verdict: Verdict, into: list[Verdict]) -> Verdict:
        expected = expected_of(self.options, engine.kernel, prop, self.scenario)
        verdict = replace(verdict, expected=expected, scenario=engine.scenario.numbers(), given=engine.kernel.given)
        verdict = self.net.held_against(verdict) if self.net else verdict
        self._progress("")
        if not into and not self.options.quiet:
            print(heading(verdict))
        into.append(verdict)
        if self.options.smt2:
            self.queries.append(script(verdict, engine.queries(prop)))
        self._print(verdict)
        return verdict

    def _print(self, verdict: Verdict) -> None:
        if not self.options.quiet or verdict.told:
            print(line(verdict), flush=True)
        if verdict.trace:
            print("\n" + columns_of(verdict, self.options.full) + "\n", flush=True)

    def _progress(self, text: str) -> None:
        if sys.stderr.isatty() and not self.options.quiet:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def finish(self, interrupted: bool) -> Exit:
        """Write what was asked for and tell the exit code."""
        every = [*self.verdicts, *self.demonstration]
        code = max(worst(self.verdicts), worst(_as_demonstration(v) for v in self.demonstration))
        if interrupted:
            code = max(code, Exit.UNDECIDED)
        record = {**as_json(every, sys.argv[1:], interrupted), "exit": int(code), "scenario": self.scenario.numbers()}
        try:
            if self.options.json:
                write_json(self.options.json, record)
            write_traces(every, self.options)
            if self.options.smt2:
                write_text(self.options.smt2, "\n".join(self.queries))
        except OSError as error:
            fail(f"python -m verify.bmc: cannot write {error.filename}: {error.strerror}")
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
        scenario = scenario_of(options)
        properties, stop = properties_of(options)
        writable([options.json, options.trace, options.html, options.smt2])
    except ModelError as error:
        fail(f"python -m verify.bmc: {error}")
    # many small z3 objects and no cycles to speak of: collecting costs a tenth of the time and frees nothing
    gc.disable()
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    run = Run(options, scenario, deadline)
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
        decided = len(run.verdicts) + len(run.demonstration)
        print(f"\n{ENGINE}: interrupted after {decided} of {len(properties)} properties; what was decided is kept",
              file=sys.stderr)  # fmt: skip
    except ModelError as error:
        fail(f"python -m verify.bmc: {error}")
    code = run.finish(interrupted)
    if not options.quiet:
        print(f"exit {int(code)}: {SAID[code]}")
    return int(code)


if __name__ == "__main__":
    raise SystemExit(main())
