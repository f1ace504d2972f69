"""Model runs as they stand in texts: lines of one run each, under a configuration, with an operator table at the end.

Two spellings are known: what `rca bench run` prints, and the Chinese one of the benchmark script in the project's example. A
text may hold several model runs, one after the other; each begins where a model is loaded or a test started, or where runs
follow on an operator table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rca.bench.model import Configuration, Measured, RunRecord
from rca.bench.operators import OperatorTable, plain, read_tables

_NUMBER = r"[-+]?(?:\d[\d.]*(?:[eE][-+]?\d+)?|nan|inf)"
RUN_LINE = re.compile(
    r"(?:运行|[Rr]un)\s+(?P<run>\d+)/(?P<of>\d+)\s*[:：]\s*"
    rf"(?:延迟|latency)\s*=\s*(?P<latency>{_NUMBER})\s*s\b"
    r"(?:\s*[,，]\s*(?:生成|generated)\s*(?P<tokens>\d+)\s*tokens)?"
    rf"(?:\s*[,，]\s*(?:吞吐量|throughput)\s*=\s*(?P<throughput>{_NUMBER})\s*(?:t/s|tokens/s))?"
    rf"(?:\s*[,，]\s*(?:显存|peak memory|memory)\s*=\s*(?P<memory>{_NUMBER})\s*(?P<unit>GiB|GB|MiB|MB))?"
)
CONFIGURATION_LINE = re.compile(r"(?:测试配置|Configuration)\s*[:：]\s*(?P<name>[^\n]*?)\s*-*\s*$")
_PROMPT = re.compile(r"(?:输入长度|prompt(?: length)?|input(?: length)?)[\s_=:]*(\d+)", re.I)
_NEW = re.compile(r"(?:生成|new(?:[ _]tokens)?|output(?: length)?|generate[sd]?)[\s_=:]*(\d+)", re.I)
_START = re.compile(r"(?:开始测试|Model run)\s*[:：]\s*(?P<model>.*?)\s*=*\s*$")
_LOADING = re.compile(r"[Ll]oading (?:model|checkpoint shards|weights)")
_TRACEBACK = "Traceback (most recent call last)"
_ERROR = re.compile(r"^(?P<error>[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b.*)$")
_BARE_LABEL = re.compile(r"^\W{0,4}(?P<label>[A-Za-z0-9][\w.+-]{0,39})\s*[:：]\s*$")
_QUANTISED = re.compile(r"\b(int8|int4|fp8|nf4|w8a8|w4a16|gptq|awq|bitsandbytes)\b", re.I)
_ABOUT_QUANTISING = re.compile(r"quanti[sz]|量化", re.I)
_COMPILED = "Torch-Compiled Region"
_WORTH_A_LOOK = re.compile(
    r"延迟|latency|测试配置|Configuration|开始测试|Model run|[Ll]oading|Traceback|Error|Exception|Interrupt|Exit"
    r"|[Qq]uanti[sz]|量化|[:：]\s*$"
)
"""What every line that means something here has; looked for first, because logs are long."""

_MOST_LINE = 2_000
"""A longer line is no line of a run; a progress bar of a pasted log has some hundred characters."""


@dataclass
class Section:
    """What a text says of one model run; filled line by line."""

    line: int
    label: str = ""
    model: str = ""
    quantised: str = ""
    error: str = ""
    failed: bool = False
    configuration: Configuration | None = None
    records: list[RunRecord] = field(default_factory=list)
    tables: list[OperatorTable] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was measured."""
        return not self.records and not self.tables

    @property
    def is_compiled(self) -> bool:
        """Tell whether its operator table shows functions that torch.compile made."""
        return any(table.rows["name"].str.starts_with(_COMPILED).any() for table in self.tables)

    @property
    def title(self) -> str:
        """What the text calls it."""
        parts = [self.model, self.label, "" if self.quantised.lower() in self.label.lower() else self.quantised]
        return " ".join([*(part for part in parts if part), *(["compiled"] if self.is_compiled else [])])


@dataclass(frozen=True)
class Text:
    """The model runs of a text, and what of it was skipped."""

    sections: tuple[Section, ...]
    skipped: tuple[str, ...]


def read_text(text: str) -> Text:
    """Return the model runs that stand in a text, in its order."""
    lines = plain(text)
    tables = {table.line: table for table in read_tables(lines)}
    reading = _Reading()
    number = 1
    while number <= len(lines):
        if table := tables.get(number):
            reading.table(number, table)
            number = max(table.last_line, number) + 1
            continue
        line = lines[number - 1]
        if len(line) <= _MOST_LINE and _WORTH_A_LOOK.search(line):
            reading.line(number, line)
        number += 1
    return reading.done()


