"""Chrome-trace events as typed objects, and windows of them as columns.

This module and those that it imports also run in worker processes, which start faster without polars.
"""

from __future__ import annotations

import functools
import operator
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MAX_US = 4e15
MAX_DURATION_US = 1e15
"""The year 2096 and 31 years: base, time and duration together stay within int64 once they are in ns."""

_NAN = float("nan")
_NONE_32, _NONE_64 = -(2**31), -(2**63)
"""Stand for a missing integer in a column."""


class Args(msgspec.Struct, gc=False):
    """What is needed of an event's ``args``. kunlun traces nest it once more, as JSON text in ``args``."""

    correlation: float = _NAN
    stream: float = _NAN
    bytes: float = _NAN
    device: int | str | None = None
    rank: int | str | None = None
    args: str | None = None


class Span(msgspec.Struct, gc=False, tag_field="ph", tag="X"):
    """A complete event."""

    cat: str = ""
    name: str = ""
    pid: int | str | None = None
    tid: int | str | None = None
    ts: float = _NAN
    dur: float = _NAN
    args: Args | None = None


class Begin(Span, gc=False, tag_field="ph", tag="B"):
    """The first half of a span; the `End` in its thread that closes it is the other one."""


class End(Span, gc=False, tag_field="ph", tag="E"):
    """The second half of a span."""


class Sample(msgspec.Struct, gc=False, tag_field="ph", tag="C"):
    """Values of one or more counters at one time."""

    name: str = ""
    pid: int | str | None = None
    tid: int | str | None = None
    ts: float = _NAN
    args: dict[str, Any] | None = None


class Ignored(msgspec.Struct, gc=False, tag_field="ph"):
    """Flow arrows, instants, metadata and the like. Not decoding their fields saves a third of the time."""


_IGNORED = [
    msgspec.defstruct(f"Ignored{ord(phase)}", [], bases=(Ignored,), tag=phase, gc=False)
    for phase in "iIbnestfPNODMVvRc(,)pTFS"
]
_KEPT: tuple[type[Span | Sample], ...] = (Span, Begin, End, Sample)
_DECODER = msgspec.json.Decoder(list[functools.reduce(operator.or_, [*_KEPT, *_IGNORED])])  # type: ignore[misc]
_NESTED_ARGS = msgspec.json.Decoder(list[Args])
_TYPE_OF_PHASE = {str(kind.__struct_config__.tag): kind for kind in _KEPT}
_NO_ARGS = Args()

UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises: for broken JSON, bytes that are not UTF-8, and values nested a thousand deep."""

Events = Sequence[Span | Sample | Ignored]


def decode(array: bytes) -> Events:
    """Decode a JSON array of events. Raises `UNDECODABLE`, of these `msgspec.ValidationError` for odd fields."""
    return _DECODER.decode(array)  # type: ignore[no-any-return]


def salvage(array: bytes) -> tuple[list[Span | Sample], int]:
    """Decode an array whose events have fields of odd types: those that cannot be used count as missing.

    Returns:
        The events, and how many items of the array are none.
    """
    items = msgspec.json.decode(array)
    events = [_salvaged(item) for item in items]
    return [event for event in events if event is not None], sum(not _is_event(item) for item in items)


def _is_event(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("ph"), str)


def _salvaged(item: Any) -> Span | Sample | None:
    kind = _TYPE_OF_PHASE.get(item["ph"]) if _is_event(item) else None
    if kind is None:
        return None
    args = item.get("args") if isinstance(item.get("args"), dict) else {}
    event = kind(name=str(item.get("name")), pid=_id(item.get("pid")), tid=_id(item.get("tid")), ts=_number(item.get("ts")))
    if isinstance(event, Sample):
        event.args = args
        return event
    event.cat = item["cat"] if isinstance(item.get("cat"), str) else ""
    event.dur = _number(item.get("dur"))
    event.args = Args(
        correlation=_number(args.get("correlation")),
        stream=_number(args.get("stream")),
        bytes=_number(args.get("bytes")),
        device=_id(args.get("device")),
        rank=_id(args.get("rank")),
        args=args["args"] if isinstance(args.get("args"), str) else None,
    )
    return event


def _id(value: Any) -> int | str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    return int(value) if isinstance(value, float) and abs(value) < 2**62 else str(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return _NAN
    try:
        return float(value)
    except (ValueError, OverflowError):
        return _NAN


class _Codes(dict[Hashable, int]):
    """Values to small integers in order of appearance."""

    def __missing__(self, value: Hashable) -> int:
        code = self[value] = len(self)
        return code

    def encode(self, values: Iterable[Hashable], count: int) -> Array:
        codes = np.fromiter(map(self.__getitem__, values), dtype=np.uint32, count=count)
        return codes.astype(np.uint16) if len(self) <= 1 << 16 else codes

    def encode_few(self, values: list[Hashable]) -> Array:
        """Encode values most of which are None: counting those is faster than looking all up."""
        if values.count(None) == len(values):
            return np.full(len(values), self[None], dtype=np.uint16 if len(self) <= 1 << 16 else np.uint32)
        return self.encode(values, len(values))


CODED = ("name", "cat", "pid", "tid", "device", "rank")
Window = dict[str, Array]


@dataclass
class Columns:
    """Columns of the events seen so far, one set of arrays per window; texts are dictionary-coded.

    Attributes:
        codes: per coded column, the distinct values in order of code.
        spans: (window index, arrays): ``start``, ``dur`` (ns), the coded columns, ``correlation``, ``stream``, ``bytes``.
        halves: the same for begin and end events, with ``is_end``.
        samples: (window index, arrays): ``ts`` (ns), ``series`` (code of (name, key, pid, tid)), ``value``.
        counts: what was odd, by kind.
    """

    codes: dict[str, _Codes] = field(default_factory=lambda: {key: _Codes() for key in (*CODED, "series")})
    spans: list[tuple[int, Window]] = field(default_factory=list)
    halves: list[tuple[int, Window]] = field(default_factory=list)
    samples: list[tuple[int, Window]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def append(self, index: int, events: Events, offset_us: int = 0) -> None:
        """Add a window of events; their times lack ``offset_us`` (µs)."""
        kinds = set(map(type, events))
        if Span in kinds:
            self.spans.append((index, self._columns([event for event in events if type(event) is Span], offset_us)))
        if Begin in kinds or End in kinds:
            halves = [event for event in events if type(event) is Begin or type(event) is End]
            self.halves.append((index, self._columns(halves, offset_us, are_halves=True)))
        if Sample in kinds:
            self._append_samples(index, [event for event in events if type(event) is Sample], offset_us)

    def merge(self, other: Columns) -> None:
        """Add what another process decoded of the same file."""
        recode = {
            key: np.array([self.codes[key][value] for value in codes], dtype=np.uint32) for key, codes in other.codes.items()
        }
        for name in ("spans", "halves", "samples"):
            recoded = [
                (index, {key: recode[key][values] if key in recode else values for key, values in window.items()})
                for index, window in getattr(other, name)
            ]
            getattr(self, name).extend(recoded)
        for kind, count in other.counts.items():
            self.counts[kind] += count

    def _columns(self, spans: Sequence[Span], offset_us: int, are_halves: bool = False) -> Window:
        args = [event.args or _NO_ARGS for event in spans]
        if any(arg.args is not None for arg in args):
            args = _unnested(args)
        count = len(spans)
        ts = np.array([event.ts for event in spans], dtype=np.float64)
        dur = np.array([event.dur for event in spans], dtype=np.float64)
        columns = {
            "start": ts,
            "dur": dur,
            "name": self.codes["name"].encode([event.name for event in spans], count),
            "cat": self.codes["cat"].encode([event.cat for event in spans], count),
            "pid": self.codes["pid"].encode([event.pid for event in spans], count),
            "tid": self.codes["tid"].encode([event.tid for event in spans], count),
            "device": self.codes["device"].encode_few([arg.device for arg in args]),
            "rank": self.codes["rank"].encode_few([arg.rank for arg in args]),
            "correlation": _integers([arg.correlation for arg in args]),
            "stream": _integers([arg.stream for arg in args]),
            "bytes": _integers([arg.bytes for arg in args]),
        }
        if are_halves:
            columns["is_end"] = np.array([type(event) is End for event in spans], dtype=bool)
        else:
            self.counts["negative duration"] += int((dur < 0).sum())
            self.counts["no duration"] += int(np.isnan(dur).sum())
        possible = (np.abs(ts) <= MAX_US) & ~(np.abs(dur) > MAX_DURATION_US)
        if not possible.all():
            self.counts["no time"] += int(np.isnan(ts).sum())
            self.counts["impossible time"] += int((~possible & ~np.isnan(ts)).sum())
            columns = {key: values[possible] for key, values in columns.items()}
        columns["start"] = nanoseconds(columns["start"]) + offset_us * 1000
        columns["dur"] = np.rint(np.maximum(np.nan_to_num(columns["dur"]), 0) * 1000).astype(np.int64)
        return columns

    def _append_samples(self, index: int, samples: Sequence[Sample], offset_us: int) -> None:
        flat = [
            (event.ts, (event.name, key, event.pid, event.tid), value)
            for event in samples
            for key, value in (event.args or {}).items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        ]
        ts = np.array([item[0] for item in flat], dtype=np.float64)
        possible = np.abs(ts) <= MAX_US
        self.counts["no time"] += int((~possible).sum())
        columns = {
            "series": self.codes["series"].encode([item[1] for item in flat], len(flat)),
            "value": np.array([float(item[2]) for item in flat], dtype=np.float64),
        }
        columns = {key: values[possible] for key, values in columns.items()}
        self.samples.append((index, columns | {"ts": nanoseconds(ts[possible]) + offset_us * 1000}))


def joined(windows: list[tuple[int, Window]], key: str) -> Array:
    """Return one column of all windows in the order of the file, and forget the windows' own."""
    ordered = sorted(windows, key=lambda item: item[0])
    return np.concatenate([window.pop(key) for _, window in ordered])


