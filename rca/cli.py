"""The command line: argument parsing only. What a command does is in `rca.api` and `reports`."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from rca.cli_bench import bench
from rca.cli_compare import CYCLE_HELP, EXIT_CODES, LIST, compare, list_anchors
from rca.cli_lab import lab
from rca.cli_open import open_
from rca.cli_output import redact_option, to_stdout
from rca.cli_startup import startup
from rca.cli_sweep import sweep
from rca.errors import OutputError, RcaError
from rca.version import COMPARISON_SCHEMA, __version__

_INTERRUPTED = 130
_GIVE_MEMORY_BACK = "dirty_decay_ms:50,muzzy_decay_ms:0"
"""For the allocator of polars, read when it is imported: by default it keeps for ten seconds what was freed."""

_INTERNAL = 5
_REDACT = "--redact"
"""Where a command was called with it, no error line names a path either."""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=f"""\b
Examples:
  rca compare normal/ abnormal/
  rca compare normal/ abnormal/ -o report/
  $ rca open report/
  rca inspect normal/

\b
Record one, on the server's machine:
  $ rca collect -o normal/ --url http://127.0.0.1:8000

{EXIT_CODES}""",
)
@click.version_option(__version__, message=f"rca %(version)s ({COMPARISON_SCHEMA})")
def cli() -> None:
    """Find out why an LLM server got slow: compare a capture from a good day with one from now."""


@cli.command(
    epilog="""\b
Examples:
  rca inspect fixtures/vllm-cpu-contention/normal
  rca inspect fixtures/vllm-cpu-contention/normal --all
  rca inspect fixtures/vllm-cpu-contention/normal --cycle list
  rca inspect fixtures/vllm-cpu-contention/normal --cycle nvtx:execute_context --json -
  rca inspect fixtures/vllm-cpu-contention/normal --redact

\b
Exit codes:
  0 inspected, whatever was found   2 usage or unreadable input   5 internal error"""
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--json",
    "json_",
    type=click.Path(path_type=Path, allow_dash=True),
    is_flag=False,
    flag_value=Path("-"),
    metavar="PATH",
    help="Write everything as JSON to PATH; - or nothing is stdout, instead of the tables.",
)
@click.option("--cycle", metavar="NAME", help=CYCLE_HELP)
@click.option("--all", "everything", is_flag=True, help="Show all rows of all tables.")
@redact_option
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def inspect(path: Path, json_: Path | None, cycle: str | None, everything: bool, redact: bool, quiet: bool) -> NoReturn:
    """Say what a capture holds, and what is wrong with it.

    PATH is a folder (searched with all below it) or a file. Shows files, ranks, devices, counters and their rates, what
    could mark cycles and how much of the recording those would cover, and findings: truncated files, dropped kernels,
    clocks that jump, holes in counters, stalls of the profiler.
    """
    from rca import api  # noqa: PLC0415  (imports take longer than --help may)
    from rca.redact import redacted  # noqa: PLC0415
    from reports import files, inspection, terminal  # noqa: PLC0415

    files.check_outputs(None, [json_] if json_ else [], [path], force=False)
    if cycle == "":
        raise click.UsageError("--cycle needs a name")
    if cycle == LIST and not json_:
        list_anchors({"": path}, redact, quiet)
    with terminal.progress(enabled=not (quiet or redact)) as progress:  # it names files
        result = api.inspect(path, cycle=None if cycle == LIST else cycle, progress=progress)
    result = redacted(result) if redact else result
    if json_ == Path("-"):
        to_stdout(inspection.inspection_json(result))
    else:
        if json_:
            files.write_file(json_, inspection.inspection_json(result))
        if sys.stdout.isatty():
            inspection.show(result, everything)
        else:
            to_stdout(inspection.text(result, everything))
    sys.exit(0)


@cli.command(
    epilog="""\b
Examples:
  rca collect --once
  rca collect -o idle --duration 2
  rca collect -o run -- python3 -c "sum(range(10**7))"

\b
A server, on a good day and now:
  $ rca collect -o captures/normal --url http://127.0.0.1:8000
  $ rca collect -o captures/abnormal --url http://127.0.0.1:8000
  $ rca compare captures/normal captures/abnormal

\b
A program under Nsight Systems:
  $ rca collect -o captures/run --nsys -- python serve_benchmark.py

