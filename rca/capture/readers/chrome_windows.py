"""A trace's event array, cut into windows of whole events that can be decoded one by one, in any process.

A Chrome trace is one JSON object (or a bare array) whose ``traceEvents`` holds millions of small objects. Decoding it
in one piece costs 3 bytes of memory per byte of text, and time: the objects of a small window are recycled in cache.
A window ends at a border between two events, the last ``}``, comma, ``{`` in the text so far. Inside a string or a
nested array of objects such a border is none: what is cut there does not decode, which is how it is noticed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rca.capture.bytes_in import Chunks
from rca.capture.readers import chrome_events
from rca.capture.readers.chrome_events import Columns

WINDOW_BYTES = 1 << 20
"""What the decoded objects of a window take stays in the processor's cache: a third faster than 8 MiB."""
HEAD_START = 48
"""Windows that worker 0 decodes before it shares: what it gets done while the others start."""
MAX_HEAD_BYTES = 256 << 20
"""What may stand before the event array; and how long one event may be."""

_ARRAY_START = re.compile(rb'"traceEvents"\s*:\s*\[')
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
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
        NoEventsError: no array of events in the first `MAX_HEAD_BYTES`.
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
        parts, size = [first], len(first)
        for chunk in stream:
            parts.append(chunk)
            size += len(chunk)
            if size < WINDOW_BYTES:
                continue
            text = b"".join(parts)
            border = last_border(text)
            if border < 0 and size > MAX_HEAD_BYTES:
                raise NotPlainError("no border between events")
            if border >= 0:
                yield text[:border]
                text = text[border + 1 :]
            parts = [text]
            # without a border, wait until there is twice as much: looking again at every chunk would be quadratic
            size = len(text) if border >= 0 else -len(text)
        if chunks.damage:
            raise NotPlainError(chunks.damage)
        self.rest = b"".join(parts)


def find_array(chunks: Iterator[bytes]) -> tuple[bytes, bytes]:
    """Return what stands before the event array (its bracket included) and the first bytes of the array."""
    buffer = b""
    tried = 0
    for chunk in chunks:
        buffer += chunk
        if len(buffer) < max(2 * tried, len(_BYTE_ORDER_MARK)):
            continue
        tried = len(buffer)
        start = buffer.removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE)
        if start[:1] == b"[":
            return b"[", start[1:]
        for match in _ARRAY_START.finditer(start):
            if _depth(start[: match.start()]) == 1:
                return start[: match.end()], start[match.end() :]
        if len(buffer) > MAX_HEAD_BYTES:
            break
    raise NoEventsError


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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotPlainError(str(error)) from None


def append(columns: Columns, index: int, text: bytes) -> None:
    """Decode one window. Raises `msgspec.DecodeError` or `UnicodeDecodeError`."""
    text, offset_us = _rebased(text)
    array = b"[" + text + b"]"
    try:
        events = chrome_events.decode(array)
    except msgspec.ValidationError:
        events, strange = chrome_events.salvage(array)
        columns.counts["no event"] += strange
    columns.append(index, events, offset_us)


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
    except msgspec.DecodeError as error:
        raise NotPlainError(str(error)) from None
    if not isinstance(around, dict) or around.pop("traceEvents", None):
        raise NotPlainError('holds two "traceEvents" arrays')
    return around


def array_end(rest: bytes) -> int:
    """Return the position of the bracket that closes the array whose items ``rest`` begins with; -1 where none does."""
    try:
        msgspec.json.decode(b"[" + rest, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        match = _TRAILING.search(str(error))
        return rest.rfind(b"]", 0, int(match.group(1)) - 1) if match else -1
    return rest.rfind(b"]")


def _rebased(text: bytes) -> tuple[bytes, int]:
    """Shorten absolute times that have decimals: 16 digits and 3 more do not fit a double, and decode slowly.

    Only where all times of a window begin with the same digits; others keep theirs, and lose up to 0.13 µs.

    Returns:
        The text, and the µs to be added to its times.
    """
    match = _LONG_TIME.search(text, 0, 1 << 16)
    if not match:
        return text, 0
    key, digits = text[match.start() : match.start(1)], match.group(1)
    shorter = text.replace(key + digits, key + b"1")
    replaced = (len(text) - len(shorter)) // (len(digits) - 1)
    return (shorter, (int(digits) - 1) * 10**10) if text.count(b'"ts"') == replaced else (text, 0)


def last_border(text: bytes) -> int:
    """Return the position of the last comma that stands between ``}`` and ``{``, or -1."""
    brace = len(text)
    while (brace := text.rfind(b"{", 0, brace)) >= 0:
        comma = _skip_space_back(text, brace)
        if comma >= 0 and text[comma] == 0x2C and text[_skip_space_back(text, comma)] == 0x7D:
            return comma
    return -1


def _skip_space_back(text: bytes, position: int) -> int:
    position -= 1
    while position >= 0 and text[position] in _SPACE:
        position -= 1
    return position


def _depth(text: bytes) -> int:
    """Return how many objects and arrays are open at the end of ``text``; -1 inside a string."""
    depth, last = 0, 0
    for token in _STRUCTURE.finditer(text):
        char = token.group()
        depth += (char in (b"{", b"[")) - (char in (b"}", b"]"))
        last = token.end()
    return -1 if b'"' in text[last:] else depth
