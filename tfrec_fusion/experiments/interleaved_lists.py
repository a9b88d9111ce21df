"""Interleaving of tables: two tables of lists become one, and clicks say which is preferred, from a table of
their own or from the log of impressions of a server that interleaves.

Lists are rows of a user, a rank and an item, as `tfrec batch` writes them. What a table may do wrong:

| seen | treatment |
|---|---|
| rows in any order | sorted by rank |
| an item again in a list | its best rank counts |
| a user whom one table lacks | the other's list, which decides nothing |
| a click again on the same item by the same user | counts once |
| clicks on what was not in the list | left out, and counted |
| a rank that is missing or no number, a user or item without an id | error |
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from tfrec_fusion.datasets.cells import numbers
from tfrec_fusion.datasets.ids import ids as as_ids
from tfrec_fusion.datasets.reading import column_names, read_batches
from tfrec_fusion.experiments.checks import ExperimentError
from tfrec_fusion.experiments.interleaving import coins, team_draft
from tfrec_fusion.experiments.outcome_files import files_of
from tfrec_fusion.experiments.outcomes import arms_of_rows
from tfrec_fusion.experiments.preferences import Preference, preference

__all__ = ["interleave", "prefer", "prefer_logged", "read_columns"]

TEAMS = ("first", "second")


def read_columns(
    path: str | os.PathLike[str],
    ids: Sequence[str],
    number: str | None = None,
    team: bool = False,
    what: str = "lists",
) -> pd.DataFrame:
    """Columns of a table of CSV, JSON or Parquet.

    Args:
        path: file, folder or glob.
        ids: columns of ids, which become strings, the same from every format.
        number: a column of numbers.
        team: whether the column `team` is read too.
        what: the table, for messages.

    Raises:
        ConfigError: a file cannot be read.
        ExperimentError: there is none, a column is missing, an id is empty, or a number is none.
    """
    columns, parts = (*ids, *([number] if number else []), *(["team"] if team else [])), []
    for file in files_of(path):
        known = column_names(file)
        if missing := [name for name in columns if name not in known]:
            raise ExperimentError(
                f"{file} has no column {', '.join(map(repr, missing))}. Its columns: {', '.join(known)}. Say"
                " which hold users, items, ranks and outcomes."
            )
        table = pa.Table.from_batches(list(read_batches(file, columns, what)))
        read: dict[str, object] = {}
        for name in columns:
            column = table.column(name).combine_chunks()
            if name == number:
                read[name] = numbers(column, name)
                if not np.isfinite(read[name]).all():  # type: ignore[call-overload]
                    raise ExperimentError(f"{name!r} of {file} must hold numbers. Received: something else.")
                continue
            strings = as_ids(column, "as_written", f"column {name!r}").to_pylist()
            read[name] = np.array([value or "" for value in strings], object)
            if name != "team" and "" in read[name]:  # type: ignore[operator]
                raise ExperimentError(f"{name!r} of {file} must hold ids. Received: an empty one.")
        parts.append(pd.DataFrame(read))
    return pd.concat(parts, ignore_index=True)


def interleave(
    first: pd.DataFrame,
    second: pd.DataFrame,
    k: int,
    *,
    salt: str = "interleaving",
    unit: str = "user_id",
    item: str = "item_id",
    rank: str = "rank",
) -> pd.DataFrame:
    """One list for each user of two (`team_draft`).

    Args:
        first, second: tables of lists.
        k: length of the lists.
        salt: with the user's id, it seeds the coins: the same user has the same list again.
        unit, item, rank: their columns.

    Returns:
        `unit`, `rank` from 1, `item`, and `team`: which table put the item there.
    """
    rankings = [
        {key: rows[item].tolist() for key, rows in table.sort_values(rank, kind="stable").groupby(unit)}
        for table in (first, second)
    ]
    parts = []
    for user in dict.fromkeys([*rankings[0], *rankings[1]]):
        best, other = (lists.get(user, []) for lists in rankings)
        one = team_draft(best, other, k, coins(salt, user))
        both = all(user in lists for lists in rankings)
        teams = [TEAMS[team] if both else "" for team in one.teams]
        parts += list(zip([user] * len(teams), range(1, len(teams) + 1), one.items, teams, strict=True))
    return pd.DataFrame(parts, columns=[unit, rank, item, "team"])


def prefer(
    lists: pd.DataFrame,
    clicks: pd.DataFrame,
    *,
    unit: str = "user_id",
    item: str = "item_id",
    outcome: str | None = None,
    confidence: float = 0.95,
) -> tuple[Preference, int]:
    """Which table's items are clicked more (`preference`).

    Args:
        lists: what `interleave` made, as it was shown.
        clicks: rows of a user and an item.
        unit, item: their columns in both.
        outcome: column of numbers of `clicks`; a row above 0 is a click. None: each row is.
        confidence: of the intervals.

    Returns:
        The preference, and how many clicks were on what was not in the lists.

    Raises:
        ExperimentError: fewer than two users clicked, or `team` holds something else.
    """
    if odd := sorted(set(lists["team"]) - {*TEAMS, ""}):
        raise ExperimentError(f"`team` must be first, second or empty. Received: {odd[0]!r}.")
    if outcome is not None:
        clicks = clicks[clicks[outcome] > 0]
    clicks = clicks[[unit, item]].drop_duplicates()
    found = clicks.merge(lists[[unit, item, "team"]].drop_duplicates([unit, item]), on=[unit, item])
    counts = pd.crosstab(found[unit], found["team"]).reindex(columns=TEAMS, fill_value=0)
    sums = counts.to_numpy(np.float64)
    return preference(sums[:, 0], sums[:, 1], confidence=confidence), len(clicks) - len(found)


def prefer_logged(
    impressions: pd.DataFrame,
    experiment: str = "",
    arms: Sequence[str] = (),
    *,
    unit: str = "user",
    outcome: str = "click",
    confidence: float = 0.95,
) -> tuple[Preference, tuple[str, str], int]:
    """Which arm's items are clicked more, by a log of lists that a server interleaved (`preference`).

    Args:
        impressions: a row an item shown: `request_id`, `item`, `arm` (which arm put the item there), `unit`
            and `outcome`; what a row of the same request and item says again does not count.
        experiment: whose arms are meant, where `arm` names experiments.
        arms: both names, the first one first; those of the table, sorted, where none are given.
        unit: column of the user; rows of nobody count for nothing.
        outcome: column of numbers; one above 0 is a click.
        confidence: of the intervals.

    Returns:
        The preference, above 0 for the second; both names; and how many rows are of no list of both.

    Raises:
        ExperimentError: a column is missing, there are not two arms, or fewer than two users clicked.
    """
    needed = ("request_id", "item", "arm", unit, outcome)
    if missing := [name for name in needed if name not in impressions.columns]:
        raise ExperimentError(
            f"The table has no column {', '.join(map(repr, missing))}. Its columns:"
            f" {', '.join(map(str, impressions.columns))}."
        )
    rows = impressions.assign(arm=arms_of_rows(impressions["arm"], experiment).to_numpy())
    rows = rows.drop_duplicates(["request_id", "item"])
    names = tuple(arms) or tuple(sorted(set(rows["arm"]) - {""}))
    if len(names) != 2:
        raise ExperimentError(
            f"An experiment that interleaves has two arms. Received: {', '.join(names) or 'none'}. Give its"
            " name, or the file of experiments."
        )
    # A list of one arm alone was not interleaved: a header or an address asked for it.
    both = rows[rows["arm"].isin(names)].groupby("request_id")["arm"].nunique() == 2
    kept = rows[rows["arm"].isin(names) & rows["request_id"].map(both).eq(True)]
    clicked = kept[(kept[outcome] > 0) & kept[unit].fillna("").astype(str).ne("")]
    counts = pd.crosstab(clicked[unit], clicked["arm"]).reindex(columns=list(names), fill_value=0)
    sums = counts.to_numpy(np.float64)
    one = preference(sums[:, 0], sums[:, 1], confidence=confidence)
    return one, (names[0], names[1]), len(rows) - len(kept)
