"""A trace's event array, cut into windows of whole events that can be decoded one by one, in any process.

A Chrome trace is one JSON object (or a bare array) whose ``traceEvents`` holds millions of small objects. Decoding it
in one piece costs 3 bytes of memory per byte of text, and time: the objects of a small window are recycled in cache.
A window ends at a border between two events, the last ``}``, comma, ``{`` in the text so far. Inside a string or a
nested array of objects such a border is none: what is cut there does not decode, which is how it is noticed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rca.capture.bytes_in import Chunks
from rca.capture.readers import chrome_events
from rca.capture.readers.chrome_events import MAX_US, UNDECODABLE, Columns

WINDOW_BYTES = 1 << 20
"""What the decoded objects of a window take stays in the processor's cache: a third faster than 8 MiB."""
HEAD_START = 48
"""Windows that worker 0 decodes before it shares: what it gets done while the others start."""
MAX_BYTES = 64 << 20
"""What may stand before or behind the event array, and how long one event may be. Real ones take a few MB at most;
decoded, crafted ones may take 30 times their length."""

_ARRAY_START = re.compile(rb'(?<!\\)"traceEvents"\s*:\s*\[')
"""The key; not within a string, where a backslash stands before every quote."""
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BORDER = re.compile(rb"\}[ \t\r\n]*+(,)[ \t\r\n]*+\{")
_BORDER_BYTES = 1 << 14
"""How far from the end of a text a border is first looked for."""
_LONG_TIME = re.compile(rb'"ts"\s*:\s*(\d{5,6})\d{10}\.\d')
_SPACE = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class NotPlainError(Exception):
    """The file cannot be read by windows alone: damaged, or laid out in an unusual way."""


class NoEventsError(Exception):
    """The file holds no event array."""


@dataclass
class Cutter:
    """Iterate to get windows (their texts lack the brackets); afterwards ``head`` and ``rest`` hold what is around them.

    ``head`` ends with the bracket that opens the array; ``rest`` begins with the last events and ends with the file.

    Raises (on iteration):
        NoEventsError: no array of events in the first `MAX_BYTES`.
        NotPlainError: the stream is damaged, or no border is found for long.
    """

    path: Path
    on_bytes: Callable[[int], None] = lambda _: None
    head: bytes = b""
    rest: bytes = b""

    def __iter__(self) -> Iterator[bytes]:
        chunks = Chunks(self.path, 1 << 18, on_bytes=self.on_bytes)
        stream = iter(chunks)
        self.head, first = find_array(stream)
        parts, size, due = [first], len(first), WINDOW_BYTES
        for chunk in stream:
            parts.append(chunk)
            size += len(chunk)
            if size < due:
                continue
            text = b"".join(parts)
            border = last_border(text)
            if border >= 0:
                yield text[:border]
                text = text[border + 1 :]
            elif size > MAX_BYTES:
                raise NotPlainError("no border between events")
            parts, size = [text], len(text)
            due = WINDOW_BYTES if border >= 0 else next_try(size)
        if chunks.damage:
            raise NotPlainError(chunks.damage)
        self.rest = b"".join(parts)


def find_array(chunks: Iterator[bytes]) -> tuple[bytes, bytes]:
    """Return what stands before the event array (its bracket included) and the first bytes of the array."""
    parts, size, due = [], 0, len(_BYTE_ORDER_MARK)
    at_end = False
    while not at_end:
        chunk = next(chunks, b"")
        at_end = not chunk
        parts.append(chunk)
        size += len(chunk)
        if size < due and not at_end:
            continue
        text = b"".join(parts).removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE)
        start = 1 if text[:1] == b"[" else _array_start(text)
        if start >= 0:
            return text[:start], text[start:]
        if size > MAX_BYTES:
            break
        parts, due = [text], next_try(size)
    raise NoEventsError


def next_try(size: int) -> int:
    """Return how long a text should be that was looked at in vain when it had ``size`` bytes.

    Looking again at every chunk would be quadratic; the limit is noticed when it is reached.
    """
    return min(2 * size, MAX_BYTES + 1)


def _array_start(text: bytes) -> int:
    """Return the position behind the bracket that opens the document's own ``traceEvents``, not a nested one; or -1."""
    depth = at = 0
    for match in _ARRAY_START.finditer(text):
        between = _STRING.sub(b"", text[at : match.start()])
        depth += sum(map(between.count, (b"{", b"["))) - sum(map(between.count, (b"}", b"]")))
        if depth == 1:
            return match.end()
        at = match.end() - 1
    return -1


