"""verify.replay: runs a stored trace again, step by step if wanted, and turns it into a test, a line or a page."""
