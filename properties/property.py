"""What a property is: data over abstract cells, which every engine evaluates.

A *state property* must hold at each instant of its window; a *step property* is judged whenever an operation of a
certain kind fires, from the cells just before it and the choices that it makes; a *property at rest* is judged where a
run has ended: every task has returned, and the daemons wait for work that there is not.  Each comes as checks: the
premise shows that the window is reached (the ``sometimes`` twin), the violation is what must never be true.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kernelmodel.config import Config
from kernelmodel.memory.state import State
from kernelmodel.ops import Op
from kernelmodel.terms import Term
from kernelmodel.text import has_routine


@dataclass(frozen=True, slots=True)
class Check:
    """One instance of a property: for one CPU, or for the machine as a whole (``cpu`` None).

    ``found`` says in kernel words what is wrong where the violation is true; ``{n}`` in it stands for ``amount`` pages.
    """

    premise: Term
    violation: Term
    found: str
    cpu: int | None = None
    amount: Term | None = None


@dataclass(frozen=True, slots=True)
class Property:
    """A property of the catalogue.

    ``statement`` is in kernel words, ``source`` the code or changelog that it is from, ``window`` the time at which it
    must hold.  ``broken_by`` names a mutant or kernel that breaks it.  ``needs`` are routines without which it says
    nothing, ``needs_tasks`` the tasks of a bounded run (``allocs``) of which it speaks.  Exactly one of ``state``,
    ``step``, ``rest`` and ``stuck`` (judged where nobody can go on, though not every task has returned) is given;
    ``concrete`` is what only a run of the concrete model can judge beside it (sentences for what is wrong).
    ``quiet_cpu``: a check for a CPU speaks only of moments at which that CPU has interrupts on.
    """

    name: str
    statement: str
    source: str
    window: str
    broken_by: str
    state: Callable[[Config], Sequence[Check]] | None = None
    step: Callable[[Config, Op], Sequence[Check]] | None = None
    rest: Callable[[Config], Sequence[Check]] | None = None
    concrete: Callable[[State], Sequence[str]] | None = None
    needs: tuple[str, ...] = ()
    needs_tasks: tuple[str, ...] = ()
    quiet_cpu: bool = False
    stuck: bool = False

    def applies_to(self, kernel: type) -> bool:
        """Whether the kernel has the routines of which this property speaks."""
        return all(has_routine(kernel, routine) for routine in self.needs)

    def state_checks(self, config: Config) -> Sequence[Check]:
        """The checks of a state property; none for a step property."""
        return self.state(config) if self.state else ()

    def rest_checks(self, config: Config) -> Sequence[Check]:
        """The checks of a property at rest; none for another one."""
        return self.rest(config) if self.rest else ()

    def step_checks(self, config: Config, op: Op) -> Sequence[Check]:
        """The checks of a step property that ``op`` calls for."""
        return self.step(config, op) if self.step else ()
