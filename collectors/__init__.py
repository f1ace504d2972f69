"""Samples hosts and drives profilers. Knows only the capture tables' schemas."""
