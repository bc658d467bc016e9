"""The columns of a verdict, folded or not, for commands that start without the concrete model."""

from __future__ import annotations

from verify.verdict import Verdict


def columns_of(verdict: Verdict, full: bool) -> str:
    """The columns of a verdict's counterexample: folded, or all steps; empty if there is none."""
    if not full or not verdict.schedule:
        return verdict.trace
    # brings the concrete machine and more: only for those who ask
    from verify.output import unfolded

    return unfolded(verdict)
