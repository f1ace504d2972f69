"""A report over loopback, and its traces a click away. Public: `Site` (what is served), `Server`."""

from reports.serve.opening import Site
from reports.serve.serving import Server

__all__ = ["Server", "Site"]
