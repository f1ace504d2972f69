"""`rca sweep report`: the seed's tables from its own numbers, what they mean, and files that are not as they should be."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from rca.cli_sweep import sweep as command
from rca.errors import InputError, RcaError, TooLittleDataError
from rca.sweep import Result, sweep
from reports import document
from reports import sweep as drawn

ROOT = Path(__file__).parents[1]
FIXTURE = ROOT / "fixtures/sweep"
SCHEMA = json.loads((ROOT / "reports/schema/sweep-1.schema.json").read_text())
HEADER = (
    "model_size,d_model,context_length,num_layers,num_heads,batch_size,"
    "num_warmups,num_trials,forward_only,mean_time_ms,std_time_ms"
)
NOT_FROM_ROUNDED = {
    ("Mean Time by Warmup Count", "small", "5"): (74.87, 74.875),
    ("Mean Time by Warmup Count", "xl", "5"): (290.63, 290.635),
    ("Summary Statistics", "std", "std_time_ms"): (113.51, 113.504714),
}
"""Cells that the seed computed from times that were not yet rounded: what it has, and what its own rounded table gives."""


@pytest.fixture(scope="session")
def seed() -> Path:
    path = ROOT.parent / "shared/seeds/transformer_benchmark_sweep.md"
    if not path.is_file():
        pytest.skip("../shared/seeds, the reports that people make by hand, is not beside this checkout")
    return path


@pytest.fixture(scope="session")
def seeded(seed: Path) -> Result:
    return sweep(seed)


@pytest.fixture
def report(tmp_path: Path) -> Callable[[str], Result]:
    """Evaluate a file of this content."""

    def evaluate(content: str | bytes) -> Result:
        path = tmp_path / "input"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return sweep(path)

    return evaluate


def sections(text: str) -> dict[str, list[str]]:
    """Return the table below each heading, line by line."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|"):
            found.setdefault(heading, []).append(line)
    return found


def fields(line: str) -> list[str]:
    return [field.strip() for field in line.strip("|").split("|")]


def grid(**changes: Any) -> str:
    """Return a made grid: two widths and depths, four contexts, time = width² · depth · context, warm-ups, both passes."""
    rng = np.random.default_rng(1)
    lines = [HEADER]
    for width, depth in ((64, 2), (128, 2), (64, 8), (128, 8)):
        for context in (16, 32, 64, 128):
            for warmups in (0, 1, 5):
                for only in (False, True):
                    steady = width**2 * depth * context * 1e-6 * (1 if only else 3) * rng.lognormal(0, 0.002)
                    mean = steady + (50 / 10 if warmups == 0 else 0)
                    std = 50 / 10**0.5 if warmups == 0 else 0.01 * steady
                    cell = f"w{width}d{depth}", width, context, depth, 4, 1, warmups, 10, only, mean, std
                    lines.append(",".join(map(str, cell)))
    text = "\n".join(lines) + "\n"
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


def test_the_seeds_tables_come_out_of_its_complete_results(seed: Path, seeded: Result) -> None:
    """Byte for byte, but for three cells that the seed has from numbers that it does not show."""
    ours, theirs = sections(document.markdown(drawn.document(seeded), "full")), sections(seed.read_text())
    assert len(theirs) == 10
    differing = set()
    for heading, table in theirs.items():
        assert len(ours[heading]) == len(table), heading
        for mine, line in zip(ours[heading], table, strict=True):
            if mine != line:
                names = zip(fields(table[0]), fields(mine), fields(line), strict=True)
                differing |= {(heading, fields(line)[0], name) for name, one, other in names if one != other}
    assert differing == set(NOT_FROM_ROUNDED)


def test_the_three_cells_that_differ_are_within_what_rounding_hides(seeded: Result) -> None:
    summary = dict(zip(seeded.tables.summary["statistic"], seeded.tables.summary["std_time_ms"], strict=True))
    means = {row["model_size"]: row for row in seeded.tables.mean_by_warmups.to_dicts()}
    for (heading, row, column), (theirs, exact) in NOT_FROM_ROUNDED.items():
        ours = means[row][column] if "Warmup" in heading else summary[row]
        assert ours == pytest.approx(exact, abs=1e-6)
        assert abs(ours - theirs) <= 0.005 + 0.005, "each shown time may be 0.005 off, and so may the seed's result"


def test_the_seeds_sections_stand_in_its_order(seed: Path, seeded: Result) -> None:
    headings = [line for line in seed.read_text().splitlines() if line.startswith("#")]
    text = document.markdown(drawn.document(seeded), "full").splitlines()
    ours = [line for line in text if line.startswith("#")]
    assert [line for line in ours if line in headings] == headings
    assert ours.index("## What this means") < ours.index("## Complete Results")


