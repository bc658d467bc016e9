"""verify.mutants: which engine kills which mutant, by which property, with how short a trace."""
