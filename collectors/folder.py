"""The capture folder on disk: private files, and a manifest that can be written also when the disk is full."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import msgspec

from collectors.pack import COUNTERS, LOGS, TRACES
from rca.capture import manifest as manifests
from rca.capture.manifest import Manifest
from rca.errors import OutputError

_RESERVE = ".reserve"
_RESERVE_BYTES = 256 << 10
_LOG = "collect.log"
_OWN = (COUNTERS, TRACES, LOGS, ".rca-cache")


class CaptureFolder:
    """A new capture at ``path``. Everything in it is readable for its owner only."""

    def __init__(self, path: Path, force: bool = False) -> None:
        """Make the folders.

        Raises:
            OutputError: it exists and is not empty (with ``force``: and is no capture), or cannot be made.
        """
        self.path = path
        self.counters, self.traces, self.logs = (path / name for name in (COUNTERS, TRACES, LOGS))
        try:
            self._clear(force)
            for folder in (path, self.counters, self.traces, self.logs):
                folder.mkdir(mode=0o700, parents=folder == path, exist_ok=True)
            write_private(path / _RESERVE, b"\0" * _RESERVE_BYTES)
            write_private(self.logs / _LOG, b"")
        except OSError as error:
            raise OutputError(path, f"cannot be made: {error.strerror or error}") from None

    def write_manifest(self, manifest: Manifest, last: bool = True) -> None:
        """Replace the manifest, all of it or nothing.

        Room was set aside for the last time, when no samples wait that could take it.

        Raises:
            OSError: the disk is full.
        """
        content = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
        unfinished = self.path / f".{manifests.NAME}.part"
        try:
            write_private(unfinished, content)
        except OSError:
            if not last:
                raise
            (self.path / _RESERVE).unlink(missing_ok=True)
            write_private(unfinished, content)
        os.replace(unfinished, self.path / manifests.NAME)

    def log(self, line: str) -> None:
        """Append a line to the collector's log; a full disk loses it."""
        with contextlib.suppress(OSError), open(self.logs / _LOG, "a", encoding="utf-8", errors="replace") as log:
            log.write(line + "\n")

    def finish(self) -> None:
        """Take the scaffolding away, and folders that stayed empty."""
        (self.path / _RESERVE).unlink(missing_ok=True)
        for folder in (self.counters, self.traces):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _clear(self, force: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(self.path, "is a file, not a folder")
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return
        if not force:
            raise OutputError(self.path, "exists and is not empty; --force replaces a capture that is there")
        if manifests.read(self.path / manifests.NAME) is None:
            raise OutputError(self.path, "holds no capture of this tool, so nothing in it is replaced")
        for name in _OWN:
            shutil.rmtree(self.path / name, ignore_errors=True)
        (self.path / manifests.NAME).unlink()


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as out:
        out.write(content)
