"""Rows of an interactions table as events, each with the reason why it cannot be used, if there is one."""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

from tfrec_fusion.datasets.tables import Interactions
from tfrec_fusion.datasets.values import clean_ids, parse_numbers, parse_times


class EventColumns(NamedTuple):
    """One entry per row: ids (None where missing), seconds since 1970, labels if there are any, and `reason`, "" where
    the row can be used."""

    users: pd.Series
    items: pd.Series
    times: pd.Series
    labels: pd.Series | None
    reason: pd.Series


def read_events(frame: pd.DataFrame, table: Interactions) -> EventColumns:
    """Reads a batch of rows.

    Args:
        frame: the columns of `table.columns()`.
        table: what they mean.
    """
    users, items = clean_ids(frame[table.user]), clean_ids(frame[table.item])
    reason = pd.Series("", index=frame.index)
    if table.quantity:
        reason[~(parse_numbers(frame[table.quantity], table.csv.decimal) > 0)] = "quantity not above 0"
    labels = parse_numbers(frame[table.label], table.csv.decimal) if table.label else None
    if labels is not None:
        reason[labels.isna() | labels.abs().eq(math.inf)] = "unparsable label"
    times = pd.Series(0.0, index=frame.index)
    if table.time:
        times = parse_times(frame[table.time], table.time_format)
        reason[times.isna()] = "unparsable time"
    reason[items.isna()] = "missing item id"
    reason[users.isna()] = "missing user id"
    return EventColumns(users, items, times, labels, reason)
