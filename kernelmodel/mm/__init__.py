"""The kernel's routines as `base` has them, named after the C files."""
