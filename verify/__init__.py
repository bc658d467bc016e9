"""Engines that decide properties of the kernel's text, and the commands that run them."""
