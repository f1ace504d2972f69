"""The command `rca compare`: argument parsing only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

from rca.cli_output import for_target, redact_option, to_stdout

if TYPE_CHECKING:
    from rca.capture import Progress
    from rca.kinds import Kind
    from rca.pictures import SideName
    from reports.comparing import Shown

EXIT_CODES = """\b
Exit codes:
  0 done   1 slower (only with --gate)   2 usage or unreadable input
  3 not comparable   4 too little data   5 internal error"""

CYCLE_HELP = (
    "Span that starts a cycle: its name, or a regular expression that finds it; nvtx:NAME looks among annotations only. "
    "`list` shows what there is."
)
LIST = "list"

T = TypeVar("T")


def _complete_cause(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from reports.explain import causes  # noqa: PLC0415  (imports take longer than --help may)

    return [cause for cause in causes() if cause.startswith(incomplete)]


@click.command(
    epilog=f"""\b
Examples:
  rca compare fixtures/vllm-cpu-contention/normal fixtures/vllm-cpu-contention/abnormal
  rca compare fixtures/vllm-cpu-contention/normal fixtures/vllm-cpu-contention/abnormal -o report
  rca compare fixtures/vllm-cpu-contention/normal fixtures/vllm-cpu-contention/again --for jira --md -
  rca compare fixtures/vllm-cpu-contention/normal fixtures/vllm-cpu-contention/again --json - --gate
  rca compare fixtures/vllm-cpu-contention/normal fixtures/vllm-cpu-contention/abnormal --cycle list
  rca compare fixtures/vllm-cpu-contention/normal fixtures/vllm-cpu-contention/abnormal --explain cpu_quota
  rca compare fixtures/startup/normal fixtures/startup/abnormal
  rca compare fixtures/vllm-cpu-contention/normal fixtures/vllm-cpu-contention/abnormal --redact --html -

\b
Look at it, with the traces a click away:
  $ rca compare normal/ abnormal/ -o report --perfetto report/perfetto
  $ rca open report

\b
Post a report to a ticket:
  $ rca compare normal/ abnormal/ | gh issue comment 1234 --body-file -

