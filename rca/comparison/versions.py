"""Functions whose names changed between two versions of the same software: template arguments, tile sizes, hashes."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from rca.capture.names import family
from rca.profile import Profile

_MAX_NAMED = 5


def same_names(normal: Profile, abnormal: Profile) -> tuple[Profile, list[str]]:
    """Give functions of the abnormal side the names that they have on the normal side.

    A function of one side only is taken for one of the other side only if their family, device and class agree and no
    third function could be meant. Profiles that were made elsewhere keep their names.

    Returns:
        The abnormal profile, and a note on what was taken for the same.
    """
    if not (normal.from_events and abnormal.from_events):
        return abnormal, []
    key = ["device", "class", "family"]
    one, two = (_alone(own, other) for own, other in ((normal, abnormal), (abnormal, normal)))
    pairs = one.join(two, on=key, suffix="_2").sort("function", "function_2")
    if pairs.height == 0:
        return abnormal, []
    name = pl.col("function")
    renamed = abnormal.rows.join(
        pairs.select("device", "class", pl.col("function_2").alias("function"), old=name),
        on=["device", "class", "function"],
        how="left",
        maintain_order="left",
    ).with_columns(function=pl.coalesce("old", "function"))
    shown = [f"{new[:60]} for {old[:60]}" for old, new in pairs.select("function", "function_2").head(_MAX_NAMED).rows()]
    more = f" and {pairs.height - _MAX_NAMED} more" if pairs.height > _MAX_NAMED else ""
    note = (
        f"functions that only differ in template arguments, sizes or hashes are taken for the same: {'; '.join(shown)}{more}"
    )
    return replace(abnormal, rows=renamed.select(abnormal.rows.columns)), [note]


def _alone(own: Profile, other: Profile) -> pl.DataFrame:
    """Return the functions that only one side has, where they are the only ones of their family."""
    functions, others = (p.rows.select("device", "class", "function").unique() for p in (own, other))
    alone = functions.join(others, on=["device", "class", "function"], how="anti")
    families = {name: family(name) for name in alone["function"].unique()}
    named = alone.with_columns(family=pl.col("function").replace_strict(families, return_dtype=pl.String))
    return named.filter(pl.len().over("device", "class", "family") == 1)
