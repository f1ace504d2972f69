"""``--redact``: a result without host names, paths and command lines, before anything is written of it (docs/redact.md).

Public: `redacted` one result, `Redactor` several that belong together, `redact_text` a text of which nothing else is known,
`redact_line` an error.

What is private is collected from the result first: the captures' own paths, hosts behind keys such as ``host_name`` and in
the names of torch.profiler's traces, command lines, models that lie in folders, users with a home folder. Then every text in
it is redacted, also by shape (`rca.redact.shapes`). Numbers, hashes, sizes and the names of functions stay; two functions
whose names differ by a path alone stay two.
"""

from rca.redact.redactor import Redactor, redacted
from rca.redact.shapes import redact_line, redact_text

__all__ = ["Redactor", "redact_line", "redact_text", "redacted"]
