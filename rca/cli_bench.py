"""The commands of `rca bench`: argument parsing only."""
