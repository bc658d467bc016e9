"""verify.compare: the same checks on two kernels, and what differs."""
