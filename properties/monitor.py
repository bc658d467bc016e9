"""Evaluates properties on a running machine: the second opinion on every trace, and the invariants of the tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kernelmodel.machine import Machine, Task
from kernelmodel.ops import Op
from kernelmodel.terms import Term, evaluate
from properties.property import Check, Property


@dataclass(frozen=True, slots=True)
class Violation:
    """A property found broken: by which step, in kernel words, and which concrete sentences say so."""

    name: str
    found: str
    step: int
    check: Check | None = None


def at_rest(machine: Machine) -> bool:
    """Whether a run has ended: there were tasks, all have returned, and no drain worker has work."""
    tasks = [t for t in machine.tasks if t not in machine.workers]
    if not tasks or not all(t.done for t in tasks):
        return False
    waiting = [w for w in machine.workers if isinstance(w.pending, Op) and w.pending.tag == "work_begin"]
    return len(waiting) == len(machine.workers) and all(machine.why_not(w) for w in machine.workers)


class Monitor:
    """A watcher of a machine that evaluates properties at every step and remembers which premises were reached."""

    def __init__(self, machine: Machine, properties: Iterable[Property]) -> None:
        """Watch ``machine`` from now on; properties that say nothing about its kernel are left out."""
        self.properties = [p for p in properties if p.applies_to(type(machine.kernel))]
        self.config = machine.config
        self.violations: list[Violation] = []
        self.reached: set[str] = set()
        self._states = {p.name: p.state_checks(machine.config) for p in self.properties}
        self._rests = {p.name: p.rest_checks(machine.config) for p in self.properties if p.rest}
        self._due: dict[str, tuple[Property, Check]] = {}
        machine.watchers.append(self)
        self._look(machine)

    def terms(self, task: Task, op: Op) -> Mapping[str, Term]:
        """The premises and violations of the step properties that ``op`` calls for."""
        del task
        self._due = {}
        for p in self.properties:
            for i, check in enumerate(p.step_checks(self.config, op)):
                self._due[f"{p.name}/{i}"] = (p, check)
        pairs = [(key, check) for key, (_, check) in self._due.items()]
        return {f"{k}/p": c.premise for k, c in pairs} | {f"{k}/v": c.violation for k, c in pairs}

    def stepped(self, machine: Machine, task: Task, op: Op, values: Mapping[str, int]) -> None:
        """Judge the step that has just been made and the state after it."""
        del task, op
        for key, (p, check) in self._due.items():
            self._note(machine, p, check, bool(values[f"{key}/p"]), bool(values[f"{key}/v"]))
        self._look(machine)

    def _look(self, machine: Machine) -> None:
        state = machine.state
        for p in self.properties:
            for check in self._states[p.name]:
                premise, violation = (evaluate(t, state.load, {}) for t in (check.premise, check.violation))
                self._note(machine, p, check, bool(premise), bool(violation))
            for sentence in p.concrete(state) if p.concrete else ():
                self.violations.append(Violation(p.name, sentence, len(machine.history)))
        if self._rests and at_rest(machine):
            for p in self.properties:
                for check in self._rests.get(p.name, ()):
                    violated = evaluate(check.violation, state.load, {})
                    self._note(machine, p, check, bool(evaluate(check.premise, state.load, {})), bool(violated))

    def _note(self, machine: Machine, p: Property, check: Check, premise: bool, violated: bool) -> None:
        if premise or violated:
            self.reached.add(p.name)
        if violated:
            words = check.found
            if check.amount is not None:
                n = evaluate(check.amount, machine.state.load, {})
                words = words.format(n=f"{n} page{'' if n == 1 else 's'}")
            self.violations.append(Violation(p.name, words, len(machine.history), check))
