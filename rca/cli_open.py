"""The command `rca open`: argument parsing only."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click

from rca.cli_output import to_stdout


@click.command(
    "open",
    epilog="""\b
Examples:
  $ rca compare normal/ abnormal/ -o report --perfetto report/perfetto
  $ rca open report

\b
Compare and look, without writing anything:
  $ rca open incident-17        (that holds normal/ and abnormal/)

\b
From a server without a browser:
  $ rca open report --port 8080 --no-browser
  $ ssh -L 8080:127.0.0.1:8080 server      (on your machine; then open http://127.0.0.1:8080)

\b
Exit codes:
  0 closed by Ctrl-C   2 usage, or nothing to open   4 too little data   5 internal error""",
)
@click.argument("path", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--port", type=int, default=0, metavar="N", help="Listen on port N. [default: any free one]")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no notes on stderr.")
def open_(path: Path, port: int, no_browser: bool, quiet: bool) -> NoReturn:
    """Look at a comparison in the browser, with its traces a click away.

    DIR is a folder that `rca compare -o` wrote, a folder with two captures named normal and abnormal, or a report.html.

    It is served to programs on this machine only, under names that are known, until Ctrl-C. Links to the timeline lead to a
    page with one button that opens ui.perfetto.dev and gives it the trace, within your browser; nothing is sent anywhere
    before that, or without it.
    """
    from reports import terminal  # noqa: PLC0415  (imports take longer than --help may)
    from reports.serve import Server, Site  # noqa: PLC0415

    with Server(port) as server, _ends_in_order():
        with terminal.progress(enabled=not quiet) as progress:
            site = Site(path, progress)
        with site as names, contextlib.suppress(KeyboardInterrupt):
            to_stdout(server.url + "\n")
            if not quiet:
                click.echo("Ctrl-C ends it.", err=True)
            if not no_browser and _at_a_terminal() and _has_screen():
                webbrowser.open(server.url)
            server.run(names)
    sys.exit(0)


def _at_a_terminal() -> bool:
    return sys.stdout.isatty()


def _has_screen() -> bool:
    """Tell where a browser has a window; elsewhere one in the terminal might come up."""
    variables = ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME", "BROWSER")
    return sys.platform != "linux" or any(os.environ.get(name) for name in variables)


@contextlib.contextmanager
def _ends_in_order() -> Iterator[None]:
    """End as by Ctrl-C also when told to, and when the terminal is gone, so that temporary traces are removed."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]  # as nohup sets it
    for number in heard:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
