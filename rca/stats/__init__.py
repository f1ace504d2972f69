"""Pure numerics on arrays. Knows no traces: `reference` (the seed report's statistics), `robust` (a verdict's)."""
