"""verify.explore: every interleaving of a finite configuration, by tabulated transitions over NumPy columns."""
