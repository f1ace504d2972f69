"""`rca`: two captures of an LLM server go in, one defensible answer comes out.

`rca.api.compare` is the whole pipeline. Nothing is imported here, so that ``rca --help`` stays fast.
"""

from rca.version import __version__

__all__ = ["__version__"]
