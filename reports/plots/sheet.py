"""A sheet of text and charts, one below the other, as SVG and PNG: where matplotlib is set up, and nothing is drawn yet.

Sheets are made for tickets, which show them about 700 px wide: 7 inches, letters of 8 points and more. Equal content makes
equal bytes: neither the user's own settings nor the time go in.
"""

from __future__ import annotations

import io
import logging
import textwrap
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from reports.charts.model import middle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

WIDTH = 7.0
"""Inches, of all sheets."""

SMALL, NORMAL, LARGE = 8.0, 9.0, 11.0
"""Sizes of letters in points: 11, 12 and 15 px where a sheet is 700 px wide."""

INK, DIM, LINE = "#1a1a1a", "#595959", "#d0d0d0"

MARGIN = 0.12
_PNG_DPI = 200
_POINT = 1 / 72
_LINE_HEIGHT = 1.35
_GRID = 1.02
_UNSUPPORTED = "\N{REPLACEMENT CHARACTER}"

_NO_METADATA: dict[str, dict[str, str | None]] = {
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "png": {"Software": None},
}

Draw = Callable[["Axes"], None]
Area = tuple[float, float, Draw]
"""Inches from the sheet's left and right edge, and what is drawn between them."""


@dataclass(frozen=True)
class _Block:
    height: float
    areas: tuple[Area, ...]


class Sheet:
    """Collects what goes on a sheet from top to bottom; `drawn` draws it.

    Args:
        title: what the picture is, for those who do not see it.
    """

    def __init__(self, title: str) -> None:
        self._title = plain(title)
        self._blocks: list[_Block] = []

    def text(self, text: str, *, size: float = NORMAL, colour: str = INK, bold: bool = False, most: int = 6) -> None:
        """Add a paragraph, broken into lines; of more than ``most`` lines the rest is cut."""
        lines = broken(text, WIDTH - 2 * MARGIN, size, bold, most)
        if not lines:
            return

        def draw(axes: Axes) -> None:
            axes.set_axis_off()
            weight = "bold" if bold else "normal"
            axes.text(
                0,
                1,
                "\n".join(lines),
                size=size,
                color=colour,
                weight=weight,
                va="top",
                transform=axes.transAxes,
                linespacing=1.25,
            )

        self._blocks.append(_Block(len(lines) * size * _POINT * _LINE_HEIGHT, ((MARGIN, MARGIN, draw),)))

    def gap(self, height: float = 0.1) -> None:
        """Leave room, in inches; not at the top."""
        if self._blocks:
            self._blocks.append(_Block(height, ()))

    def areas(self, height: float, *areas: Area) -> None:
        """Add charts side by side, ``height`` inches high."""
        self._blocks.append(_Block(height, areas))

    def drawn(self) -> dict[str, bytes]:
        """Return the sheet as ``svg`` and as ``png``."""
        with _settings():
            figure = self._figure()
            return {kind: _saved(figure, kind, self._title) for kind in ("svg", "png")}

    def _figure(self) -> Figure:
        from matplotlib.figure import Figure  # noqa: PLC0415  (slow to import)

        height = sum(block.height for block in self._blocks) + 2 * MARGIN
        figure = Figure(figsize=(WIDTH, height), facecolor="white")
        top = height - MARGIN
        for block in self._blocks:
            for left, right, draw in block.areas:
                place = (left / WIDTH, (top - block.height) / height, (WIDTH - left - right) / WIDTH, block.height / height)
                draw(figure.add_axes(place))
            top -= block.height
        return figure


def _saved(figure: Figure, kind: str, title: str) -> bytes:
    out = io.BytesIO()
    metadata = _NO_METADATA[kind] | ({"Title": title} if kind == "svg" else {})
    figure.savefig(out, format=kind, dpi=_PNG_DPI, metadata=metadata)
    if kind == "png":
        return out.getvalue()
    declaration, _, rest = out.getvalue().partition(b"<!DOCTYPE")
    svg = rest[rest.index(b"<svg") :]  # the DOCTYPE names a place on the network, which some readers would fetch
    return declaration + svg.replace(b"<svg ", b'<svg role="img" ', 1)


