"""What a comparison was asked to write, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from reports import files
from reports.comparing import Shown

STDOUT = Path("-")


@dataclass(frozen=True)
class Outputs:
    """Where each report goes.

    Attributes:
        folder: for all reports.
        single: path of a single report by its kind, ``-`` for stdout.
        plots: folder for pictures.
        perfetto: folder for traces.
        force: write into folders that are not empty.
    """

    folder: Path | None
    single: Mapping[str, Path | None]
    plots: Path | None
    perfetto: Path | None
    force: bool

    @property
    def anything(self) -> bool:
        """Whether something is to be written."""
        return any((self.folder, self.plots, self.perfetto, *self.single.values()))

    @property
    def with_page(self) -> bool:
        """Whether the page is among it, which shows single events."""
        return self.folder is not None or self.single["html"] is not None

    def check(self, inputs: Iterable[Path]) -> None:
        """Refuse early what would overwrite something. Raises `OutputError`."""
        inputs = list(inputs)
        files.check_outputs(self.folder, [path for path in self.single.values() if path], inputs, self.force)
        for folder in (self.plots, self.perfetto):
            files.check_outputs(folder, [], inputs, self.force)

    def write(self, shown: Shown) -> tuple[list[Path], str | None]:
        """Write what was asked for; return the files, the ticket report first, and the text that goes to stdout."""
        written, to_stdout = [], None
        if self.folder:
            files.write_folder(self.folder, {name: shown.texts[kind]() for name, kind in shown.folder.items()}, self.force)
            written = [self.folder / name for name in shown.folder]
        for kind, path in self.single.items():
            if path == STDOUT:
                to_stdout = shown.texts[kind]()
            elif path:
                files.write_file(path, shown.texts[kind]())
                written.append(path)
        if self.plots:
            pictures = shown.plots()
            files.write_folder(self.plots, pictures, self.force)
            written += [self.plots / name for name in pictures]
        if self.perfetto and shown.traces:
            written += shown.traces(self.perfetto, self.force)
        return written, to_stdout
