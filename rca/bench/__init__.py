"""Model runs: their records and operator tables are read, summed up and compared."""
