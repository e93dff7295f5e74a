"""What processes that share a POD or a tracker called and got, and whether that can be right."""