def test_what_the_seed_means(seeded: Result) -> None:
    meaning = seeded.meaning
    assert seeded.sweep.warnings == (
        'of 10 tables in the file the one below the heading "Complete Results" was read; the others were not',
    )
    assert meaning.first_calls.cells["rule"].to_list() == ["first_call"] * 20
    assert meaning.first_calls.above_mean == 10
    cost = meaning.first_calls.cost_ms
    assert cost is not None
    assert cost.low == pytest.approx(10 * (171.98 - (131.32 + 133.29) / 2))
    assert cost.n == 20
    assert 2.5 < meaning.backward[-1].estimate < 3.1
    assert meaning.backward[-1].n == 10
    (warmups,) = meaning.warmups
    assert warmups.low is not None
    assert warmups.high is not None
    assert warmups.low < 1 < warmups.high
    assert warmups.n == 20
    assert meaning.noisy["cell"][0] == "large, context 128, forward, 5 warm-ups"
    within = {effect.name: effect for effect in meaning.scaling[0].within}
    assert within["2.7B"].estimate == pytest.approx(0.89, abs=0.01)
    assert within["2.7B"].low is None  # two lengths do not show how far lengths deviate from a power law
    assert not meaning.scaling[0].steep


def test_reports_are_read_again_as_they_were_written(tmp_path: Path, seeded: Result) -> None:
    path = tmp_path / "report.md"
    path.write_text(document.markdown(drawn.document(seeded), "full"))
    again = sweep(path)
    assert again.sweep.cells.equals(seeded.sweep.cells)


def test_a_law_that_was_put_in_is_found(report: Callable[..., Result]) -> None:
    meaning = report(grid()).meaning
    for scaling in meaning.scaling:
        found = {effect.name: effect for effect in scaling.joint}
        for name, truth in (("d_model", 2), ("num_layers", 1), ("context_length", 1)):
            assert found[name].estimate == pytest.approx(truth, abs=0.02)
            assert found[name].low < truth + 0.01
            assert found[name].high > truth - 0.01
        assert scaling.steep == ("w64d2", "w128d2", "w64d8", "w128d8")
        assert scaling.n == 16
    assert meaning.backward[-1].estimate == pytest.approx(3, abs=0.02)
    cost = meaning.first_calls.cost_ms
    assert cost is not None
    assert cost.median == pytest.approx(50, rel=0.02)
    assert meaning.first_calls.explained is not None
    assert meaning.first_calls.explained.median == pytest.approx(1, rel=0.02)
    assert meaning.noisy.is_empty()


def test_noise_raises_few_alarms(report: Callable[..., Result]) -> None:
    """Trials that differ by chance alone: hardly a pair contradicts itself, no cell is noisy, no first call is seen."""
    rng = np.random.default_rng(2)
    rows = ["model_size,context_length,num_warmups,forward_only,time_ms"]
    for model in range(20):
        for warmups in (0, 1, 5):
            for only in (True, False):
                rows += [f"m{model},128,{warmups},{only},{rng.lognormal(2, 0.08)}" for _ in range(10)]
    meaning = report("\n".join(rows)).meaning
    assert meaning.pairs == 40
    assert meaning.contradictions.height <= 1
    assert meaning.noisy.height <= 1
    assert (meaning.first_calls.cells["rule"] == "first_call").sum() <= 1


def test_factors_that_move_together_are_said(report: Callable[..., Result]) -> None:
    rows = [
        f"w{width},{width},{context},{width // 8},4,1,1,10,True,{width * context / 1000},0.01"
        for width in (64, 128, 256)
        for context in (32, 64)
    ]
    (scaling,) = report("\n".join([HEADER, *rows])).meaning.scaling
    assert [effect.name for effect in scaling.joint] == ["d_model", "context_length"]
    assert any("move together" in note for note in scaling.notes)


def test_trials_show_their_first_call(report: Callable[..., Result]) -> None:
    rows = ["model_size,context_length,num_warmups,forward_only,trial,time_ms"]
    rows += [f"m,128,0,True,{k},{100 if k == 0 else 10 + k / 100}" for k in reversed(range(10))]
    result = report("\n".join(rows))
    calls = result.meaning.first_calls
    assert calls.from_trials
    assert calls.cost_ms is not None
    assert calls.cost_ms.median == pytest.approx(100 - 10.05)
    assert result.meaning.unavailable["scaling"].startswith("no cell has a warm-up")
    assert "No cell has a warm-up" in document.markdown(drawn.document(result))


