"""Scores of the lab as one figure: accuracy, detection, confusion, reliability."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.measures import Share
from lab.score import METHODS, RANDOM, RCA, Scores
from rca.errors import OutputError, UsageError
from reports.lab_scores import bin_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_METADATA: dict[str, dict[str, None]] = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}
"""What matplotlib writes into a file of itself and of the time: nothing, so that equal scores make equal files."""

_SIZE = (13.0, 10.0)
_OWN, _OTHER, _GREY = "#1f5fa8", "#9db8d2", "#777777"


def check_plot(path: Path) -> None:
    """Refuse early what cannot be drawn. Raises `UsageError`: the suffix is another one."""
    if path.suffix.lower() not in _METADATA:
        raise UsageError(f"{path}: plots are .svg or .png")


def plot_scores(scores: Scores, path: Path) -> None:
    """Draw the scores into an SVG or PNG file, told by its suffix; the folder must exist.

    Raises:
        UsageError: the suffix is another one.
        OutputError: the file cannot be written.
    """
    check_plot(path)
    import matplotlib as mpl  # noqa: PLC0415  (slow to import)
    from matplotlib.figure import Figure  # noqa: PLC0415

    suffix = path.suffix.lower()
    out = io.BytesIO()
    with mpl.rc_context():
        mpl.rcdefaults()  # not the user's own settings
        mpl.rcParams["svg.hashsalt"] = "rca"
        figure = Figure(figsize=_SIZE, layout="constrained")
        (methods, detection), (confusion, reliability) = figure.subplots(2, 2)
        _draw_methods(methods, scores)
        _draw_detection(detection, scores)
        _draw_confusion(confusion, scores)
        _draw_reliability(reliability, scores)
        figure.savefig(out, format=suffix[1:], dpi=110, metadata=_METADATA[suffix])
    try:
        path.write_bytes(out.getvalue())
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror or error}") from None


def _draw_methods(axes: Axes, scores: Scores) -> None:
    """Draw top-1, top-3 and MRR of every method; the random order last, in grey."""
    axes.set_title(f"Accuracy over {len(scores.scored)} cases with a measurable effect")
    if not scores.scored:
        _say(axes, "no case has a measurable effect")
        return
    width = 0.8 / len(METHODS)
    for number, method in enumerate(METHODS):
        own = scores.overall.methods[method]
        at = [place + (number - (len(METHODS) - 1) / 2) * width for place in range(3)]
        colour = {RCA: _OWN, RANDOM: _GREY}.get(method, _OTHER)
        hatch = ("", "", "//", "..", "")[number]  # baselines share a colour
        axes.bar(at, (own.top1, own.top3, own.mrr), width * 0.92, color=colour, hatch=hatch, edgecolor="white", label=method)
    if RCA in scores.top1:
        at_first = -(len(METHODS) - 1) / 2 * width
        axes.errorbar([at_first], [scores.top1[RCA].value], yerr=_whiskers([scores.top1[RCA]]), color="black", capsize=3)
    axes.set_xticks(range(3), ["top-1", "top-3", "mean reciprocal rank"])
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=8, ncols=2)


def _draw_detection(axes: Axes, scores: Scores) -> None:
    axes.set_title("Detection by measured effect, with 95 % intervals")
    if not scores.curve:
        _say(axes, "no case has a measured effect")
        return
    shares = [point.changed for point in scores.curve]
    places = range(len(shares))
    axes.errorbar(places, [own.value for own in shares], yerr=_whiskers(shares), color=_OWN, marker="o", capsize=3)
    names = [f"{bin_text(point.low, point.high)}\nn = {point.changed.n}" for point in scores.curve]
    axes.set_xticks(places, names, fontsize=8)
    axes.set_xlabel("change of the time per token, either way")
    axes.set_ylabel("share called slower (or faster)")
    axes.set_ylim(-0.02, 1.02)


def _draw_confusion(axes: Axes, scores: Scores) -> None:
    table = scores.confusion
    axes.set_title("True cause (rows) and cause named first")
    if not table.rows:
        _say(axes, "nothing to show")
        return
    shares = [[count / max(sum(counts), 1) for count in counts] for counts in table.counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, counts in enumerate(table.counts):
        for column, count in enumerate(counts):
            if count:
                colour = "white" if shares[row][column] > 0.6 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(table.columns)), table.columns, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(table.rows)), table.rows, fontsize=8)


def _draw_reliability(axes: Axes, scores: Scores) -> None:
    own = scores.calibration
    if own is None:
        axes.set_title("Reliability")
        _say(axes, "no confidence is given yet")
        return
    axes.set_title(f"Reliability: expected calibration error {own.error:.3f}, n = {own.n}")
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1)
    shares = [one.right for one in own.bins]
    at = [one.confidence for one in own.bins]
    axes.errorbar(at, [share.value for share in shares], yerr=_whiskers(shares), color=_OWN, marker="o", capsize=3)
    for place, share in zip(at, shares, strict=True):
        axes.annotate(f"n = {share.n}", (place, share.value), xytext=(5, -10), textcoords="offset points", fontsize=7)
    axes.set_xlabel("mean confidence")
    axes.set_ylabel("share right")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(-0.02, 1.02)


def _whiskers(shares: list[Share]) -> Any:
    """Return the interval's distances from each share, below and above; rounding must not make one negative."""
    return [[max(own.value - own.low, 0.0) for own in shares], [max(own.high - own.value, 0.0) for own in shares]]


def _say(axes: Axes, text: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
