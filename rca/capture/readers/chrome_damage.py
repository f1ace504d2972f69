"""Damaged traces: what can be read of a file that is cut off, holds invalid JSON, or is laid out in an unusual way.

Slower than `chrome_windows`, and only used where that gives up (FORMATS.md §1.9 lists what exporters have written).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from rca.capture.bytes_in import Chunks
from rca.capture.readers import chrome_windows
from rca.capture.readers.chrome_events import UNDECODABLE, Columns

_SEPARATOR = re.compile(rb"(?<=\})\s*,\s*(?=\{)")
_LITERAL = re.compile(rb"([:\[,]\s*)-?(?:NaN|nan|Infinity|inf)\b")
_BAD_ESCAPE = re.compile(rb'(?<!\\)((?:\\\\)*+)\\(?!["\\/bfnrtu])')
_ARRAY_END = re.compile(rb'\}\s*\](?=\s*(?:,\s*"|\}\s*$|$))')
_CONTROL = bytes(range(0x20))
_TO_SPACES = bytes.maketrans(_CONTROL, b" " * 32)
_AT_BYTE = re.compile(r"\(byte (\d+)\)")

_BROKEN, _INCOMPLETE = b"broken", b"incomplete"

_MAX_JOINED = 64
"""Pieces between separators that are put together in search of a whole event: one that nests objects in arrays."""
_MAX_SEARCHED_BYTES = 64 << 20
"""What fruitless searches of that kind may decode; then no more are made: a file full of broken strings must not take
hours."""


@dataclass
class Damage:
    """What was done to read a file, and what is lost."""

    cut_off: str = ""
    """Why the file ends early; empty where it does not."""
    broken_items: int = 0
    repairs: int = 0
    not_utf8: bool = False
    document_lost: bool = False
    tail_too_long: bool = False
    """What follows the events was not even read to its end."""


@dataclass
class _Salvage:
    columns: Columns = field(default_factory=Columns)
    damage: Damage = field(default_factory=Damage)
    index: int = 0
    searched: int = 0
    ended: bool = False
    tail: bytes = b""

    def take(self, text: bytes) -> bytes:
        """Decode what can be decoded of ``text``.

        Returns:
            What is left of it: an event that is not whole yet or, once the array has ``ended``, what stands behind it.
        """
        text = self._as_utf8(text)
        border = chrome_windows.last_border(text)
        if border >= 0 and self._append(text[:border]):
            return text[border + 1 :]
        end = chrome_windows.array_end(text)
        if end >= 0 and self._append(text[:end]):
            self._end(text[end:])
            return self.tail
        return self._take_items(text)

    def _append(self, text: bytes) -> bool:
        """Decode a window as it is or, failing that, with invalid literals, escapes and control characters replaced."""
        for repair in (False, True):
            try:
                chrome_windows.append(self.columns, self.index, _repaired(text) if repair else text)
            except UNDECODABLE:
                continue
            self.index += 1
            self.damage.repairs += repair
            return True
        return False

    def _take_items(self, text: bytes) -> bytes:
        """Decode event by event, leave out those that are broken beyond repair, stop at the end of the array."""
        pieces = _SEPARATOR.split(text)
        at, whole = 0, []
        while at < len(pieces) and not self.ended:
            item, used = self._item(pieces[at : at + (_MAX_JOINED if self.searched < _MAX_SEARCHED_BYTES else 1)])
            if item in (_INCOMPLETE, _BROKEN) and at + used >= len(pieces) and not self.ended:
                break  # its other half may come with the next chunk
            if item in (_INCOMPLETE, _BROKEN):
                self.damage.broken_items += 1
            elif item:
                whole.append(item)
            at += used
        if whole:
            self._append(b",".join(whole))
        return self.tail if self.ended else b",".join(pieces[at:])

    def _item(self, pieces: list[bytes]) -> tuple[bytes, int]:
        """Return the first event, `_BROKEN` or `_INCOMPLETE`, and how many pieces it took."""
        text = b""
        searched = 0
        for used, piece in enumerate(pieces, 1):
            text = text + b"," + piece if text else piece
            candidate = _repaired(text).strip()
            try:
                msgspec.json.decode(candidate)
            except UNDECODABLE as error:
                if "trailing characters" in str(error):
                    return self._item_before_end(candidate, error), used
                if "truncated" not in str(error):
                    self.searched += searched
                    self._look_for_end(piece)
                    return _BROKEN, 1
                searched += len(text) if used > 1 else 0
                if self.searched + searched > _MAX_SEARCHED_BYTES:
                    break
                continue
            self.damage.repairs += candidate != text.strip()
            return candidate, used
        self.searched += searched
        return _INCOMPLETE, len(pieces) if len(pieces) < _MAX_JOINED else 1

    def _item_before_end(self, text: bytes, error: Exception) -> bytes:
        """Take an event with other text behind it: the end of the array, or damage."""
        match = _AT_BYTE.search(str(error))
        end = int(match.group(1)) - 1 if match else len(text)  # it counts from 1
        rest = text[end:].lstrip()
        if not rest.startswith(b"]"):
            return _BROKEN
        self._end(rest)
        self.damage.repairs += 1
        return text[:end] if text.startswith(b"{") else b""

    def _look_for_end(self, piece: bytes) -> None:
        """Notice the end of the array behind a broken event."""
        if match := _ARRAY_END.search(piece):
            self._end(piece[match.end() - 1 :])

    def _end(self, tail: bytes) -> None:
        self.ended = True
        self.tail = tail

    def _as_utf8(self, text: bytes) -> bytes:
        """Replace bytes that are not UTF-8, which old exporters left in kernel names, by the replacement character."""
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            if error.end == len(text) and error.reason == "unexpected end of data":
                return text  # the chunk ends within a character
            self.damage.not_utf8 = True
            return text.decode("utf-8", "replace").encode()
        return text


def read_damaged(path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> tuple[Columns, dict[str, Any], Damage]:
    """Read what can be read of a trace.

    Returns:
        The columns, the document's other keys as far as they survived, and what is lost.

    Raises:
        NoEventsError: the file holds no event array.
    """
    chunks = Chunks(path, 1 << 20, on_bytes=on_bytes)
    stream = iter(chunks)
    head, text = chrome_windows.find_array(stream)
    state = _Salvage()
    damage = state.damage
    parts, size, due = [text], len(text), chrome_windows.WINDOW_BYTES
    for chunk in stream:
        parts.append(chunk)
        size += len(chunk)
        if size < due:
            continue
        text = b"".join(parts) if state.ended else state.take(b"".join(parts))
        parts, size = [text], len(text)
        if size > chrome_windows.MAX_BYTES:
            damage.tail_too_long = state.ended
            damage.cut_off = "" if state.ended else f"an event is longer than {chrome_windows.MAX_BYTES >> 20} MiB"
            break
        due = max(chrome_windows.WINDOW_BYTES, chrome_windows.next_try(size))
    text = b"".join(parts)
    left = len(text) + 1
    while not state.ended and not damage.cut_off and len(text) < left:
        left = len(text)
        text = state.take(text)
    damage.cut_off = chunks.damage or damage.cut_off or ("" if state.ended else "it ends in the middle of its events")
    return state.columns, _document(head, text if state.ended else b"", state), damage


def _document(head: bytes, tail: bytes, state: _Salvage) -> dict[str, Any]:
    """Decode the other keys: all of them, or those before the array."""
    head = state._as_utf8(head)
    for end in (b"]}",) if state.damage.tail_too_long else (state._as_utf8(tail), b"]}"):
        try:
            return chrome_windows.document(head, _repaired(end))
        except chrome_windows.NotPlainError:
            state.damage.document_lost = True
    return {}


def _repaired(text: bytes) -> bytes:
    """Make valid JSON of what exporters have written: NaN and infinities, lone backslashes, raw control characters."""
    text = text.translate(_TO_SPACES)
    text = _BAD_ESCAPE.sub(rb"\1\\\\", text)
    return _LITERAL.sub(rb"\1null", text)
