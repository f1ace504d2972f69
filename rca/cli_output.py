"""What all commands share: where a report is pasted, and results on stdout."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rca.errors import OutputError

for_target = click.option(
    "--for",
    "target",
    type=click.Choice(["github", "gitlab", "jira", "full"]),
    default="github",
    show_default=True,
    help="Where the report will be pasted: sets its markup and its length.",
)


redact_option = click.option(
    "--redact",
    is_flag=True,
    help="Leave host names, paths and command lines out of everything that is written, so that it can be passed on.",
)

plots_option = click.option(
    "--plots",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also write pictures into DIR, as SVG and PNG, for tickets that take no HTML.",
)

html_option = click.option(
    "--html", type=click.Path(path_type=Path), metavar="PATH", help="Also write a page with pictures."
)

force_option = click.option("-f", "--force", is_flag=True, help="Write pictures into a folder that is not empty.")


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
