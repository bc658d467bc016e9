"""Real bugs of the guarantee, found on the faulty text, and absent from the mended one: a command."""
