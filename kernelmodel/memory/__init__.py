"""The concrete structures: pages, free lists, pcplists."""
