"""Bounded verification with Z3 over event graphs: see docs/architecture.md."""
