"""What must hold: properties as data, the monitor that evaluates them, contracts, and random histories."""