def read_windows(
    path: Path, worker: int, workers: int, on_bytes: Callable[[int], None] = lambda _: None
) -> tuple[Columns, dict[str, Any]]:
    """Decode every ``workers``-th window of a file, from number ``worker`` on; worker 0 also the first `HEAD_START`.

    Returns:
        The columns, and (from worker 0, which also decodes the file's end) every other top-level key of the document.

    Raises:
        NotPlainError: the file is damaged, or a window is not what it looks like.
        NoEventsError: there is no event array.
    """
    columns = Columns()
    cutter = Cutter(path, on_bytes)
    index = 0
    try:
        for window in cutter:
            if worker == (index % workers if index >= HEAD_START else 0):
                append(columns, index, window)
            index += 1
        return columns, _append_rest(columns, index, cutter) if worker == 0 else {}
    except UNDECODABLE as error:
        raise NotPlainError(str(error)) from None


def append(columns: Columns, index: int, text: bytes) -> None:
    """Decode one window. Raises `UNDECODABLE`."""
    shorter, offset_us, times = _rebased(text)
    if offset_us:
        with contextlib.suppress(msgspec.ValidationError):
            events = chrome_events.decode(b"[" + shorter + b"]")
            if len(events) == times:  # each has one: all of them were shortened
                columns.append(index, events, offset_us)
                return
    array = b"[" + text + b"]"
    try:
        columns.append(index, chrome_events.decode(array))
    except msgspec.ValidationError:
        events, strange = chrome_events.salvage(array)
        columns.counts["no event"] += strange
        columns.append(index, events)


def _append_rest(columns: Columns, index: int, cutter: Cutter) -> dict[str, Any]:
    """Decode the last events, and what stands around the array."""
    end = array_end(cutter.rest)
    if end < 0:
        raise NotPlainError("the event array does not end")
    append(columns, index, cutter.rest[:end])
    return document(cutter.head, cutter.rest[end:])


def document(head: bytes, tail: bytes) -> dict[str, Any]:
    """Decode what stands around the events. Raises `NotPlainError` for what is no JSON object around one array."""
    if head == b"[":
        if tail.strip(_SPACE + b"]"):
            raise NotPlainError("goes on after the end of its event array")
        return {}
    try:
        around = msgspec.json.decode(head + tail)
    except UNDECODABLE as error:
        raise NotPlainError(str(error)) from None
    if not isinstance(around, dict) or around.pop("traceEvents", None):
        raise NotPlainError('holds two "traceEvents" arrays')
    return around


def array_end(rest: bytes) -> int:
    """Return the position of the bracket that closes the array whose items ``rest`` begins with; -1 where none does."""
    try:
        msgspec.json.decode(b"[" + rest, type=msgspec.Raw)
    except UNDECODABLE as error:
        match = _TRAILING.search(str(error))
        return rest.rfind(b"]", 0, int(match.group(1)) - 1) if match else -1
    return rest.rfind(b"]")


def _rebased(text: bytes) -> tuple[bytes, int, int]:
    """Shorten absolute times that have decimals: 16 digits and 3 more do not fit a double, and decode slowly.

    Returns:
        The text, the µs to be added to its times (0: nothing was shortened), and how many were shortened. Unless it is
        every event's, because all times of the window begin with the same digits, the text is of no use: then times
        keep their digits and lose up to 0.13 µs.
    """
    match = _LONG_TIME.search(text, 0, 1 << 16)
    if not match or int(match.group(1)) * 10**10 > MAX_US:
        return text, 0, 0
    key, digits = text[match.start() : match.start(1)], match.group(1)
    shorter = text.replace(key + digits, key + b"1")
    replaced = (len(text) - len(shorter)) // (len(digits) - 1)
    return shorter, (int(digits) - 1) * 10**10, replaced


def last_border(text: bytes) -> int:
    """Return the position of the last comma that stands between ``}`` and ``{``, or -1."""
    length = _BORDER_BYTES
    while True:
        border = -1
        for match in _BORDER.finditer(text, max(0, len(text) - length)):
            border = match.start(1)
        if border >= 0 or length >= len(text):
            return border
        length *= 4
