"""The former place of `rca.redact.shapes.name`, for `reports.perfetto`; goes when that imports it from there."""

from rca.redact.shapes import name
from rca.redact.words import HOST

__all__ = ["HOST", "name"]