def test_headers_units_words_and_separators(report: Callable[..., Result]) -> None:
    text = (
        "\ufeffModel Size;Context Length;Num Warmups;FORWARD-ONLY;Mean Time (s);std time [us];num trials\r\n"
        'a;128;1;forward;"1,234.5";1000;10\r\n'
        "a;128;1;forward+backward;2;1000;10\r\n"
        "a;256;1;1;3;1000;10\r\n"
    )
    result = report(text)
    assert result.sweep.cells["mean_time_ms"].to_list() == [1_234_500, 2000, 3000]
    assert result.sweep.cells["std_time_ms"].to_list() == pytest.approx([1, 1, 1])
    assert result.sweep.cells["forward_only"].to_list() == [True, False, True]
    assert "column Mean Time (s) was converted to ms (times 1000)" in result.sweep.warnings
    assert any("separators of thousands" in warning for warning in result.sweep.warnings)
    notes = [note for scaling in result.meaning.scaling for note in scaling.notes]
    assert "not available for d_model: there is no column d_model" in notes


def test_rows_that_cannot_be_used_are_said_by_number(report: Callable[..., Result]) -> None:
    bad = ("nan", "inf", "-3", "0", "x", "")
    rows = [HEADER, *(f"a,64,128,2,2,1,1,10,True,{value},1" for value in bad), "a,64,128,2,2,1,1,10,True,5,1", "a,64"]
    rows += ["a,64,128,2,2,1,1,10,True,6,1", "a,64,256,2,2,1,1,10,perhaps,6,1", "a,-1,512,2,2,1,1,0,True,6,-1"]
    result = report("\n".join(rows))
    assert result.sweep.cells.height == 2
    assert set(result.sweep.warnings) == {
        "lines 2, 3, 4, 5, 6 and 1 more: mean_time_ms is no number above 0; skipped",
        "line 9: not 11 fields as the header has; skipped",
        "line 10: cells that stand in the file already; skipped",
        "line 11: forward_only is neither true nor false; skipped",
        "line 12: d_model is no whole number above 0; taken as unknown",
        "line 12: num_trials is no whole number above 0; taken as unknown",
        "line 12: std_time_ms is no number from 0; taken as unknown",
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n ", "is empty"),
        (bytes(range(256)) * 9, "is not text"),
        (b"some words", "holds no table"),
        (b"a,b\n1,2", "lacks the column(s) model_size, context_length"),
        (b"| a | b |\n|---|---|\n| 1 | 2 |", "none of its 1 table(s) has all columns"),
        (b'{"a": 1}', "lacks the column(s)"),
        (b'{"a": ', "is JSON, but neither"),
        (b"[1, 2]", "is JSON, but neither"),
        (b"PAR1 and no more", "is a parquet file that is cut off"),
        (b"PAR1" + bytes(99) + b"PAR1", "is a parquet file that cannot be read"),
        (b"\xff\xfea", "is UTF-16 that cannot be decoded"),
    ],
)
def test_what_cannot_be_used_is_one_line(report: Callable[..., Result], content: bytes, words: str) -> None:
    with pytest.raises(InputError) as caught:
        report(content)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_table_without_a_usable_row_is_too_little(report: Callable[..., Result]) -> None:
    for rows in ("", "\na,64,128,2,2,1,1,10,True,nan,1"):
        with pytest.raises(TooLittleDataError):
            report(HEADER + rows)


def test_folders_and_missing_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError):
            sweep(path)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 13, 36])
def test_parts_of_a_grid_are_reported_whatever_is_missing(report: Callable[..., Result], rows: int) -> None:
    result = report("\n".join(grid().splitlines()[: rows + 1]))
    assert "## Complete Results" in document.markdown(drawn.document(result))
    jsonschema.validate(json.loads(drawn.sweep_json(result)), SCHEMA)


@pytest.mark.parametrize("column", ["d_model", "num_layers", "num_heads", "batch_size", "num_trials", "std_time_ms"])
def test_columns_that_are_not_needed_may_lack(report: Callable[..., Result], column: str) -> None:
    frame = pl.read_csv(io.StringIO(grid())).drop(column)
    result = report(frame.write_csv())
    assert column not in result.sweep.cells.columns or result.sweep.cells[column].null_count() == frame.height
    jsonschema.validate(json.loads(drawn.sweep_json(result)), SCHEMA)


def test_every_format_gives_the_same(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (FIXTURE / "trials.jsonl").read_text().splitlines()]
    frame = pl.DataFrame(rows)
    frame.write_parquet(tmp_path / "a")
    frame.write_csv(tmp_path / "b")
    (tmp_path / "c").write_text(json.dumps(rows))
    (tmp_path / "d").write_bytes(("\ufeff" + frame.write_csv().replace("\n", "\r\n")).encode("utf-16"))
    cells = sweep(FIXTURE).sweep.cells
    for name in "abcd":
        assert sweep(tmp_path / name).sweep.cells.equals(cells), name


