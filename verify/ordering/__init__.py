"""Memory models: which stores another CPU may see late, and what that changes."""
