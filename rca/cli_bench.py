"""The commands of `rca bench`: argument parsing only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from rca import cli_output

_INTERRUPTED = 130


def _numbers(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise click.BadParameter(f"{text!r}: expected numbers from 1, separated by commas, as in 3,26")
    return tuple(dict.fromkeys(numbers))


@click.group(
    epilog="""\b
Examples:
  rca bench report fixtures/bench/float32
  rca bench report fixtures/bench/float32 --format csv

\b
A model with and without quantisation, and what made the difference:
  $ rca bench run -o fp16 --model models/Qwen3-4B --dtype float16
  $ rca bench run -o int8 --model models/Qwen3-4B --dtype float16 --quantize int8
  $ rca compare fp16 int8"""
)
def bench() -> None:
    """Run a model over prompt lengths and new tokens, and sum up such runs."""


@bench.command(
    epilog="""\b
Examples:
  $ rca bench run -o fp16 --model models/Qwen3-4B --dtype float16
  $ rca bench run -o tiny --config config.json --device cpu --python ~/torch/bin/python
  $ rca bench run -o int8 --model models/Qwen3-4B --quantize int8 --compile --repeats 10

\b
Exit codes:
  0 all runs are done   2 usage, or the model cannot be run: why   5 internal error
  130 ended by Ctrl-C: what was done is kept"""
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", required=True, help="For the records."
)
@click.option("--model", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="A local checkpoint.")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="PATH", help="A model's config.json; its weights are random."
)
@click.option(
    "--prompt-lengths", default="3,26", show_default=True, callback=_numbers, metavar="N,…", help="Tokens of the prompts."
)
@click.option(
    "--new-tokens", default="50,100", show_default=True, callback=_numbers, metavar="N,…", help="Tokens to generate."
)
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Timed runs of each.")
@click.option(
    "--warmups", type=click.IntRange(min=0), default=1, show_default=True, help="Runs before them that do not count."
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="cuda: ROCm too."
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "float16", "bfloat16"]),
    default="auto",
    show_default=True,
    help="auto: as the model's configuration says.",
)
@click.option(
    "--quantize",
    type=click.Choice(["none", "int8"]),
    default="none",
    show_default=True,
    help="int8: weights only, by torchao. GPTQ checkpoints are loaded as they are.",
)
@click.option("--compile", "compiled", is_flag=True, help="Run it through torch.compile.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Of torch, on the CPU.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of random weights and prompts.")
@click.option("--no-profile", is_flag=True, help="No profiled run at the end.")
@click.option(
    "--python",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    help="A Python with torch and transformers. [default: the one that runs rca]",
)
@click.option("-f", "--force", is_flag=True, help="Replace the records in DIR.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no figures on stderr.")
def run(  # noqa: PLR0913, PLR0917
    output: Path,
    model: Path | None,
    config: Path | None,
    prompt_lengths: tuple[int, ...],
    new_tokens: tuple[int, ...],
    repeats: int,
    warmups: int,
    device: str,
    dtype: str,
    quantize: str,
    compiled: bool,
    threads: int | None,
    seed: int,
    no_profile: bool,
    python: Path | None,
    force: bool,
    quiet: bool,
) -> NoReturn:
    """Time greedy generation with a model: every prompt length with every number of new tokens.

    Prompts are random tokens; exactly so many new tokens are generated. Every run is a line of DIR/runs.jsonl as soon as it
    is done. At last one run of the last configuration is profiled; its trace and operator table are kept beside the lines.
    """
    from collectors import bench as collecting  # noqa: PLC0415  (imports take longer than --help may)
    from rca.bench import read  # noqa: PLC0415
    from reports import bench as drawn  # noqa: PLC0415
    from reports import bench_progress, document  # noqa: PLC0415

    plan = collecting.Plan(
        output=output,
        model=model,
        config=config,
        python=python,
        prompt_lengths=prompt_lengths,
        new_tokens=new_tokens,
        repeats=repeats,
        warmups=warmups,
        device=device,
        dtype=dtype,
        quantize=quantize,
        compile=compiled,
        threads=threads or 0,
        seed=seed,
        profile=not no_profile,
        force=force,
    )
    with bench_progress.watching(enabled=not quiet) as watch:
        done = collecting.run(plan, watch.at)
        if done.interrupted:
            watch.note(f"interrupted; {done.runs} runs are kept in {output}")
    if done.runs:
        shown = drawn.bench_document(read(output))
        if sys.stdout.isatty():
            document.show(shown)
        else:
            cli_output.to_stdout(document.markdown(shown))
    sys.exit(_INTERRUPTED if done.interrupted else 0)


@bench.command(
    epilog="""\b
Examples:
  rca bench report fixtures/bench/float32
  rca bench report fixtures/bench/float32 --format json
  rca bench report fixtures/bench/float32 --html bench.html --plots pictures

\b
The second model run of a pasted log:
  $ rca bench report runs.log#2

\b
Exit codes:
  0 read   2 usage, or no model run   5 internal error"""
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["md", "csv", "json"]),
    help="csv: the timed runs. [default: a terminal gets tables, a pipe md]",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write it to FILE instead of stdout.")
@cli_output.html_option
@cli_output.plots_option
@cli_output.for_target
@cli_output.redact_option
@cli_output.force_option
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
) -> NoReturn:
    """Sum up a model run: each run, means with intervals, operators by self device time.

    PATH is a folder of `rca bench run`, or a text: a pasted log with lines of runs, or anything with operator tables of
    torch.profiler (key_averages().table()) in it. Of several model runs in a text all are shown; PATH#2 is the second.
    """
    from rca.bench import read, read_all  # noqa: PLC0415  (imports take longer than --help may)
    from rca.redact import redacted  # noqa: PLC0415
    from reports import bench as drawn  # noqa: PLC0415
    from reports import bench_data, bench_html, document, files, terminal  # noqa: PLC0415
    from reports import plots as pictures  # noqa: PLC0415

    inputs = [path, Path(str(path).rpartition("#")[0] or path)]
    files.check_outputs(plots, [one for one in (output, html) if one], inputs, force)
    found = read_all(path) if kind in (None, "md") else (read(path),)
    if redact:
        found = redacted(found)
    shown = drawn.bench_documents(found)
    if not quiet:
        terminal.notes(shown.warnings)
    if plots:
        files.write_folder(plots, pictures.model_runs(found), force)
    if html:
        files.write_file(html, bench_html.report_page(found))
    texts = {
        "md": lambda: document.markdown(shown, target),
        "csv": lambda: bench_data.bench_csv(found[0]),
        "json": lambda: bench_data.bench_json(found[0]),
    }
    if output and output != Path("-"):
        files.write_file(output, texts[kind or "md"]())
    elif kind is None and sys.stdout.isatty():
        document.show(shown)
    else:
        cli_output.to_stdout(texts[kind or "md"]())
    sys.exit(0)
