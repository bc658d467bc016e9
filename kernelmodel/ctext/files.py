"""Where the C text comes from: a directory, a revision in it, and a patch on top."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError


@dataclass(slots=True)
class Tree:
    """The files of a tree, each read once."""

    spec: TreeSpec
    _texts: dict[str, str | None] = field(default_factory=dict)
    _patched: dict[str, str] | None = None

    def __post_init__(self) -> None:
        root = Path(self.spec.path)
        if not root.is_dir():
            raise ModelError(f"{root} is no directory: give --tree the top of a kernel's source, where mm/ is")
        if self.text("mm/page_alloc.c") is None:
            at = f" at revision {self.spec.revision}" if self.spec.revision else ""
            raise ModelError(f"{root} has no mm/page_alloc.c{at}: give --tree the top of a kernel's source")

    def text(self, path: str) -> str | None:
        """A file's text, after the patch; None where there is no such file."""
        if path not in self._texts:
            self._texts[path] = self._patches().get(path) or self._original(path)
        return self._texts[path]

    def line(self, path: str, number: int) -> str:
        """One line of a file, without the blanks around it."""
        lines = (self.text(path) or "").splitlines()
        return lines[number - 1].strip() if 0 < number <= len(lines) else ""

    @property
    def version(self) -> str:
        """What the Makefile says: 6.1.176; empty if it says nothing."""
        found = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL)\s*=\s*(\d+)", self.text("Makefile") or "", re.M))
        return ".".join(found[k] for k in ("VERSION", "PATCHLEVEL", "SUBLEVEL") if k in found)

    def _original(self, path: str) -> str | None:
        root = Path(self.spec.path)
        if not self.spec.revision:
            try:
                return (root / path).read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                raise ModelError(f"{root / path} cannot be read: {error.strerror}") from error
        done = _git(root, "cat-file", "-e", f"{self.spec.revision}^{{commit}}")
        if done.returncode:
            why = done.stderr.strip().splitlines()
            raise ModelError(
                f"{root} has no revision {self.spec.revision!r}: {why[0] if why else 'git knows no such commit'}"
            )
        shown = _git(root, "show", f"{self.spec.revision}:./{path}")
        return None if shown.returncode else shown.stdout

    def _patches(self) -> dict[str, str]:
        if self._patched is None:
            self._patched = _applied(self, Path(self.spec.patch)) if self.spec.patch else {}
        return self._patched


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError as error:
        raise ModelError(
            "git is not installed: it reads revisions and applies patches; install it, or give a directory"
        ) from error


def _applied(tree: Tree, patch: Path) -> dict[str, str]:
    """The files that a patch changes, after it: git applies it to copies in a directory of its own."""
    try:
        text = patch.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ModelError(f"patch {patch} cannot be read: {error.strerror}") from error
    paths = sorted(set(re.findall(r"^(?:---|\+\+\+) [ab]/(\S+)", text, re.M)))
    if not paths:
        raise ModelError(f"patch {patch} changes no file: it has no line '+++ b/mm/page_alloc.c' or the like")
    with tempfile.TemporaryDirectory(prefix="straypage-") as made:
        root = Path(made)
        for path in paths:
            before = tree._original(path)
            if before is not None:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(before, encoding="utf-8")
        shutil.copy(patch, root / ".patch")
        _git(root, "init", "-q")
        done = _git(root, "apply", "--whitespace=nowarn", ".patch")
        if done.returncode:
            why = next(iter(done.stderr.strip().splitlines()), "git apply refuses it")
            raise ModelError(f"patch {patch} does not apply to {tree.spec.path}: {why.removeprefix('error: ')}")
        return {p: (root / p).read_text(encoding="utf-8") for p in paths if (root / p).is_file()}
