"""A routine as a graph of operations: unrolled, or with its loops."""
