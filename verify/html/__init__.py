"""verify.html: a trace as one self-contained page: CPU lanes over time, and the zone's state beside the chosen step."""

from verify.html.page import render

__all__ = ["render"]
