"""What a comparison was asked to write, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rca.errors import OutputError
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
        """Write what was asked for; return the files, the ticket report first, and the text that goes to stdout.

        All is made before anything is written, and one folder may be named for several kinds of files.
        """
        in_folder = shown.folder if self.folder else {}
        single = {kind: path for kind, path in self.single.items() if path}
        texts = {kind: shown.texts[kind]() for kind in dict.fromkeys([*in_folder.values(), *single])}
        pictures = shown.plots() if self.plots else {}
        self._check_again(shown, pictures)
        written = []
        if self.folder:
            files.write_folder(self.folder, {name: texts[kind] for name, kind in in_folder.items()}, force=True)
            written = [self.folder / name for name in in_folder]
        for kind, path in single.items():
            if path != STDOUT:
                files.write_file(path, texts[kind])
                written.append(path)
        if self.plots:
            files.write_folder(self.plots, pictures, force=True)
            written += [self.plots / name for name in pictures]
        if self.perfetto and shown.traces:
            written += shown.traces(self.perfetto, True)
        return written, next((texts[kind] for kind, path in single.items() if path == STDOUT), None)

    def _check_again(self, shown: Shown, pictures: Iterable[str]) -> None:
        """Refuse what has come into folders in the meantime, and two contents for one file. Raises `OutputError`."""
        for folder in (self.folder, self.plots, self.perfetto):
            files.check_outputs(folder, [], [], self.force)
        taken = {(self.folder / name).resolve(): kind for name, kind in shown.folder.items()} if self.folder else {}
        taken |= {(self.plots / name).resolve(): name for name in pictures} if self.plots else {}
        for kind, path in self.single.items():
            if path and path != STDOUT and taken.get(path.resolve(), kind) != kind:
                raise OutputError(path, "is named for two reports")
