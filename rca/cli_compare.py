"""The command `rca compare`: argument parsing only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from rca.cli_output import for_target, to_stdout

if TYPE_CHECKING:
    from rca.capture import Progress
    from rca.kinds import Kind
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
    help="Write all reports into DIR: report.md, report.json, comparison.csv, cycles.csv.",
)
@click.option(
    "--md", type=click.Path(path_type=Path, allow_dash=True), metavar="PATH", help="Write the ticket report to PATH."
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
@for_target
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
    json_: Path | None,
    csv: Path | None,
    target: str,
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
    from reports import files, terminal  # noqa: PLC0415

    single = {"md": md, "json": json_, "csv": csv}
    files.check_outputs(output, [path for path in single.values() if path], [normal, abnormal], force)
    _check_words(cycle, explain, single)
    kind = kind_of(normal, abnormal)
    if kind != "capture" and (cycle is not None or explain is not None):
        raise click.UsageError("--cycle and --explain are of captures")
    if cycle == LIST:
        if output or md or json_ or csv:
            raise click.UsageError("--cycle list compares nothing, so there is no report to write")
        list_anchors({"normal": normal, "abnormal": abnormal}, quiet)
    with terminal.progress(enabled=not quiet) as progress:
        shown, explanation = _compared(kind, normal, abnormal, target, cycle, explain, not no_cache, progress)
    written = _write(shown, output, single, force)
    if not quiet:
        terminal.notes(shown.warnings)
    if explanation is not None:
        to_stdout(explanation)
    elif Path("-") not in single.values():
        if written or sys.stdout.isatty():
            shown.summary(written)
        else:
            to_stdout(shown.texts["md"]())
    sys.exit(1 if gate and shown.status == "slower" else EXIT_CODE[shown.status])


def _check_words(cycle: str | None, explain: str | None, single: dict[str, Path | None]) -> None:
    from reports import explain as explaining  # noqa: PLC0415

    if explain is not None and explain not in explaining.causes():
        raise click.UsageError(f"--explain knows no cause {explain!r}; there are {', '.join(explaining.causes())}")
    if cycle == "":
        raise click.UsageError("--cycle needs a name")
    if list(single.values()).count(Path("-")) + (explain is not None) > 1:
        raise click.UsageError("only one report can go to stdout, and --explain goes there too")


def _compared(
    kind: Kind,
    normal: Path,
    abnormal: Path,
    target: str,
    cycle: str | None,
    explain: str | None,
    cached: bool,
    progress: Progress,
) -> tuple[Shown, str | None]:
    """Compare what both paths hold; return what can be written of it, and the explanation that was asked for."""
    from reports import comparing  # noqa: PLC0415

    if kind == "startup":
        from rca.startup import compare_startups  # noqa: PLC0415

        return comparing.of_startups(compare_startups(normal, abnormal, progress), target), None
    if kind == "bench":
        from rca.bench import compare as compare_runs  # noqa: PLC0415

        return comparing.of_model_runs(compare_runs(normal, abnormal), target), None
    from rca import api  # noqa: PLC0415
    from reports import explain as explaining  # noqa: PLC0415

    result = api.compare(normal, abnormal, cycle=cycle, progress=progress, cached=cached)
    return comparing.of_captures(result, target), explaining.explanation(result, explain) if explain else None


def list_anchors(sides: dict[str, Path], quiet: bool) -> NoReturn:
    """Print what could mark the cycles of each capture, best first."""
    from rca import api  # noqa: PLC0415
    from reports import inspection, terminal  # noqa: PLC0415

    with terminal.progress(enabled=not quiet) as progress:
        found = {side: api.inspect(path, progress=progress) for side, path in sides.items()}
    if sys.stdout.isatty():
        inspection.show_anchors(found)
    else:
        to_stdout(inspection.anchors_text(found))
    sys.exit(0)


def _write(shown: Shown, output: Path | None, single: dict[str, Path | None], force: bool) -> list[Path]:
    """Write what was asked for; return the files, the ticket report first."""
    from reports import files  # noqa: PLC0415

    written = []
    if output:
        files.write_folder(output, {name: shown.texts[kind]() for name, kind in shown.folder.items()}, force)
        written = [output / name for name in shown.folder]
    for kind, path in single.items():
        if path == Path("-"):
            to_stdout(shown.texts[kind]())
        elif path:
            files.write_file(path, shown.texts[kind]())
            written.append(path)
    return written
