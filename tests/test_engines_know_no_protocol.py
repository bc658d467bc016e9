"""How much engines know of the kernel: names of cells, locks and tasks in verify/, and what they look at.

An engine runs what a kernel describes (DESIGN 13).  The number of names only goes down: who adds one has to say what it is
in the description instead.  ``python tests/test_engines_know_no_protocol.py`` prints them by file.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from kernelmodel.cells import CELLS, MUTEXES
from kernelmodel.tasks import TASKS

ROOT = Path(__file__).parent.parent
#: ours, whatever kernels of their own other tests of this process load
KNOWN = frozenset((*CELLS, *MUTEXES, *TASKS))
#: how many there are still; the goal is none
MOST = 80


def engines() -> Iterator[tuple[str, ast.Module]]:
    """Each module of verify/, by its path."""
    for file in sorted((ROOT / "verify").rglob("*.py")):
        # a recorder of real machines runs no kernel's text: its names are those of its own events
        if "observe" in file.parts:
            continue
        yield str(file.relative_to(ROOT)), ast.parse(file.read_text(encoding="utf-8"))


def names() -> Counter[tuple[str, str]]:
    """How often each name stands in each module, as a string of its own."""
    found: Counter[tuple[str, str]] = Counter()
    for file, module in engines():
        for node in ast.walk(module):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in KNOWN:
                found[file, node.value] += 1
    return found


def tags_looked_at() -> list[str]:
    """Where an engine asks for the tag of an operation: that is for properties."""
    found = []
    for file, module in engines():
        for node in ast.walk(module):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                about = [s for s in sides if isinstance(s, ast.Attribute) and s.attr == "tag"]
                if about and any(isinstance(s, (ast.Constant, ast.Tuple, ast.Name)) for s in sides):
                    found.append(f"{file}:{node.lineno}")
    return found


def test_no_engine_asks_for_the_tag_of_an_operation() -> None:
    assert tags_looked_at() == []


def test_names_of_the_protocol_become_fewer() -> None:
    found = names()
    assert sum(found.values()) <= MOST, found


if __name__ == "__main__":
    files: Counter[str] = Counter()
    for (where, _), times in names().items():
        files[where] += times
    for where, times in files.most_common():
        print(f"{times:4} {where}")
    print(f"{sum(files.values()):4} in all, {len(tags_looked_at())} looks at tags")
