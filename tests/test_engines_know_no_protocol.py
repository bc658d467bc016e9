"""How much engines know of the kernel: names of cells, locks and tasks in verify/, and what they look at.

An engine runs what a kernel describes (DESIGN 13): who needs a name has to say what it is in the description instead.
``python tests/test_engines_know_no_protocol.py`` prints them by file.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelmodel.cells import CELLS, MUTEXES
from kernelmodel.tasks import TASKS

ROOT = Path(__file__).parent.parent
#: ours, whatever kernels of their own other tests of this process load
KNOWN = frozenset((*CELLS, *MUTEXES, *TASKS))
#: names that are words too, also of our own records ("free", "pages", "in_use"): these count where they name something
WORDS = frozenset(name for name in KNOWN if name.isalpha() or name == "in_use")
#: what takes names of cells, locks and tasks
TAKES_NAMES = frozenset(("Cell", "value", "cell_of", "mutex_owner", "section_of"))
TABLES = frozenset(("CELLS", "TASKS", "MUTEXES"))


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
        for name in names_in(module):
            found[file, name] += 1
    return found


def names_in(module: ast.AST) -> list[str]:
    """The names of cells, locks and tasks in a module: each string that can be nothing else, and words where they name."""
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and node.value in KNOWN - WORDS:
            found.append(str(node.value))
        for part in _naming(node):
            found += [str(c.value) for c in ast.walk(part) if isinstance(c, ast.Constant) and c.value in WORDS]
    return found


def _naming(node: ast.AST) -> list[ast.expr]:
    """The parts of an expression in which a word names something of the kernel."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in TAKES_NAMES:
        return list(node.args[:1])
    if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") in TABLES:
        return [node.slice]
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        if any(isinstance(s, ast.Attribute) and s.attr == "name" for s in sides):
            return sides
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("startswith", "endswith"):
        of = node.func.value if isinstance(node.func, ast.Attribute) else None
        return list(node.args) if isinstance(of, ast.Attribute) and of.attr == "name" else []
    return []


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


def test_no_engine_names_a_cell_a_lock_or_a_task() -> None:
    assert not names()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('x = "pcp.high"', 1), ('MUTEX = "mem_hotplug_lock"', 1), ('Cell("held", (b,))', 1), ('CELLS["pages"].c', 1),
        ('cell.name in ("held", "in_use")', 2), ('task.kind.name == "offline"', 1), ('value("mutex", lock)', 1),
        ('cell.name.startswith("isolated")', 1), ('{"pages": 3, "in_use": []}', 0), ('holder or "free"', 0),
        ('match word:\n    case "pages":\n        pass', 0), ('role == "worker"', 0),
    ],
)  # fmt: skip
def test_a_name_is_told_from_a_word(text: str, found: int) -> None:
    assert len(names_in(ast.parse(text))) == found


if __name__ == "__main__":
    files: Counter[str] = Counter()
    for (where, _), times in names().items():
        files[where] += times
    for where, times in files.most_common():
        print(f"{times:4} {where}")
    print(f"{sum(files.values()):4} in all, {len(tags_looked_at())} looks at tags")
