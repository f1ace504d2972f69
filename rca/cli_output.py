"""Results on stdout, for every command."""

from __future__ import annotations

import sys

from rca.errors import OutputError


def to_stdout(text: str) -> None:
    """Write a result, the same bytes as into a file.

    Raises:
        OutputError: stdout cannot be written, as on a full disk.
        BrokenPipeError: its reader has enough.
    """
    try:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError("stdout", f"cannot be written: {error.strerror or error}") from None
