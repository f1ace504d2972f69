"""A trace's event array, decoded window by window, so that memory does not grow with the file.

A Chrome trace is one JSON object (or a bare array) whose ``traceEvents`` holds millions of small objects. Decoding it
in one piece costs 3 bytes of memory per byte of text, and time: the objects of a small window are recycled in cache.
A window ends at a border between two events, found by looking for ``}``, comma, ``{`` from its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from rca.capture.bytes_in import read_chunks
from rca.errors import InputError

Event = TypeVar("Event")

WINDOW_BYTES = 8 << 20
_MAX_HEAD_BYTES = 256 << 20
_BORDERS_TRIED = 3
"""Guesses at where the last whole event ends; after them the text is scanned, which is slower and always right."""

_ARRAY_START = re.compile(rb'"traceEvents"\s*:\s*\[')
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_BYTE = re.compile(r"\(byte (\d+)\)")
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_SPACE = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BROKEN = "export the trace again; if it was edited by hand, undo that"


@dataclass
class EventArray(Generic[Event]):
    """Iterate to get lists of events; afterwards ``document`` holds every other top-level key.

    ``salvage`` makes an event of an array item that ``decoder`` refuses, or returns None. ``not_utf8`` tells whether
    bytes had to be replaced, ``dropped`` how many items were no events.
    """

    path: Path
    decoder: msgspec.json.Decoder[list[Event]]
    salvage: Callable[[Any], Event | None]
    document: dict[str, Any] = field(default_factory=dict)
    not_utf8: bool = False
    dropped: int = 0

    def __iter__(self) -> Iterator[list[Event]]:
        """Yield one decoded list per window.

        Raises:
            InputError: not JSON, or JSON that breaks off or is malformed; the message says about where.
        """
        chunks = read_chunks(self.path, WINDOW_BYTES)
        head, buffer = self._find_array(chunks)
        offset = len(head)
        tail: bytes | None = None
        for chunk in chunks:
            if tail is not None:
                tail += chunk
                continue
            buffer += chunk
            events, buffer, tail, used = self._decode_window(buffer, offset)
            offset += used
            if events:
                yield events
        if tail is None:
            events, tail = self._decode_last(buffer, offset)
            if events:
                yield events
        self.document = self._decode_rest(head, tail)

    def _find_array(self, chunks: Iterator[bytes]) -> tuple[bytes, bytes]:
        """Return what stands before the event array (its bracket included) and the first bytes of the array."""
        buffer = b""
        for chunk in chunks:
            buffer += chunk
            if len(buffer) < len(_BYTE_ORDER_MARK):
                continue
            buffer = buffer.removeprefix(_BYTE_ORDER_MARK)
            start = buffer.lstrip(_SPACE)
            if start[:1] == b"[":
                return b"[", start[1:]
            for match in _ARRAY_START.finditer(buffer):
                if _depth(buffer[: match.start()]) == 1:
                    return buffer[: match.end()], buffer[match.end() :]
            if len(buffer) > _MAX_HEAD_BYTES:
                break
        raise InputError(self.path, 'holds no "traceEvents" array', "is this a Chrome / torch.profiler trace?")

    def _decode_window(self, buffer: bytes, offset: int) -> tuple[list[Event], bytes, bytes | None, int]:
        """Decode whole events; return them, the remainder, the tail (once the array ends), and the bytes used."""
        end = len(buffer)
        for attempt in range(_BORDERS_TRIED + 1):
            border = _last_border(buffer, end) if attempt < _BORDERS_TRIED else _last_event_end(buffer)
            if border < 0:
                break
            try:
                return self._decode(b"[" + buffer[:border] + b"]"), buffer[border + 1 :], None, border + 1
            except UnicodeDecodeError:
                return self._decode_window(self._replace_bytes(buffer[:border]) + buffer[border:], offset)
            except msgspec.DecodeError as error:
                if array_end := _array_end(error):
                    events, tail = self._decode_upto(buffer, array_end, offset)
                    return events, b"", tail, array_end
                if "truncated" not in str(error):
                    raise self._broken(error, offset) from None
            end = border
        return [], buffer, None, 0

    def _decode_last(self, buffer: bytes, offset: int) -> tuple[list[Event], bytes]:
        """Decode the end of the file: the last events, the closing bracket and whatever follows it."""
        try:
            return self._decode(b"[" + buffer), b""
        except UnicodeDecodeError:
            return self._decode_last(self._replace_bytes(buffer), offset)
        except msgspec.DecodeError as error:
            if array_end := _array_end(error):
                return self._decode_upto(buffer, array_end, offset)
            raise self._broken(error, offset) from None

    def _decode_upto(self, buffer: bytes, array_end: int, offset: int) -> tuple[list[Event], bytes]:
        """Decode ``buffer`` up to the closing bracket of the array, which lies before ``array_end``."""
        bracket = buffer.rfind(b"]", 0, array_end)
        try:
            return self._decode(b"[" + buffer[: bracket + 1]), buffer[bracket + 1 :]
        except msgspec.DecodeError as error:
            raise self._broken(error, offset) from None

    def _decode(self, array: bytes) -> list[Event]:
        """Decode one array; an event with a field of the wrong type goes through ``salvage``."""
        try:
            return self.decoder.decode(array)
        except msgspec.ValidationError:
            salvaged = [self.salvage(item) for item in msgspec.json.decode(array)]
            kept = [event for event in salvaged if event is not None]
            self.dropped += len(salvaged) - len(kept)
            return kept

    def _decode_rest(self, head: bytes, tail: bytes) -> dict[str, Any]:
        if head == b"[":
            if tail.strip(_SPACE):
                raise InputError(self.path, "goes on after the end of its event array", _BROKEN)
            return {}
        try:
            document = msgspec.json.decode(self._replace_bytes(head) + b"]" + self._replace_bytes(tail))
        except msgspec.DecodeError as error:
            raise self._broken(error, 0) from None
        if document.pop("traceEvents", None):
            raise InputError(self.path, 'holds two "traceEvents" arrays', _BROKEN)
        return dict(document)

    def _replace_bytes(self, text: bytes) -> bytes:
        """Replace bytes that are not UTF-8, which old exporters left in kernel names, by the replacement character."""
        replaced = text.decode("utf-8", "replace").encode()
        self.not_utf8 |= replaced != text
        return replaced

    def _broken(self, error: Exception | None, offset: int) -> InputError:
        match = _BYTE.search(str(error))
        where = f" near byte {offset + int(match.group(1)):,}" if match else ""
        if error is None or "truncated" in str(error):
            return InputError(self.path, "is cut off in the middle of its JSON", "capture again, wait for the export")
        reason = str(error).removeprefix("JSON is malformed: ").split(" (byte")[0]
        return InputError(self.path, f"is broken JSON{where}: {reason}", _BROKEN)


def _array_end(error: Exception) -> int | None:
    """Position in the buffer behind the array's end, when that is what the decoder stumbled over."""
    match = _TRAILING.search(str(error))
    return int(match.group(1)) - 1 if match else None  # the piece began with one bracket of ours