@contextmanager
def _settings() -> Iterator[None]:
    """Draw with matplotlib's own settings, not the user's; what is written by users is no formula."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)  # that it keeps a cache of fonts is nothing to tell
    try:
        import matplotlib as mpl  # noqa: PLC0415  (slow to import)

        with mpl.rc_context(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of glyphs that no font has, say
            mpl.rcdefaults()
            mpl.rcParams.update(_RC)
            yield
    finally:
        log.setLevel(level)


_RC: Any = {
    "text.parse_math": False,
    "svg.hashsalt": "rca",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": SMALL,
    "text.color": INK,
    "axes.labelcolor": DIM,
    "axes.labelsize": SMALL,
    "axes.edgecolor": LINE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": NORMAL,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": DIM,
    "ytick.labelcolor": DIM,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "patch.linewidth": 0.8,
}


def plain(text: str) -> str:
    """Return a text on one line that can be drawn.

    Control characters are spaces; letters that the font lacks, and marks that would turn the direction of writing, are
    replaced by a sign that something was there.
    """
    joined = " ".join("".join(" " if unicodedata.category(c) in _BREAKS else c for c in text).split())
    if joined.isascii():
        return joined
    known = _letters()
    composed = unicodedata.normalize("NFC", joined)
    return "".join(c if ord(c) in known and unicodedata.category(c) != "Cf" else _UNSUPPORTED for c in composed)


_BREAKS = ("Cc", "Zl", "Zp")


@cache
def _letters() -> frozenset[int]:
    return frozenset(_font(bold=False).get_charmap())


def _font(bold: bool) -> FT2Font:
    from matplotlib.font_manager import FontProperties, findfont, get_font  # noqa: PLC0415  (slow to import)

    return get_font(findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")))


def fitted(text: str, inches: float, size: float = SMALL, bold: bool = False, at_end: bool = False) -> str:
    """Return a text that takes no more than so many inches: too long a one is cut in its middle.

    Figures are cut ``at_end``, where their unit stands: without its last digits a number is another one.
    """
    text = plain(text)
    if width(text, size, bold) <= inches:
        return text
    low, high = 1, len(text)
    while low < high:
        most = (low + high + 1) // 2
        if width(_cut(text, most, at_end), size, bold) <= inches:
            low = most
        else:
            high = most - 1
    return _cut(text, low, at_end)


def _cut(text: str, most: int, at_end: bool) -> str:
    return f"{text[: most - 1]}…" if at_end and len(text) > most else middle(text, most)


def broken(text: str, inches: float, size: float, bold: bool = False, most: int = 6) -> list[str]:
    """Return a text as lines that each fit; a word that is longer than a line is broken, and what is too much left out."""
    text = plain(text)
    if not text:
        return []
    letters = max(int(inches / (width(text, size, bold) / len(text))), 8)
    lines = textwrap.wrap(text, letters, break_long_words=True, break_on_hyphens=False)
    while letters > 8 and any(width(line, size, bold) > inches for line in lines):
        letters -= 1
        lines = textwrap.wrap(text, letters, break_long_words=True, break_on_hyphens=False)
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1][: letters - 2].rstrip() + " …"]


def width(text: str, size: float, bold: bool = False) -> float:
    """Return how wide a text is drawn at most, in inches: on a grid of pixels letters are a little wider than designed."""
    return _GRID * sum(_advance(letter, bold) for letter in text) * size * _POINT


@cache
def _advance(letter: str, bold: bool) -> float:
    """Return the width of a letter as a share of its font's size; kerning, which makes pairs narrower, is not counted."""
    from matplotlib.ft2font import LoadFlags  # noqa: PLC0415  (slow to import)

    font = _font(bold)
    return font.load_char(ord(letter), LoadFlags.NO_HINTING | LoadFlags.NO_SCALE).horiAdvance / font.units_per_EM
