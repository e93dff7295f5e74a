"""How fast it is, as ratios to other things measured in the same run."""
