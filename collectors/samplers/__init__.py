"""One file per source of counters; each sampler is a small class that follows `collectors.sampling.Sampler`."""