def _last_border(buffer: bytes, end: int) -> int:
    """Return the position of the last comma before ``end`` that stands between ``}`` and ``{``, or -1."""
    brace = end
    while (brace := buffer.rfind(b"{", 0, brace)) >= 0:
        comma = _skip_space_back(buffer, brace)
        if comma >= 0 and buffer[comma] == 0x2C and buffer[_skip_space_back(buffer, comma)] == 0x7D:
            return comma
    return -1


def _skip_space_back(buffer: bytes, position: int) -> int:
    position -= 1
    while position >= 0 and buffer[position] in _SPACE:
        position -= 1
    return position


def _last_event_end(buffer: bytes) -> int:
    """Return the position behind the last ``}`` that closes an item of the array, -1 where none does."""
    depth, end = 0, -1
    for token in _STRUCTURE.finditer(buffer):
        char = token.group()
        if char in (b"{", b"["):
            depth += 1
        elif char in (b"}", b"]"):
            depth -= 1
            if depth < 0:
                break
            if depth == 0:
                comma = _skip_space(buffer, token.end())
                end = comma if buffer[comma : comma + 1] == b"," else end
    return end


def _depth(text: bytes) -> int:
    """Return how many objects and arrays are open at the end of ``text``; -1 inside a string."""
    depth, last = 0, 0
    for token in _STRUCTURE.finditer(text):
        char = token.group()
        depth += (char in (b"{", b"[")) - (char in (b"}", b"]"))
        last = token.end()
    return -1 if b'"' in text[last:] else depth


def _skip_space(buffer: bytes, position: int) -> int:
    while position < len(buffer) and buffer[position] in _SPACE:
        position += 1
    return position
