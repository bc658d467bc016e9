"""Hypothesis profiles: dev for a first look, ci (the default) the same on every run, deep for a night.

STRAYPAGE_PROFILE chooses one.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings

#: examples of a state machine, and steps in each
EXAMPLES = {"dev": 30, "ci": 150, "deep": 5000}


def register() -> str:
    """Register the profiles and load the chosen one; returns its name."""
    common: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck), "stateful_step_count": 40}
    settings.register_profile("dev", max_examples=EXAMPLES["dev"], **common)
    settings.register_profile("ci", max_examples=EXAMPLES["ci"], derandomize=True, database=None, **common)
    settings.register_profile("deep", max_examples=EXAMPLES["deep"], **common)
    name = os.environ.get("STRAYPAGE_PROFILE", "ci")
    if name not in EXAMPLES:
        raise ValueError(f"STRAYPAGE_PROFILE={name} is no profile: choose one of {', '.join(EXAMPLES)}")
    settings.load_profile(name)
    return name


#: to find a known bug: no time for explaining it
FINDING = (Phase.generate, Phase.shrink)
