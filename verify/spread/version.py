"""Which straypage this is: a hash of its own text."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def digest_of(*words: str) -> str:
    """A hash of some words and of all that a result depends on: this program's own text."""
    digest = hashlib.sha256(" ".join(words).encode())
    digest.update(_text())
    return digest.hexdigest()[:16]


@functools.cache
def _text() -> bytes:
    digest = hashlib.sha256()
    for file in sorted(f for part in ("kernelmodel", "properties", "verify") for f in (_ROOT / part).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.digest()
