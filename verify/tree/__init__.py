"""``python -m verify.tree``: which of a kernel's C is read, what is summed up, and where it differs from the model's text."""
