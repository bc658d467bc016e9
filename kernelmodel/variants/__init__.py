"""What is asked of a text that a user wrote, before it is run."""
