"""Real bugs of the guarantee, and designs that were proposed: each as a faulty text and a mended one."""
