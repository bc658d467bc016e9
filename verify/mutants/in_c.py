"""``python -m verify.mutants --tree DIR``: mutants of a tree's C, each in a copy of the files that are read."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kernelmodel.ctext.edits import Edit, edited
from kernelmodel.ctext.kernel import kernel_from, read_whole
from kernelmodel.ctext.reader import Reading, symbols_of
from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError
from kernelmodel.vocabulary.mutants import C_MUTANTS, EQUIVALENT, CMutant
from properties.catalogue import NO_DEADLOCK, find
from verify import page
from verify.bmc.solve import Engine
from verify.explore.finite import Finite, default_pages
from verify.explore.solve import Explorer
from verify.forked import mapped
from verify.scenario import Scenario
from verify.verdict import Exit, Result, Verdict

#: what a control is asked
_CONTROL = "no_stray_page"


@dataclass(frozen=True, slots=True)
class CRow:
    """A mutant with its verdicts, bmc's and explore's; ``refused`` says why it could not be made or read."""

    mutant: CMutant
    verdicts: tuple[Verdict, ...]
    seconds: float
    refused: str = ""

    @property
    def killed(self) -> bool:
        """Whether an engine has found what it breaks, and the concrete model has confirmed it."""
        return any(v.result is Result.VIOLATED and v.replayed is not False for v in self.verdicts)

    @property
    def control(self) -> bool:
        """Whether it is one that must not be found."""
        return self.mutant.breaks == EQUIVALENT

    @property
    def as_expected(self) -> bool:
        """Whether it ends as it should."""
        return not self.refused and self.killed is not self.control

    def as_json(self) -> dict[str, Any]:
        """The row as JSON values."""
        return {
            "mutant": self.mutant.name, "function": self.mutant.function, "breaks": self.mutant.breaks,
            "refused": self.refused, "as_expected": self.as_expected, "seconds": self.seconds,
            "verdicts": [v.as_json() for v in self.verdicts],
        }  # fmt: skip


def names() -> list[str]:
    """The mutants of C."""
    return [m.name for m in C_MUTANTS]


def visit(spec: TreeSpec, chosen: Sequence[str], jobs: int) -> Iterator[CRow]:
    """The rows of some mutants of a tree, in their order; ModelError where the tree itself cannot be read."""
    _, reading = read_whole(spec)
    wanted = [m for m in C_MUTANTS if m.name in chosen]
    return mapped(functools.partial(judged, spec, files_of(reading)), wanted, jobs)


def files_of(reading: Reading) -> dict[str, str]:
    """The texts of all files that a reading has looked at."""
    paths = ["Makefile", *reading.files()]
    return {p: text for p in paths if (text := reading.tree.text(p)) is not None}


@contextmanager
def changed_tree(spec: TreeSpec, files: dict[str, str], file: str, function: str, edit: Edit) -> Iterator[TreeSpec]:
    """A copy of a tree's files with one function changed, as long as the block lasts."""
    changed = edited(files[file], function, edit, symbols_of(spec), file)
    with tempfile.TemporaryDirectory(prefix="straypage-") as made:
        for path, text in {**files, file: changed}.items():
            (Path(made) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(made) / path).write_text(text, encoding="utf-8")
        yield replace(spec, path=made, revision="", patch="")


def judged(spec: TreeSpec, files: dict[str, str], mutant: CMutant) -> CRow:
    """One mutant: made, read, and judged."""
    began = time.monotonic()
    try:
        with changed_tree(spec, files, mutant.file, mutant.function, mutant.edit) as copy:
            return CRow(mutant, _verdicts(kernel_from(str(copy)), mutant), time.monotonic() - began)
    except ModelError as error:
        return CRow(mutant, (), time.monotonic() - began, str(error))


def _verdicts(kernel: Any, mutant: CMutant) -> tuple[Verdict, ...]:
    prop = find(_CONTROL if mutant.breaks == EQUIVALENT else mutant.breaks)
    bound = Scenario(cpus=2, frees=1, allocs=1, updates=0).having(**mutant.tasks)
    kernel.sized(bound.config)
    found = []
    if prop is not NO_DEADLOCK and not prop.rest:
        found.append(Engine(kernel, bound.having(updates=1)).decide(prop))
    if not any(v.result is Result.VIOLATED for v in found):
        asked = [] if prop is NO_DEADLOCK else [prop]
        found += Explorer(kernel, Finite(bound, default_pages(bound))).decide(asked, deadlock=prop is NO_DEADLOCK)
    return tuple(found)


def line(row: CRow) -> str:
    """One row, for people."""
    if row.refused:
        told = f"REFUSED: {row.refused}"
    else:
        said = ", ".join(f"{v.engine} {v.result.value}" for v in row.verdicts)
        told = f"{'control' if row.control else row.mutant.breaks}: {said}; {row.seconds:.1f} s"
        told += "" if row.as_expected else "; NOT AS EXPECTED"
    return page.paragraph(f"{row.mutant.function}(): {told}", f"  {row.mutant.name:26}", " " * 30)


def summary(rows: Sequence[CRow]) -> str:
    """What they come to."""
    real, controls = [r for r in rows if not r.control], [r for r in rows if r.control]
    killed, kept = sum(r.killed for r in real), sum(r.as_expected for r in controls)
    return f"{killed} of {len(real)} mutants of the C found, {kept} of {len(controls)} controls hold"


def exit_code(rows: Sequence[CRow], interrupted: bool) -> Exit:
    """1 if one is not as it should be, 3 if something was not decided."""
    if any(not r.as_expected and not r.refused and not _open(r) for r in rows):
        return Exit.VIOLATED
    return Exit.UNDECIDED if interrupted or any(r.refused or _open(r) for r in rows) else Exit.OK


def _open(row: CRow) -> bool:
    return not row.killed and any(v.result is Result.UNDECIDED for v in row.verdicts)