{EXIT_CODES}"""
)
@click.argument("normal", type=click.Path(path_type=Path))
@click.argument("abnormal", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write all reports into DIR: report.md, report.html, report.json, comparison.csv, cycles.csv.",
)
@click.option(
    "--md", type=click.Path(path_type=Path, allow_dash=True), metavar="PATH", help="Write the ticket report to PATH."
)
@click.option(
    "--html",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="PATH",
    help="Write the page to PATH: one file with pictures and timelines, that needs no network.",
)
@click.option(
    "--json",
    "json_",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="PATH",
    help="Write the JSON report to PATH.",
)
@click.option(
    "--csv",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="PATH",
    help="Write the detailed table to PATH. For each of these, - is stdout.",
)
@click.option(
    "--plots",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write pictures into DIR, as SVG and PNG, for tickets that take no HTML.",
)
@click.option(
    "--perfetto",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a trace per side into DIR for ui.perfetto.dev: all events, and tracks for cycles, phases and findings.",
)
@for_target
@redact_option
@click.option("--cycle", metavar="NAME", help=CYCLE_HELP)
@click.option(
    "--explain",
    metavar="CAUSE",
    shell_complete=_complete_cause,
    help="Print how one cause was judged, named or not: its signs, what speaks for and against it, what is missing.",
)
@click.option("--gate", is_flag=True, help="Exit with 1 when the abnormal side is slower.")
@click.option("-f", "--force", is_flag=True, help="Write into an output folder that is not empty.")
@click.option("--no-cache", is_flag=True, help="Neither use nor keep what captures are reduced to (.rca-cache beside them).")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no warnings on stderr.")
def compare(  # noqa: PLR0913, PLR0917
    normal: Path,
    abnormal: Path,
    output: Path | None,
    md: Path | None,
    html: Path | None,
    json_: Path | None,
    csv: Path | None,
    plots: Path | None,
    perfetto: Path | None,
    target: str,
    redact: bool,
    cycle: str | None,
    explain: str | None,
    gate: bool,
    force: bool,
    no_cache: bool,
    quiet: bool,
) -> NoReturn:
    """Compare two captures: is ABNORMAL slower than NORMAL, where did the time go, what stands out.

    Start-up logs and model runs are compared in the same way: see `rca startup` and `rca bench`.

    Of captures, each side is a folder (searched with all below it), an archive or a file: traces of torch.profiler, Nsight
    Systems, rocprofv3, kunlun and any other Chrome trace; counters of nvidia-smi, DCGM, Prometheus or as CSV; per-cycle
    profiles (result_perf_data.csv). Formats are told by content.

    A terminal gets a short summary; a pipe gets the report itself.
    """
    from rca.kinds import kind_of  # noqa: PLC0415  (imports take longer than --help may)
    from rca.verdict import EXIT_CODE  # noqa: PLC0415
    from reports import terminal  # noqa: PLC0415
    from reports.outputs import Outputs  # noqa: PLC0415

    outputs = Outputs(output, {"md": md, "html": html, "json": json_, "csv": csv}, plots, perfetto, force)
    outputs.check([normal, abnormal])
    _check_words(cycle, explain, outputs.single)
    kind = kind_of(normal, abnormal)
    if kind != "capture" and (cycle is not None or explain is not None or perfetto is not None):
        raise click.UsageError("--cycle, --explain and --perfetto are of captures")
    if cycle == LIST:
        if outputs.anything:
            raise click.UsageError("--cycle list compares nothing, so there is no report to write")
        list_anchors({"normal": normal, "abnormal": abnormal}, redact, quiet)
    how = _How(target, cycle, explain, cached=not no_cache, with_page=outputs.with_page, redact=redact)
    with terminal.progress(enabled=not (quiet or redact)) as progress:  # it names files
        shown, explanation = _compared(kind, {"normal": normal, "abnormal": abnormal}, how, progress)
        written, text = outputs.write(shown)
    written = [Path(path.name) for path in written] if redact else written
    if not quiet:
        terminal.notes(shown.warnings)
    if explanation is not None or text is not None:
        to_stdout(explanation or text or "")
    elif written or sys.stdout.isatty():
        shown.summary(written)
    else:
        to_stdout(shown.texts["md"]())
    sys.exit(1 if gate and shown.status == "slower" else EXIT_CODE[shown.status])


def _check_words(cycle: str | None, explain: str | None, single: Mapping[str, Path | None]) -> None:
    from reports import explain as explaining  # noqa: PLC0415

    if explain is not None and explain not in explaining.causes():
        raise click.UsageError(f"--explain knows no cause {explain!r}; there are {', '.join(explaining.causes())}")
    if cycle == "":
        raise click.UsageError("--cycle needs a name")
    if list(single.values()).count(Path("-")) + (explain is not None) > 1:
        raise click.UsageError("only one report can go to stdout, and --explain goes there too")


@dataclass(frozen=True)
class _How:
    """How captures are compared and shown: the options of the command."""

    target: str
    cycle: str | None
    explain: str | None
    cached: bool
    with_page: bool
    redact: bool


def _compared(kind: Kind, sides: dict[SideName, Path], how: _How, progress: Progress) -> tuple[Shown, str | None]:
    """Compare what both paths hold; return what can be written of it, and the explanation that was asked for."""
    from rca.redact import Redactor  # noqa: PLC0415
    from reports import comparing  # noqa: PLC0415

    redactor = Redactor() if how.redact else None
    shown_as = redactor or _as_it_is
    if kind == "startup":
        from rca.startup import compare_startups  # noqa: PLC0415

        return comparing.of_startups(
            shown_as(compare_startups(sides["normal"], sides["abnormal"], progress)), how.target
        ), None
    if kind == "bench":
        from rca.bench import compare as compare_runs  # noqa: PLC0415

        return comparing.of_model_runs(shown_as(compare_runs(sides["normal"], sides["abnormal"])), how.target), None
    from rca import api  # noqa: PLC0415
    from reports import explain as explaining  # noqa: PLC0415

    result = shown_as(
        api.compare(
            sides["normal"], sides["abnormal"], cycle=how.cycle, progress=progress, cached=how.cached, pictures=how.with_page
        )
    )
    shown = comparing.of_captures(result, how.target, sides, progress, redactor)
    return shown, explaining.explanation(result, how.explain) if how.explain else None


def _as_it_is(result: T) -> T:
    return result


def list_anchors(sides: dict[str, Path], redact: bool, quiet: bool) -> NoReturn:
    """Print what could mark the cycles of each capture, best first."""
    from rca import api  # noqa: PLC0415
    from rca.redact import redacted  # noqa: PLC0415
    from reports import inspection, terminal  # noqa: PLC0415

    with terminal.progress(enabled=not (quiet or redact)) as progress:
        found = {side: api.inspect(path, progress=progress) for side, path in sides.items()}
    found = redacted(found) if redact else found
    if sys.stdout.isatty():
        inspection.show_anchors(found)
    else:
        to_stdout(inspection.anchors_text(found))
    sys.exit(0)
