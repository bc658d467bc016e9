"""What all tests share."""

from __future__ import annotations

import gc

# solvers make many small objects and few cycles: collecting as often as usual costs a tenth of the time
gc.set_threshold(200_000, 20, 20)
