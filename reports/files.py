"""Writing results: whole or not at all, and never over something without being told to."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from rca.errors import OutputError


def write_file(path: Path, text: str) -> None:
    """Write one file through a temporary one beside it, so that a full disk leaves no half of it.

    A link is followed; a device or a pipe is written to as it is.

    Raises:
        OutputError: the file cannot be written.
    """
    temporary: str | None = None
    try:
        target = path.resolve()
        if target.exists() and not target.is_file():
            with target.open("w", encoding="utf-8", newline="") as out:
                out.write(text)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
            out.write(text)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror or error}") from None
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def check_outputs(folder: Path | None, single: Iterable[Path], inputs: Iterable[Path], force: bool) -> None:
    """Refuse early what would overwrite something that the user did not mean.

    Args:
        folder: for all reports, or None.
        single: paths of single reports.
        inputs: the captures.
        force: write into a folder that is not empty.

    Raises:
        OutputError: an output lies in a capture, is named twice, is a folder where a file is meant, or a folder that is
            not empty.
    """
    files = [path for path in single if path != Path("-")]
    captures = [path.resolve() for path in inputs]
    for path in [*files, *([folder] if folder else [])]:
        place = path.resolve()
        if any(place == capture or capture in place.parents for capture in captures):
            raise OutputError(path, "lies in a capture; results must not end up among the inputs")
    if folders := [path for path in files if _is_folder(path)]:
        raise OutputError(folders[0], "is a folder, not a file")
    if len({path.resolve() for path in files}) < len(files):
        raise OutputError(files[0], "is named for two reports")
    if folder == Path("-"):
        raise OutputError(folder, "is stdout, which holds no folder; name one")
    if folder:
        _refuse_existing(folder, force)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # what is wrong with it is said when it is written


def _refuse_existing(folder: Path, force: bool) -> None:
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(folder, "is a file, not a folder")
        in_the_way = folder.is_dir() and not force and any(folder.iterdir())
    except OSError as error:
        raise OutputError(folder, f"cannot be read: {error.strerror or error}") from None
    if in_the_way:
        raise OutputError(folder, "exists and is not empty; --force writes into it")


def write_folder(folder: Path, contents: Mapping[str, str | bytes], force: bool) -> None:
    """Write several files, texts or pictures, into a folder, all of them or none. Raises `OutputError`."""
    _refuse_existing(folder, force)
    existed = folder.exists()
    staging: str | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if taken := [name for name in contents if (folder / name).is_dir()]:
            raise OutputError(folder / taken[0], "is a folder")
        staging = tempfile.mkdtemp(dir=folder, prefix=".rca.")
        for name, content in contents.items():
            Path(staging, name).write_bytes(content.encode() if isinstance(content, str) else content)
        for name in contents:
            os.replace(Path(staging, name), folder / name)
        existed = True
    except OSError as error:
        raise OutputError(folder, f"cannot be written: {error.strerror or error}") from None
    finally:
        if staging:
            shutil.rmtree(staging, ignore_errors=True)
        if not existed:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
