"""The commands of `rca startup`: argument parsing only."""
