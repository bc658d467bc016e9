"""Kernels as changes of one another, and mutants of them."""
