"""The command `rca startup`: argument parsing only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from rca import cli_output


@click.command(
    epilog="""\b
Examples:
  rca startup fixtures/startup
  rca startup fixtures/startup --format grid
  rca startup fixtures/startup --format json
  rca startup fixtures/startup --html startup.html --plots pictures --redact

\b
A good day against now:
  $ rca compare logs/normal logs/abnormal

\b
Exit codes:
  0 read   2 usage, or no start-up log   4 no start came so far that the server could serve   5 internal error"""
)
@click.argument("logs", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["md", "grid", "csv", "json"]),
    help="md: what the phases mean, and their tables. grid: the logged seconds, one column per start. "
    "[default: a terminal gets tables, a pipe md]",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="PATH", help="Write it to PATH instead of stdout.")
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="PATH", help="Also write a page with a waterfall of each start."
)
@cli_output.plots_option
@cli_output.for_target
@cli_output.redact_option
@cli_output.force_option
@click.option("-q", "--quiet", is_flag=True, help="No progress, no warnings on stderr.")
def startup(  # noqa: PLR0913, PLR0917  (one per option)
    logs: tuple[Path, ...],
    kind: str | None,
    output: Path | None,
    html: Path | None,
    plots: Path | None,
    target: str,
    redact: bool,
    force: bool,
    quiet: bool,
) -> NoReturn:
    """Say what the start-ups of servers took, from their LOGS (files, or folders of files).

    Reads what vLLM and SGLang write while they start, in any mixture, and tables of such phases that were made before. What
    was varied between the starts is read from the logs and from their names (…_gpu-memory-utilization_0.3.txt): the report
    says which phase responds to what, which start sticks out, and where no line explains the time.
    """
    from rca.redact import redacted  # noqa: PLC0415  (imports take longer than --help may)
    from rca.startup import report  # noqa: PLC0415
    from reports import document, files, startup_html, terminal  # noqa: PLC0415
    from reports import plots as pictures  # noqa: PLC0415
    from reports import startup as drawn  # noqa: PLC0415

    files.check_outputs(plots, [path for path in (output, html) if path], logs, force)
    with terminal.progress(enabled=not (quiet or redact)) as progress:  # it names files
        found = report(list(logs), progress)
    if redact:
        found = redacted(found)
    if not quiet:
        terminal.notes(found.startups.remarks)
    shown = drawn.startup_document(found)
    if plots:
        files.write_folder(plots, pictures.startups(found), force)
    if html:
        files.write_file(html, startup_html.report_page(found))
    texts = {
        "md": lambda: document.markdown(shown, target),
        "grid": lambda: drawn.grid_text(found),
        "csv": lambda: drawn.startup_csv(found),
        "json": lambda: drawn.startup_json(found),
    }
    if output:
        files.write_file(output, texts[kind or "md"]())
    elif kind or not sys.stdout.isatty():
        cli_output.to_stdout(texts[kind or "md"]())
    else:
        document.show(shown)
    sys.exit(0 if found.startups.usable else 4)
