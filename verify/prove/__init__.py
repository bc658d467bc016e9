"""``python -m verify.prove``: an inductive proof for any number of CPUs, pages and tasks, and runs of any length."""
