"""A cache of a test's own."""

from __future__ import annotations

from pathlib import Path

import pytest


def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str) -> Path:
    """Nothing is kept yet; what will be is in the folder that is returned, of that name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("STRAYPAGE_NO_CACHE", raising=False)
    return tmp_path / "cache" / "straypage" / folder


def files_in(cache: Path) -> list[Path]:
    """The files that are kept there."""
    return sorted(cache.rglob("*.pickle"))
