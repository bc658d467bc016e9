"""verify.html: a trace as one self-contained page: CPU lanes over time, and the zone's state beside the chosen step.

Also as a small picture of the race, for a page that shows many.
"""

from verify.html.page import render
from verify.html.thumbnail import thumbnail

__all__ = ["render", "thumbnail"]
