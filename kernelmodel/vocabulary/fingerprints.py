"""For which C the summaries of leaves were checked: a fingerprint of each body, with the kernels that have it.

A fingerprint is of the tokens of a function, or of a macro with those that it is made of; no C is stored.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path


@cache
def _table() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads((Path(__file__).parent / "fingerprints.toml").read_text(encoding="utf-8"))


def known(name: str, fingerprint: str) -> tuple[str, ...]:
    """The kernels that have a leaf of that name with that fingerprint."""
    return tuple(_table().get(name, {}).get(fingerprint, ()))


def recorded(name: str) -> tuple[str, ...]:
    """The kernels of which a leaf of that name is known."""
    return tuple(dict.fromkeys(kernel for kernels in _table().get(name, {}).values() for kernel in kernels))
