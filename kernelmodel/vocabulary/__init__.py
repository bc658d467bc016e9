"""What the names in the kernel's C mean in this model, as data: per era, each inheriting from the one before it."""
