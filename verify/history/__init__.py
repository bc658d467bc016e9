"""``python -m verify.history DIR A..B``: the verdict on each commit that touches the routines, or the first that differs."""
