"""The commands of `rca lab`: argument parsing only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click


@click.group(
    epilog="""\b
Examples:
  rca lab list
  rca lab list smoke

\b
A suite from beginning to end (the servers' virtual environments are in $RCA_SERVERS):
  $ rca lab run cpu -o cases
  $ rca lab score cases --md scores.md --plot scores.svg"""
)
def lab() -> None:
    """Inject real faults into a real server, record them, and see whether the cause is found."""


@lab.command(
    "run",
    epilog="""\b
Examples:
  $ rca lab run smoke -o cases
  $ rca lab run lab/cpu.toml -o cases --only cpu_quota --only aa
  $ rca lab run my-suite.toml -o cases --allow clocks

\b
Exit codes:
  0 all that can be run here was   2 usage, a suite that cannot be read, or no workload that runs here
  4 cases are left: they failed, or the time was up; the same command goes on   5 internal error""",
)
@click.argument("suite", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", required=True, help="For the cases."
)
@click.option(
    "--allow",
    type=click.Choice(["clocks", "foreign"]),
    multiple=True,
    help="clocks: lock clocks of cores and GPUs. foreign: touch what other programs use too, as the page cache. Repeatable.",
)
@click.option(
    "--only", multiple=True, metavar="FAULT", help="Run these faults only (aa: the undisturbed pairs). Repeatable."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress, no notes on stderr.")
def run(suite: Path, output: Path, allow: tuple[str, ...], only: tuple[str, ...], quiet: bool) -> NoReturn:
    """Run SUITE: a file, or cpu, gpu or smoke, which come along.

    Starts the suite's servers, puts a steady load on them, and records pairs of captures: undisturbed, and with one fault.
    Beside each pair is its truth.json. Everything that is changed is put back, also when this program is killed. Cases that
    are there already are not run again.
    """
    from lab.run import Run  # noqa: PLC0415  (imports take longer than --help may)
    from lab.suite import read_suite  # noqa: PLC0415
    from reports import lab as drawn  # noqa: PLC0415

    planned = read_suite(suite)
    with drawn.progress(enabled=not quiet) as watch:
        done = Run(planned, output, frozenset(allow), frozenset(only), watch.at, watch.note).run()
    click.echo(drawn.summary(done))
    sys.exit(drawn.exit_code(done))


@lab.command(
    "list",
    epilog="""\b
Examples:
  rca lab list
  rca lab list cpu
  rca lab list --check --allow clocks""",
)
@click.argument("suite", type=click.Path(path_type=Path), required=False)
@click.option("--check", is_flag=True, help="Try which faults this machine can have, and say why not.")
@click.option("--allow", type=click.Choice(["clocks", "foreign"]), multiple=True, help="As of `rca lab run`; for --check.")
def show(suite: Path | None, check: bool, allow: tuple[str, ...]) -> None:
    """List the faults, each with the cause that it should be found as; or the cases of SUITE."""
    from lab.check import machine_lacks  # noqa: PLC0415
    from lab.suite import read_suite  # noqa: PLC0415
    from reports import lab as drawn  # noqa: PLC0415

    if suite and check:
        raise click.UsageError("--check is of faults: leave SUITE out")
    if suite:
        text = drawn.cases_text(read_suite(suite))
    else:
        text = drawn.faults_text(machine_lacks(frozenset(allow)) if check else None)
    click.echo(text, nl=False)


@lab.command(
    "score",
    epilog="""\b
Examples:
  $ rca lab score fixtures/lab

\b
For a repository's page:
  $ rca lab score cases --md scores.md --json scores.json --plot scores.svg""",
)
@click.argument("cases", type=click.Path(path_type=Path))
@click.option(
    "--md", type=click.Path(path_type=Path, allow_dash=True), metavar="PATH", help="Write the tables to PATH, not to stdout."
)
@click.option(
    "--json",
    "json_",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="PATH",
    help="Write every case and every number as JSON to PATH. For each of these, - is stdout.",
)
@click.option("--plot", type=click.Path(path_type=Path), metavar="PATH", help="Draw them to PATH: .svg or .png.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def score(cases: Path, md: Path | None, json_: Path | None, plot: Path | None, quiet: bool) -> NoReturn:
    """Compare the two sides of every case below CASES, and score the causes that are named against the truth.

    Beside rca's own ranking stand a random one, N-sigma, BARO's robust scorer and the suspicion score, on the same cases.
    Faults that changed nothing measurable are listed, and count neither for nor against.
    """
    from lab.score import score as scored  # noqa: PLC0415
    from reports import files, lab_plot, lab_scores  # noqa: PLC0415
    from reports import lab as drawn  # noqa: PLC0415

    dash = Path("-")
    if (md, json_).count(dash) > 1:
        raise click.UsageError("only one of them can go to stdout")
    if plot:
        lab_plot.check_plot(plot)  # before the cases are compared
    with drawn.progress(enabled=not quiet and sys.stderr.isatty()) as watch:
        scores = scored(cases, watch.compared)
    texts = {md: lab_scores.scores_markdown, json_: lab_scores.scores_json}
    for path, text in texts.items():
        if path and path != dash:
            files.write_file(path, text(scores))
    if plot:
        lab_plot.plot_scores(scores, plot)
    if json_ == dash:
        click.echo(lab_scores.scores_json(scores), nl=False)
    elif md is None or md == dash:
        click.echo(lab_scores.scores_markdown(scores), nl=False)
    sys.exit(0)