\b
Exit codes:
  0 recorded, also when ended early by Ctrl-C   2 usage, no such server, DIR cannot be written   5 internal error"""
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Folder that becomes the capture.")
@click.option(
    "--duration",
    type=click.FloatRange(min=0.5),
    metavar="SECONDS",
    help="How long. [default: 30, or until COMMAND ends; COMMAND is ended with it]",
)
@click.option("--url", metavar="URL", help="Server to record: its engine, processes and GPUs are found by it.")
@click.option("--engine", type=click.Choice(["auto", "sglang", "vllm"]), default="auto", show_default=True)
@click.option("--pid", "pids", type=int, multiple=True, help="Process to watch, with all it starts; repeatable.")
@click.option(
    "--hz", type=click.FloatRange(0.5, 200), default=20.0, show_default=True, help="Samples per second of fast counters."
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Steps of the engine to profile. Writing their trace holds the server up; fewer are written faster.",
)
@click.option("--no-profile", is_flag=True, help="Counters only: leave the server's profiler alone.")
@click.option(
    "--profile-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where a vLLM server writes its traces, if its command line does not say.",
)
@click.option(
    "--export-timeout",
    type=click.FloatRange(min=1),
    default=180.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the server to write its trace.",
)
@click.option(
    "--nsys",
    type=click.Choice(["sqlite", "parquetdir"]),
    is_flag=False,
    flag_value="sqlite",
    help="Record with Nsight Systems: COMMAND, or the server in the only `nsys launch` session. Exports sqlite by default.",
)
@click.option("--once", is_flag=True, help="Print one sample of everything that can be measured here, and end.")
@click.option("-f", "--force", is_flag=True, help="Replace a capture in DIR.")
@click.option("-q", "--quiet", is_flag=True, help="No status line, no events on stderr.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def collect(  # noqa: PLR0913, PLR0917
    output: Path | None,
    duration: float | None,
    url: str | None,
    engine: str,
    pids: tuple[int, ...],
    hz: float,
    steps: int,
    no_profile: bool,
    profile_dir: Path | None,
    export_timeout: float,
    nsys: str | None,
    once: bool,
    force: bool,
    quiet: bool,
    command: tuple[str, ...],
) -> NoReturn:
    """Record a capture: this host's and its GPUs' counters, and a profile of the server that runs on it.

    The server goes on serving. Its own torch profiler is started for some steps and stopped again, whatever happens;
    everything else is read from the kernel and the drivers. No prompts, outputs or environment variables are recorded, and
    secrets in command lines are left out. A server that wants a key gets the one in the environment variable RCA_API_KEY.

    With COMMAND (after --) a program is run and recorded; RCA_TRACES tells it where to put traces of its own.
    """
    from collectors.collect import Options  # noqa: PLC0415  (imports take longer than --help may)
    from collectors.collect import collect as record  # noqa: PLC0415
    from collectors.once import sample_once  # noqa: PLC0415
    from reports import collecting  # noqa: PLC0415

    if once:
        found = sample_once(url, engine, pids)
        to_stdout(collecting.once_text(found.samples, found.unavailable))
        sys.exit(0)
    if output is None:
        raise click.UsageError("-o DIR is missing: where should the capture go?")
    if command and url:
        raise click.UsageError("--url records a server that runs, COMMAND one program: give one of them")
    line = collecting.StatusLine(enabled=not quiet)
    options = Options(
        output=output,
        duration=duration,
        url=url,
        engine=engine,
        pids=pids,
        command=command,
        hz=hz,
        steps=0 if no_profile else steps,
        profile_dir=profile_dir,
        nsys=nsys,
        export_timeout=export_timeout,
        force=force,
    )
    try:
        done = record(options, lambda s: line.show(s.doing, s.seconds_left, s.samples_per_s, s.steps), line.event)
    finally:
        line.clear()
    to_stdout(collecting.summary(str(done.folder), done.manifest))
    sys.exit(0)


for _command in (compare, open_, startup, bench, sweep, lab):
    cli.add_command(_command)


@cli.command(
    epilog="""\b
Examples:
  rca completion bash

\b
Switch it on for good:
  $ rca completion bash >> ~/.bashrc"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete the words of rca."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  (one of the choices above)
    click.echo(kind(cli, {}, "rca", "_RCA_COMPLETE").source())


def main() -> NoReturn:
    """Run the command line; every error ends as one line on stderr and an exit code."""
    os.environ.setdefault("_RJEM_MALLOC_CONF", _GIVE_MEMORY_BACK)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (closed by the caller)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        cli.main(prog_name="rca", standalone_mode=False)
        sys.stdout.flush()
    except RcaError as error:
        _fail(f"rca: {error}", error.exit_code)
    except click.ClickException as error:
        if _REDACT in sys.argv:
            _fail(f"rca: {error.format_message()}", error.exit_code)
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("rca: interrupted", _INTERRUPTED)
    except BrokenPipeError:  # the reader of our stdout has enough
        _drop_stdout()
        sys.exit(0)
    except MemoryError:
        _fail("rca: not enough memory for these captures; compare shorter ones, or one rank at a time", _INTERNAL)
    except Exception as error:
        if os.environ.get("RCA_DEBUG"):
            raise
        _fail(f"rca: internal error: {type(error).__name__}: {error} (RCA_DEBUG=1 shows where; please report it)", _INTERNAL)
    sys.exit(0)


def _fail(message: str, code: int) -> NoReturn:
    if _REDACT in sys.argv:
        from rca.redact import redact_line  # noqa: PLC0415

        message = redact_line(message, sys.argv[1:])
    one_line = " ".join(message.split())
    print(one_line.encode(errors="replace").decode(), file=sys.stderr)
    if code == OutputError.exit_code:
        _drop_stdout()  # what is still buffered for a full disk must not fail once more at exit
    sys.exit(code)


def _drop_stdout() -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
