"""What a run was made with: interpreter, packages, straypage and its commit, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import verify

#: packages whose version can change a verdict, a time or a page
_PACKAGES = ("straypage", "z3-solver", "numpy", "hypothesis", "crosshair-tool", "rich")


def versions() -> dict[str, Any]:
    """Everything as JSON values."""
    return {
        "straypage": {"version": _version("straypage"), "commit": commit(Path(verify.__file__).parent.parent)},
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES[1:]},
        "machine": {"system": f"{platform.system()} {platform.release()}", "architecture": platform.machine(),
                    "cpus": os.cpu_count()},
    }  # fmt: skip


def commit(root: Path) -> str | None:
    """The git commit of the tree at ``root``, with "+" if files differ from it; None if it is none of git's trees."""
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
