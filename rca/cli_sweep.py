"""The commands of `rca sweep`: argument parsing only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from rca.cli_output import for_target, force_option, html_option, plots_option, redact_option, to_stdout

if TYPE_CHECKING:
    from rca.sweep import Result

_INTERRUPTED = 130


def _numbers(least: int) -> Callable[[click.Context, click.Parameter, str], list[int]]:
    """Return what reads whole numbers between commas, none below a limit."""

    def read(_context: click.Context, _option: click.Parameter, text: str) -> list[int]:
        try:
            numbers = [int(part) for part in text.split(",")]
        except ValueError:
            raise click.BadParameter(f"{text!r}: expected whole numbers between commas, as 128,256") from None
        if min(numbers) < least:
            raise click.BadParameter(f"{text!r}: none may be below {least}")
        return numbers

    return read


@click.group(
    epilog="""\b
Examples:
  rca sweep report fixtures/sweep

\b
Measure a grid and report it:
  $ rca sweep run -o sweep --sizes small,medium --contexts 128,256
  $ rca sweep report sweep -o sweep.md"""
)
def sweep() -> None:
    """Time a decoder over sizes, context lengths and warm-ups; report any such grid."""


@sweep.command(
    "run",
    epilog="""\b
Examples:
  $ rca sweep run -o sweep --sizes small,medium --contexts 128,256 --warmups 0,1,5
  $ rca sweep run -o tiny --sizes a=64/2/4,b=128/2/4 --contexts 32,64 --trials 5 --batch 1 --device cpu
  $ rca sweep run -o sweep --python ~/torch/bin/python --dtype bfloat16

\b
Exit codes:
  0 every cell was measured   2 usage, a Python without torch, or a folder that cannot be written
  4 cells are missing: they failed, or the report has too little   130 interrupted; what was measured is kept
  5 internal error""",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", required=True, help="For the trials."
)
@click.option(
    "--sizes",
    default="small,medium",
    show_default=True,
    metavar="LIST",
    help="small, medium, large, xl, 2.7B, or NAME=d_model/layers/heads.",
)
@click.option(
    "--contexts", callback=_numbers(1), default="128,256", show_default=True, metavar="LIST", help="Context lengths."
)
@click.option(
    "--warmups",
    callback=_numbers(0),
    default="0,1,5",
    show_default=True,
    metavar="LIST",
    help="Numbers of runs before the first trial. A cell with 0 gets a process of its own.",
)
@click.option("--trials", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Timed runs of each cell.")
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Sequences at a time.")
@click.option("--vocab", type=click.IntRange(2), default=10_000, show_default=True, help="Size of the vocabulary.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Of weights and activations.",
)
@click.option("--python", default=sys.executable, metavar="PATH", help="A Python that has torch; this one by default.")
@click.option(
    "--forward-only/--both",
    "forward_only",
    default=False,
    show_default=True,
    help="Forward alone, or also forward and backward together.",
)
@click.option("--force", is_flag=True, help="Write into a folder that is not empty.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no notes on stderr.")
def run(  # noqa: PLR0913, PLR0917  (one per option)
    output: Path,
    sizes: str,
    contexts: list[int],
    warmups: list[int],
    trials: int,
    batch: int,
    vocab: int,
    device: str,
    dtype: str,
    python: str,
    forward_only: bool,
    force: bool,
    quiet: bool,
) -> NoReturn:
    """Time forward and forward+backward of a decoder with random weights, over a grid.

    The device is synchronised around each trial, and every trial is kept, in DIR/trials.jsonl. Both passes compute the
    forward with gradients recorded, as training does. Ctrl-C keeps what was measured.
    """
    from collectors.sweep import PASSES, Plan, Sweep, cells  # noqa: PLC0415  (imports take longer than --help may)
    from reports import progress_bar  # noqa: PLC0415
    from reports import sweep as drawn  # noqa: PLC0415

    planned = cells(sizes.split(","), contexts, warmups, (True,) if forward_only else PASSES)
    plan = Plan(planned, trials, batch, vocab, device, dtype, python)
    with progress_bar.progress(enabled=not quiet) as watch:
        outcome = Sweep(plan, output, force, lambda at: watch.show(at.doing, at.done, at.of)).run()
    result = _result(output) if outcome.trials else None
    click.echo(drawn.summary(outcome, result), nl=False)
    if outcome.interrupted:
        sys.exit(_INTERRUPTED)
    sys.exit(4 if outcome.failed else 0)


@sweep.command(
    "report",
    epilog="""\b
Examples:
  rca sweep report fixtures/sweep
  rca sweep report fixtures/sweep/trials.jsonl --format csv
  rca sweep report fixtures/sweep --format json
  rca sweep report fixtures/sweep --html sweep.html --plots pictures

\b
A table that was made by hand, and for a ticket:
  $ rca sweep report results.md -o report.md
  $ rca sweep report results.csv --for jira

\b
Exit codes:
  0 done   2 usage, or a file that cannot be used   4 a table without a usable row   5 internal error""",
)
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["md", "csv", "json"]),
    help="Markdown is what a pipe gets; a terminal gets a view of its own.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="PATH", help="Write the report to PATH.")
@html_option
@plots_option
@for_target
@redact_option
@force_option
@click.option("-q", "--quiet", is_flag=True, help="No warnings on stderr.")
def report(  # noqa: PLR0913, PLR0917  (one per option)
    path: Path,
    kind: str | None,
    output: Path | None,
    html: Path | None,
    plots: Path | None,
    target: str,
    redact: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Report a grid: what it means, and the tables that are derived from it.

    FILE is a CSV, JSON lines, parquet or markdown table, told by its content, with one row per cell (mean_time_ms,
    std_time_ms) or one per trial (time_ms), or a folder that `rca sweep run` wrote. Needed are also the columns model_size,
    context_length, num_warmups and forward_only; d_model and num_layers tell how time scales.
    """
    from rca.redact import redacted  # noqa: PLC0415  (imports take longer than --help may)
    from reports import files, sweep_html, terminal  # noqa: PLC0415
    from reports import plots as pictures  # noqa: PLC0415
    from reports.document import show  # noqa: PLC0415
    from reports.sweep import document  # noqa: PLC0415

    files.check_outputs(plots, [one for one in (output, html) if one], [path], force)
    result = redacted(_result(path)) if redact else _result(path)
    if not quiet:
        terminal.notes(result.sweep.warnings)
    if plots:
        files.write_folder(plots, pictures.sweep(result), force)
    if html:
        files.write_file(html, sweep_html.page(result))
    if output:
        files.write_file(output, _text(result, kind or "md", target))
    elif kind is None and sys.stdout.isatty():
        show(document(result))
    else:
        to_stdout(_text(result, kind or "md", target))


def _result(path: Path) -> Result:
    from rca.sweep import sweep as evaluated  # noqa: PLC0415

    return evaluated(path)


def _text(result: Result, kind: str, target: str) -> str:
    from reports import document  # noqa: PLC0415
    from reports import sweep as drawn  # noqa: PLC0415

    if kind == "md":
        return document.markdown(drawn.document(result), target)
    return drawn.sweep_csv(result) if kind == "csv" else drawn.sweep_json(result)
