"""Room 3: cycles into per-cycle β, μ and σ. Public: `build`, `Profile`."""

from rca.profile.build import ROWS, Profile, build
from rca.profile.counters_join import estimate_cores

__all__ = ["ROWS", "Profile", "build", "estimate_cores"]
