"""Writing results: whole or not at all, and never over something without being told to."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rca.errors import OutputError


def write_file(path: Path, text: str) -> None:
    """Write one file through a temporary one beside it, so that a full disk leaves no half of it.

    Raises:
        OutputError: the file cannot be written.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
            out.write(text)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror or error}") from None
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def refuse_existing(folder: Path, force: bool) -> None:
    """Say early that an output folder is in the way.

    Raises:
        OutputError: it exists and holds something, and ``force`` is not set; or it is a file.
    """
    if folder.is_file():
        raise OutputError(folder, "is a file, not a folder")
    try:
        in_the_way = folder.is_dir() and not force and any(folder.iterdir())
    except OSError as error:
        raise OutputError(folder, f"cannot be read: {error.strerror or error}") from None
    if in_the_way:
        raise OutputError(folder, "exists and is not empty; --force writes into it")


def write_folder(folder: Path, texts: Mapping[str, str], force: bool) -> None:
    """Write several files into a folder, all of them or none. Raises `OutputError`."""
    refuse_existing(folder, force)
    staging: str | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")
        for name, text in texts.items():
            Path(staging, name).write_text(text, encoding="utf-8", newline="")
        os.chmod(staging, 0o777 & ~_umask())
        folder.mkdir(exist_ok=True)
        for name in texts:
            os.replace(Path(staging, name), folder / name)
    except OSError as error:
        raise OutputError(folder, f"cannot be written: {error.strerror or error}") from None
    finally:
        if staging:
            shutil.rmtree(staging, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
