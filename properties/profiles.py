"""Hypothesis profiles: ``dev`` for a first look, ``ci`` (the default) the same on every run, ``deep`` for a night.

The environment variable STRAYPAGE_PROFILE chooses one.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings

#: profile -> examples of a state machine
EXAMPLES = {"dev": 20, "ci": 100, "deep": 20_000}
#: profile -> examples within which a known bug is looked for: the search ends at the first that shows it
HUNTS = {"dev": 1500, "ci": 1500, "deep": 20_000}
#: rules in an example of PageAllocator (Hypothesis's ``stateful_step_count``)
RULES = 40
#: rules in an example of DrainRace, whose tasks all exist from the start
RACE_RULES = 12
#: to find a known bug, not to explain it
FINDING = (Phase.generate,)


def register() -> str:
    """Register the profiles and load the one that STRAYPAGE_PROFILE names; returns its name."""
    common: dict[str, Any] = {
        "deadline": None,
        "stateful_step_count": RULES,
        # what an example costs varies with what it does, and rules are often not possible: neither says anything
        "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    }
    settings.register_profile("dev", max_examples=EXAMPLES["dev"], **common)
    # no seed and no database: a CI run never fails by chance, and never differs from the one before
    settings.register_profile("ci", max_examples=EXAMPLES["ci"], derandomize=True, database=None, **common)
    settings.register_profile("deep", max_examples=EXAMPLES["deep"], **common)
    name = os.environ.get("STRAYPAGE_PROFILE", "ci")
    if name not in EXAMPLES:
        raise ValueError(f"STRAYPAGE_PROFILE={name} is no profile: choose one of {', '.join(EXAMPLES)}")
    settings.load_profile(name)
    return name
