"""Room 3: cycles into per-cycle β, μ and σ. Public: `build`, `Profile`."""

from rca.profile.build import ROWS, Profile, build
from rca.profile.counters_join import estimate_cores
from rca.profile.scheduling import SCHEDULED

__all__ = ["ROWS", "SCHEDULED", "Profile", "build", "estimate_cores"]
