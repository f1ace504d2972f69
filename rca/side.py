"""One side of a comparison: what is known about it, read from its files only when the cache cannot tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import TracebackType

from rca.cache import Cache, Summary
from rca.capture import Capture, Progress
from rca.capture.discover import discover
from rca.capture.load import read
from rca.capture.tables import EVENTS, empty
from rca.cycles import Anchor, anchor_named, choose, cut, known_anchors
from rca.errors import TooLittleDataError
from rca.profile import Profile, build


class Side:
    """A capture on disk. Use it as a context manager.

    Raises:
        InputError: there is nothing that can be read.
    """

    def __init__(self, path: Path, progress: Progress, cached: bool) -> None:
        self.path = path
        self.listing = discover(path)
        self.cache = Cache(self.listing, cached)
        self._progress = progress
        self._capture: Capture | None = None
        self._summary = self.cache.summary()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.listing.__exit__(kind, error, trace)

    @property
    def capture(self) -> Capture:
        """The whole capture; reads its files on first use."""
        if self._capture is None:
            self._capture = read(self.listing, self._progress)
        return self._capture

    @property
    def summary(self) -> Summary:
        """What is known without the events."""
        if self._summary is None:
            whole = self.capture
            traces = tuple(whole.events["file"].unique().sort().to_list())
            known = tuple(anchor.name for anchor in known_anchors(whole))
            self._summary = Summary(replace(whole, events=empty(EVENTS)), traces, known)
            self.cache.keep_summary(self._summary)
        return self._summary

    @property
    def only_counters(self) -> bool:
        """Whether there are counters, and nothing that could be cut into cycles or was."""
        capture = self.summary.capture
        return capture.counters.height > 0 and not self.summary.traces and not capture.cycle_rows.height

    def profiles(self, anchor: Anchor | None, cores: int) -> list[Profile]:
        """Cut by ``anchor`` (None: it was cut before) and reduce every rank.

        Raises:
            TooLittleDataError: there is no complete cycle.
        """
        profiles = self.cache.profiles(anchor, cores)
        if profiles is None:
            ranks = cut(self.capture, anchor)
            if not any(rank.cycles["complete"].any() for rank in ranks):
                raise TooLittleDataError(self.path, "holds no complete cycle", "capture for longer")
            profiles = [build(self.capture, rank, cores) for rank in ranks]
            self.cache.keep_profiles(anchor, cores, profiles)
        return profiles

    def forget_events(self, above: int = 0) -> None:
        """Give the memory of the events back, if it is more than ``above`` bytes; later uses read the files once more."""
        if self._capture is not None and self._capture.events.estimated_size() >= above:
            self._capture = None


def chosen_anchors(normal: Side, abnormal: Side, cycle: str | None) -> dict[str, Anchor]:
    """Choose the anchors of two sides (see `rca.cycles.choose`), without their events where that is possible."""
    anchors = normal.cache.choice(abnormal.listing, cycle)
    if anchors is None:
        common = [name for name in normal.summary.known if name in abnormal.summary.known]
        uncut = not any(side.summary.capture.cycle_rows.height for side in (normal, abnormal))
        if common and uncut and not cycle:
            anchors = dict.fromkeys(("normal", "abnormal"), anchor_named(common[0]))
        else:
            anchors = choose(normal.capture, abnormal.capture, cycle)
        normal.cache.keep_choice(abnormal.listing, cycle, anchors)
    return anchors