class _Reading:
    """Walks over a text's lines and begins a new section where a new model run begins."""

    def __init__(self) -> None:
        self._sections = [Section(line=1)]
        self._label = ""
        self._bad_figures = 0

    def table(self, number: int, table: OperatorTable) -> None:
        """Take an operator table: another order of the one before, or of this run."""
        now = self._sections[-1]
        if now.tables and _same_profile(now.tables[-1], table):
            now.tables[-1] = max(now.tables[-1], table, key=lambda t: (t.rows.height, bool(t.sorted_by)))
            return
        if now.tables and not now.records:
            now = self._begin(number)
        now.tables.append(table)

    def line(self, number: int, line: str) -> None:
        """Take any other line."""
        now = self._sections[-1]
        if run := RUN_LINE.search(line):
            self._run(number, run)
        elif named := CONFIGURATION_LINE.search(line):
            now = self._begin(number) if now.tables or now.failed else now
            now.configuration = configuration_of(named["name"])
        elif started := _START.search(line):
            now = self._begin(number) if not now.is_empty or now.failed else now
            now.model, now.label = started["model"].strip(" =-"), now.label or self._label
            now.quantised = now.quantised or _quantised(now.label) or _quantised(now.model)
            self._label = ""
        elif _LOADING.search(line):
            if not now.is_empty or now.failed:
                self._begin(number)
        elif _TRACEBACK in line:
            now = self._begin(number) if now.tables else now
            now.failed, self._label = True, ""
        else:
            self._other(now, line)

    def _other(self, now: Section, line: str) -> None:
        if now.failed and not now.error and (error := _ERROR.match(line)):
            now.error = error["error"]
        elif bare := _BARE_LABEL.match(line):
            self._label = bare["label"]
        elif not now.failed and now.is_empty and _ABOUT_QUANTISING.search(line):
            now.quantised = _quantised(line) or now.quantised

    def _run(self, number: int, run: re.Match[str]) -> None:
        now = self._sections[-1]
        seen = {(record.configuration, record.run) for record in now.records}
        configuration = now.configuration or Configuration("", None, None)
        if now.tables or now.failed or (configuration, int(run["run"])) in seen:
            now = self._begin(number)
            now.configuration = configuration
        record = record_of(run, configuration)
        if record is None:
            self._bad_figures += 1
        else:
            now.records.append(record)

    def _begin(self, number: int) -> Section:
        """Begin a section; of the one before, the model's name goes on if this one's is not stated."""
        before = self._sections[-1]
        self._sections.append(Section(line=number, label=self._label, quantised=_quantised(self._label), model=before.model))
        self._label = ""
        return self._sections[-1]

    def done(self) -> Text:
        """Return what was found."""
        skipped = [
            f"the model run that begins in line {section.line:,} failed and was skipped: {section.error or 'a traceback'}"
            for section in self._sections
            if section.failed and section.is_empty
        ]
        if self._bad_figures:
            skipped.append(f"{self._bad_figures:,} lines of runs have a latency that is no positive number; skipped")
        return Text(tuple(section for section in self._sections if not section.is_empty), tuple(skipped))


def _quantised(text: str) -> str:
    found = _QUANTISED.search(text)
    return found[1] if found else ""


def _same_profile(one: OperatorTable, other: OperatorTable) -> bool:
    """Tell two tables of one profile, sorted in two ways: their totals agree, to the last digit."""
    return one.self_cpu is not None and (one.self_cpu, one.self_device) == (other.self_cpu, other.self_device)


def configuration_of(name: str) -> Configuration:
    """Read prompt length and new tokens out of a configuration's name, where it states them."""
    prompt, new = _PROMPT.search(name), _NEW.search(name)
    return Configuration(name, int(prompt[1]) if prompt else None, int(new[1]) if new else None)


def record_of(run: re.Match[str], configuration: Configuration) -> RunRecord | None:
    """Read one line of a run; None where its latency is no positive number."""
    latency = measured(run["latency"])
    if latency is None:
        return None
    tokens = int(run["tokens"]) if run["tokens"] else configuration.new_tokens
    return RunRecord(
        configuration=configuration,
        run=int(run["run"]),
        of=int(run["of"]),
        latency_s=latency,
        tokens=tokens,
        throughput=measured(run["throughput"]),
        memory=measured(run["memory"]),
        memory_unit=run["unit"] or "",
    )


def measured(text: str | None) -> Measured | None:
    """Read a positive figure with the half of its last digit; None where it is none."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    if not 1e-9 < value < 1e9:  # no run takes longer, nor less
        return None
    decimals = len((text or "").lower().partition("e")[0].partition(".")[2])
    return Measured(value, 0.5 * 10**-decimals)
