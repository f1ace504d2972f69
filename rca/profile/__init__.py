"""Room 3: cycles into per-cycle β, μ and σ. Public: `build`, `Profile`."""

from rca.profile.build import ROWS, Profile, build

__all__ = ["ROWS", "Profile", "build"]