def joined_integers(windows: list[tuple[int, Window]], key: str) -> tuple[Array, Array]:
    """Return one integer column as int64, and where it has a value."""
    present = []
    for _, window in sorted(windows, key=lambda item: item[0]):
        values = window[key]
        present.append(values != (_NONE_32 if values.dtype == np.int32 else _NONE_64))
    return joined(windows, key).astype(np.int64), np.concatenate(present)


def nanoseconds(us: Array) -> Array:
    """Return whole ns; the whole microseconds apart, since ns since 1970 do not fit a double (FORMATS.md §8, 3)."""
    whole = np.floor(us)
    ns: Array = whole.astype(np.int64) * 1000 + np.rint((us - whole) * 1000).astype(np.int64)
    return ns


def _integers(values: list[float]) -> Array:
    """Return integers, of a narrow type where they fit; the type's smallest value stands for none."""
    numbers = np.array(values, dtype=np.float64)
    missing = ~(np.abs(numbers) < 2.0**62)
    numbers[missing] = 0
    narrow = np.abs(numbers).max(initial=0) < 2**31 - 1
    integers: Array = numbers.astype(np.int32 if narrow else np.int64)
    integers[missing] = _NONE_32 if narrow else _NONE_64
    return integers


def _unnested(args: list[Args]) -> list[Args]:
    """Promote the keys of the JSON text in ``args.args`` (FORMATS.md §7.1), all of a window in one call."""
    nested = [arg.args for arg in args if arg.args is not None]
    try:
        decoded = iter(_NESTED_ARGS.decode("[" + ",".join(nested) + "]"))
        inner = [next(decoded) for _ in nested]
    except (*UNDECODABLE, StopIteration):
        inner = [_nested_alone(text) for text in nested]
    promoted = iter(inner)
    return [arg if arg.args is None else _filled(next(promoted), arg) for arg in args]


def _nested_alone(text: str) -> Args:
    try:
        return msgspec.json.decode(text, type=Args)
    except UNDECODABLE:
        return _NO_ARGS


def _filled(inner: Args, outer: Args) -> Args:
    """Return the inner values, the outer ones where the inner has none."""
    if inner.device is None:
        inner.device = outer.device
    if inner.correlation != inner.correlation:  # NaN; a call of isnan for each of millions takes longer
        inner.correlation = outer.correlation
    if inner.stream != inner.stream:
        inner.stream = outer.stream
    if inner.bytes != inner.bytes:
        inner.bytes = outer.bytes
    return inner
