"""The queries that decided a property as one SMT-LIB script: `z3 FILE` gives the same answers, one a line."""

from __future__ import annotations

from collections.abc import Sequence

from verify.bmc.solve import Query
from verify.verdict import Verdict


def script(verdict: Verdict, queries: Sequence[Query]) -> str:
    """All queries of one property, each after a (reset), with the expected answer as a comment."""
    parts = [f"; {verdict.kernel}: {verdict.property}: {verdict.result.value}\n; bound: {verdict.bound}\n"]
    for q in queries:
        parts.append(f"(reset)\n; {q.title}: expected {q.answer}\n(set-option :smt.arith.solver 2)\n{q.script}")
    return "\n".join(parts)
