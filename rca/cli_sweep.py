"""The commands of `rca sweep`: argument parsing only."""