def test_a_last_line_that_is_cut_is_skipped_and_said(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_bytes((FIXTURE / "trials.jsonl").read_bytes()[:-20])
    result = sweep(path)
    assert result.sweep.warnings == ("line 576, the last one, is cut off; skipped",)
    assert result.sweep.cells["num_trials"].to_list() == [8] * 71 + [7]


def test_failed_cells_are_said(report: Callable[..., Result]) -> None:
    cell = {"model_size": "a", "context_length": 8, "num_warmups": 1, "forward_only": True}
    rows = [{**cell, "trial": 0, "time_ms": 2.5}, {**cell, "model_size": "b", "error": "out of memory"}]
    result = report("\n".join(map(json.dumps, rows)))
    assert (
        result.sweep.warnings[0] == "b, context 8, 1 warm-up(s), forward_only True: not measured to the end: out of memory"
    )
    assert result.sweep.cells.height == 1


def test_names_are_text_in_markdown(report: Callable[..., Result]) -> None:
    name = "a\\|b <img src=x> `c` *d* @e"
    table = f"# T\n\n| {' | '.join(HEADER.split(','))} |\n|{'---|' * 11}\n"
    table += f"| {name} | 64 | 128 | 2 | 2 | 1 | 0 | 9 | True | 9 | 1 |\n"
    table += f"| {name} | 64 | 128 | 2 | 2 | 1 | 1 | 9 | True | 5 | 1 |\n"
    result = report(table)
    assert result.sweep.cells["model_size"].to_list() == ["a|b <img src=x> `c` *d* @e"] * 2
    text = document.markdown(drawn.document(result))
    outside = "".join(part for i, part in enumerate(text.replace("\\`", "").split("`")) if i % 2 == 0)
    assert "<img" not in outside.replace("\\<", "")
    rows = sections(text)["Complete Results"]
    assert {line.replace("\\|", "").count("|") for line in rows} == {12}
    assert "{{" in document.markdown(drawn.document(result), "jira")


def test_two_hundred_thousand_trials(report: Callable[..., Result]) -> None:
    n = 200_000
    i = np.arange(n)
    frame = pl.DataFrame(
        {
            "model_size": [f"m{k // 100 % 20}" for k in range(n)],
            "context_length": 2 ** (5 + i // 2000 % 5),
            "num_warmups": i // 10_000 % 4,
            "forward_only": i // 40_000 % 2 == 0,
            "time_ms": np.random.default_rng(0).lognormal(0, 0.1, n),
        }
    )
    result = report(frame.write_csv())
    assert result.sweep.cells.height == 800
    assert "800 cells" in document.markdown(drawn.document(result))


def test_json_and_csv_carry_every_cell() -> None:
    result = sweep(FIXTURE)
    found = json.loads(drawn.sweep_json(result))
    jsonschema.validate(found, SCHEMA)
    assert found["environment"]["torch"].startswith("2.13")
    rows = list(csv.DictReader(io.StringIO(drawn.sweep_csv(result))))
    assert len(rows) == len(found["cells"]) == 72
    assert {row["left_out"] for row in rows if row["num_warmups"] != "0"} == {""}
    assert float(rows[3]["mean_time_ms"]) == pytest.approx(found["cells"][3]["mean_time_ms"])


def test_the_command_reports_in_every_format(tmp_path: Path) -> None:
    runner = CliRunner()
    text = runner.invoke(command, ["report", str(FIXTURE), "-q"], catch_exceptions=False)
    assert text.stdout.startswith("# Benchmark Results Summary")
    assert text.stderr == ""
    again = runner.invoke(command, ["report", str(FIXTURE), "-q"], catch_exceptions=False)
    assert again.stdout == text.stdout
    out = tmp_path / "report.json"
    done = runner.invoke(command, ["report", str(FIXTURE), "--format", "json", "-o", str(out)], catch_exceptions=False)
    assert done.exit_code == 0
    assert json.loads(out.read_text())["schema"] == "rca.sweep/1"
    inside = runner.invoke(command, ["report", str(FIXTURE), "-o", str(FIXTURE / "x.md")])
    assert isinstance(inside.exception, RcaError)


def test_the_terminal_gets_the_meaning_first(capsys: pytest.CaptureFixture[str]) -> None:
    document.show(drawn.document(sweep(FIXTURE)))
    text = capsys.readouterr().out
    assert text.index("Forward and backward together take") < text.index("What this means") < text.index("Complete Results")


def test_commas_are_decimal_where_semicolons_separate(report: Callable[..., Result]) -> None:
    text = "model_size;context_length;num_warmups;forward_only;mean_time_ms\na;128;1;true;38,512\na;256;1;true;50,1\n"
    assert report(text).sweep.cells["mean_time_ms"].to_list() == [38.512, 50.1]


def test_times_that_nothing_takes_are_skipped(report: Callable[..., Result]) -> None:
    text = "model_size,context_length,num_warmups,forward_only,mean_time_ms\na,128,1,true,1e40\na,256,1,true,50.1\n"
    result = report(text)
    assert document.markdown(drawn.document(result))
    assert result.sweep.cells.height == 1
