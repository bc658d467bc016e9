"""A failed obligation in kernel words: the operation, the lemma, and the states before and after it."""

from __future__ import annotations

from collections.abc import Mapping

import z3

from kernelmodel.cells import CELLS, disabler
from verify.prove.obligations import GHOSTS_JUSTIFIED, LOCKS_KEPT, START, Answer, Prover
from verify.prove.roles import Step
from verify.prove.system import NOBODY, SECTION, System, Transition
from verify.smt import Expr


def failure(prover: Prover, answer: Answer) -> str:
    """Why an obligation fails, for people; the states are what the lemmas allow, not necessarily reachable."""
    transition, model, after = prover.counterexample(answer)
    lemma, ghosts = prover.system.argument.lemmas.get(answer.goal), prover.system.argument.ghosts
    lines = []
    if answer.where == START:
        lines.append("not so where everything begins")
    elif transition is None:
        lines.append(f"the lemmas do not imply {answer.goal}")
    else:
        lines.append(f"not preserved by: {operation(transition)}")
    if lemma is not None:
        lines.append(f"lemma {lemma.name}: {lemma.says} ({lemma.source})")
    elif answer.goal == LOCKS_KEPT:
        lines.append("that mutexes exclude: a task that holds one keeps it until it unlocks it")
    elif answer.goal == GHOSTS_JUSTIFIED:
        lines.append("a ghost does not mean what it says: " + "; ".join(f"{g.name}: {g.meaning}" for g in ghosts))
    else:
        lines.append(f"property {answer.goal}")
    if model is None:
        lines.append("the solver gave no state: out of time, or it cannot tell")
        return "\n".join(lines)
    before = state(prover.system, model, {})
    lines.append("before, for a CPU c and a zone (what the lemmas allow, perhaps not reachable):")
    lines += [f"  {text}" for text in before]
    if transition is not None:
        lines.append("after:")
        changed = [t for t in state(prover.system, model, after) if t not in before]
        lines += [f"  {text}" for text in changed] or ["  the same"]
    return "\n".join(lines)


def operation(transition: Transition) -> str:
    """An operation with its call stack."""
    step = transition.step
    calls = [f"{s}()" for s in step.stack]
    on = " on CPU c" if transition.part == SECTION or step.irqs_off or step.inside else ""
    return f"{': '.join([*calls, step.text])} [{step.kind.name}{on}]"


def state(system: System, model: z3.ModelRef, changes: Mapping[str, Expr]) -> list[str]:
    """The values of a state as lines."""

    def value(name: str) -> Expr:
        return model.eval(changes.get(name, system.variables[name]), model_completion=True)

    lines = [
        f"{what}: {_where(steps, value(name).as_long())}"
        for what, name, steps in (
            ("holder of pcp_batch_high_lock", "holder.at", system.holder_steps),
            ("task in a critical section of CPU c's pcplist", "section.at", system.section_steps),
            ("CPU c's drain worker", "worker.at", system.worker_steps),
        )
        if steps
    ]
    cells = [name for name in system.variables if "[" in name]
    lists = {str(c) for c in system.followed if CELLS[c.name].where == "pcplist"}
    lines += [f"{_c_name(system, name)} = {value(name)}" for name in cells if name not in lists]
    length = sum(value(name).as_long() for name in cells if name in lists)
    lines.append(f"pages on pcp[c]->lists: {length}")
    lines += [
        f"{g.meaning}: {'yes' if z3.is_true(value(f'holder.{g.name}')) else 'no'}" for g in system.argument.ghosts
    ]
    return lines


def _where(steps: Mapping[int, Step], uid: int) -> str:
    if uid == NOBODY:
        return "nobody"
    if uid not in steps:
        return "has returned without unlocking"
    return f"about to do {steps[uid].text}{_inside(steps[uid])} [{steps[uid].kind.name}]"


def _inside(step: Step) -> str:
    return f" in {step.stack[-1]}()" if step.stack else ""


def _c_name(system: System, name: str) -> str:
    cell = next(c for c in system.followed if str(c) == name)
    if CELLS[cell.name].c:
        return CELLS[cell.name].in_c(cell.name, ["c" if x == system.cpu else x for x in cell.index])
    if cell == disabler(system.zone):
        return "disabled by task"
    return f"{cell.name}[{','.join('c' if x == system.cpu else str(x) for x in cell.index)}]"
