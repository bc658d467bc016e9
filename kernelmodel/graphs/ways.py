"""What the conditions of a way through a control graph say of what an operation has returned."""

from __future__ import annotations

from collections.abc import Iterable

from kernelmodel.terms import Term, lnot, reg


def told(register: str, conditions: Iterable[Term]) -> bool | None:
    """The truth value of a register, such as "3.0", on a way; None where the way does not say."""
    returned = reg(register, "bool")
    keys = {c.key for c in conditions}
    if returned.key in keys:
        return True
    return False if lnot(returned).key in keys else None
