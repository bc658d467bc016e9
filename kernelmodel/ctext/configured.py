"""Which lines of a C file a configuration leaves: ``#if`` is decided, and lines that are left out become blank."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kernelmodel.errors import ModelError

#: what distributions choose; whatever is not named here is not set
USUAL = {
    "CONFIG_SMP", "CONFIG_NUMA", "CONFIG_MMU", "CONFIG_MEMORY_HOTPLUG", "CONFIG_MEMORY_HOTREMOVE", "CONFIG_MEMORY_ISOLATION",
    "CONFIG_MEMORY_FAILURE", "CONFIG_CMA", "CONFIG_COMPACTION", "CONFIG_TRANSPARENT_HUGEPAGE", "CONFIG_HUGETLB_PAGE",
    "CONFIG_CONTIG_ALLOC", "CONFIG_64BIT", "CONFIG_MIGRATION", "CONFIG_SPARSEMEM", "CONFIG_SPARSEMEM_VMEMMAP", "CONFIG_SYSCTL",
    "CONFIG_PROC_FS", "CONFIG_ZONE_DMA", "CONFIG_ZONE_DMA32", "CONFIG_ZONE_DEVICE", "CONFIG_PREEMPTION", "CONFIG_PREEMPT_COUNT",
    "CONFIG_MEMCG", "CONFIG_KSM", "CONFIG_VM_EVENT_COUNTERS", "CONFIG_SWAP", "CONFIG_BALLOON_COMPACTION",
}  # fmt: skip

_DIRECTIVE = re.compile(r"^[ \t]*#[ \t]*(if|ifdef|ifndef|elif|else|endif)\b(.*)$")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)


def from_file(path: str) -> set[str]:
    """The symbols that a .config sets to y or m; ModelError where it cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ModelError(f"configuration {path} cannot be read: {error.strerror}") from error
    found = set(re.findall(r"^(CONFIG_\w+)=[ym]$", text, re.M))
    if not found:
        raise ModelError(f"configuration {path} sets nothing: it has no line such as CONFIG_SMP=y")
    return found


@dataclass(slots=True)
class Configured:
    """A C file without comments and without what is configured away: blanks, so that everything else keeps its place."""

    text: str
    #: (line, condition, what was decided) of each ``#if``
    decided: list[tuple[int, str, bool]] = field(default_factory=list)
    #: the macros that it defines: parameters and body
    macros: dict[str, str] = field(default_factory=dict)


def configured(text: str, symbols: set[str]) -> Configured:
    """Decide every ``#if`` of a file; macros that it defines itself count as defined."""
    text = _COMMENT.sub(lambda c: re.sub(r"[^\n]", " ", c[0]), text)
    lines = text.split("\n")
    found = Configured("")
    #: (lines are kept, some branch was taken, the lines around are kept)
    stack: list[tuple[bool, bool, bool]] = []
    defined: dict[str, str] = {}
    i = 0
    while i < len(lines):
        first, whole = i, lines[i]
        while whole.endswith("\\") and i + 1 < len(lines):
            i += 1
            whole = whole[:-1] + " " + lines[i]
        i += 1
        kept = all(s[0] for s in stack)
        directive = _DIRECTIVE.match(whole)
        if directive is None:
            macro = re.match(r"\s*#\s*define\s+(\w+)(.*)", whole, re.S)
            if macro and kept:
                found.macros[macro[1]] = " ".join(macro[2].split())
                if not macro[2].startswith("("):
                    defined[macro[1]] = macro[2].strip()
            if not kept or whole.lstrip().startswith("#"):
                _blank(lines, first, i)
            continue
        _blank(lines, first, i)
        kind, condition = directive[1], directive[2].strip()
        if kind == "endif":
            if stack:
                stack.pop()
            continue
        if kind in ("if", "ifdef", "ifndef"):
            outer = kept
            holds = _holds(kind, condition, symbols, defined)
            stack.append((holds, holds, outer))
        elif stack:
            _, taken, outer = stack.pop()
            holds = not taken and (kind == "else" or _holds("if", condition, symbols, defined))
            stack.append((holds, taken or holds, outer))
        if kind != "else" and outer:
            found.decided.append((first + 1, f"#{kind} {condition}", holds))
    found.text = "\n".join(lines)
    return found


def _blank(lines: list[str], first: int, after: int) -> None:
    for n in range(first, after):
        lines[n] = " " * len(lines[n])


def _holds(kind: str, condition: str, symbols: set[str], defined: Mapping[str, str]) -> bool:
    if kind in ("ifdef", "ifndef"):
        name = condition.split()[0] if condition else ""
        return (name in symbols or name in defined) == (kind == "ifdef")
    python = re.sub(
        r"\bdefined\s*\(?\s*(\w+)\s*\)?|\bIS_(?:ENABLED|BUILTIN|REACHABLE)\s*\(\s*(\w+)\s*\)",
        lambda m: str((m[1] or m[2]) in symbols or (m[1] or m[2]) in defined), condition,
    )  # fmt: skip
    python = python.replace("&&", " and ").replace("||", " or ")
    python = re.sub(r"!(?!=)", " not ", python)
    python = re.sub(
        r"\b(?!and\b|or\b|not\b|True\b|False\b)[A-Za-z_]\w*\b", lambda m: _number(m[0], symbols, defined), python
    )
    try:
        tree = ast.parse(python.strip(), mode="eval")
    except SyntaxError:
        return False
    allowed = (
        ast.Expression, ast.BoolOp, ast.UnaryOp, ast.Not, ast.And, ast.Or, ast.Compare, ast.Constant, ast.cmpop, ast.BinOp,
        ast.operator, ast.unaryop,
    )  # fmt: skip
    if not all(isinstance(node, allowed) for node in ast.walk(tree)):
        return False
    try:
        return bool(eval(compile(tree, "#if", "eval"), {"__builtins__": {}}))
    except (ArithmeticError, TypeError, ValueError):
        return False


def _number(name: str, symbols: set[str], defined: Mapping[str, str]) -> str:
    if name in symbols:
        return "1"
    value = defined.get(name, "")
    return value if re.fullmatch(r"\d+", value) else "0"
