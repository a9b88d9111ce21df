"""Columns of interactions without a role, with the reason and the keys that would give them one."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.times import detect_time_format, parse_times
from tfrec_fusion.guessing import column_names as names
from tfrec_fusion.guessing import value_shapes
from tfrec_fusion.guessing.column_profiles import Column
from tfrec_fusion.guessing.combined_tables import marked_ids
from tfrec_fusion.guessing.ledger import Ledger
from tfrec_fusion.guessing.table_profiles import TableProfile


def explain(table: TableProfile, ledger: Ledger) -> None:
    """Says of each column of the interactions that has no role why, and with which keys it would have one."""
    taken = {choice.role for choice in ledger.choices if choice.table == "interactions"}
    for column in table.columns.values():
        if column.name in ledger.named(column.path):
            continue
        marked = marked_ids(column)
        reason, offer = (_marked(table, column, marked), {}) if marked else _reason(column, taken)
        ledger.leave(column.path, column.name, reason, **offer)


def _marked(table: TableProfile, column: Column, example: str) -> str:
    """What to do with `N1-0 N2-1`: the command that makes a row for each, the mark in a last column."""
    words = (
        f"ids with a mark behind each ({example!r}), as what was shown and clicked; a row for each is needed,"
        " and `outcomes` for the marks"
    )
    tabs = table.csv.delimiter in (None, "\t") and ".tsv" in table.path
    sign = "\\t" if tabs else table.csv.delimiter or ","
    if table.join or column.path != table.path or len(sign) > 2:
        return words
    at = f"${list(table.columns).index(column.name) + 1}"
    return (
        f"{words}. To write them so: awk -F'{sign}' -v OFS='{sign}' '{{n = split({at}, ids, /[ ,;]+/);"
        f" for (i = 1; i <= n; i++) {{{at} = substr(ids[i], 1, length(ids[i]) - 2); print $0, substr(ids[i],"
        f" length(ids[i]))}}}}' {table.path} > shown.txt"
    )


def _reason(column: Column, taken: set[str]) -> tuple[str, dict[str, Any]]:
    words = column.words_of_name
    if not column.name:
        numbered = column.is_number and value_shapes.is_running_number(column.numbers, column.rows)
        return "counts the rows" if numbered else "has no name; give it one to use it", {}
    if column.is_unreadable:
        return f"cells of the type {column.array.type}; write their parts as columns of their own", {}
    if column.distinct == 0:
        return "empty", {}
    if column.distinct == 1:
        return f"the same everywhere: {example(column)}", {}
    if column.is_list:
        return f"lists, such as {example(column)}", {}
    if column.is_flag:
        if taken & {"quantity", "event", "label", "outcomes"}:
            return "yes and no", {}
        offer: dict[str, Any] = {"event": column.name, "events": _flag_events(column)}
        return "yes and no; where only a yes is a choice, use it", (
            {"quantity": column.name} if column.is_number else offer
        )
    if column.time and column.time.sure:
        return ("another time" if "time" in taken else "a time") + f", {column.time.why}", {}
    if names.says(words, names.TIME) == 1 and not column.is_number:
        return (
            (
                f"looks like a time, but {example(column)} fits no format that is known here; give it with "
                f"--time {column.name} --time-format FORMAT (of strptime)"
            ),
            {},
        )
    if column.is_number:
        return _reason_of_number(column)
    return _reason_of_words(column)


def _reason_of_number(column: Column) -> tuple[str, dict[str, Any]]:
    words, numbers = column.words_of_name, column.numbers.dropna()
    if _is_few(column) and is_event(column) and column.is_integer:
        return _events(column)
    if value_shapes.are_padded(column.unique):
        return _code(column)
    steps = column.as_numbers(column.values).diff()[1:]
    if value_shapes.is_running_number(numbers, column.rows) or (
        column.distinct > 20 and steps.isin([0, 1]).all()
    ):
        return "counts the rows" if column.distinct == column.rows else "numbers rows that go together", {}
    if names.names_an_id(words) or (names.says(words, names.ORDER) and column.distinct > 0.1 * column.rows):
        return f"an id of something else, {column.distinct:,} different", {}
    if numbers.min() < 0:
        return f"numbers {column.spread}; below 0 they cannot weigh a choice", {}
    if names.says(words, names.MONEY):
        return f"an amount of money {column.spread}; it weighs no choice unless you say so", {
            "weight": column.name
        }
    if reads_as := _reads_as_time(column):
        return reads_as, {}
    if column.is_integer and column.distinct > 0.9 * column.rows and column.rows > 30:
        return "whole numbers, different in almost every row: an id of something else", {}
    kind = "a count" if column.is_integer else "an amount"
    return f"{kind} {column.spread}; every row counts the same unless it weighs them", {"weight": column.name}


def _reads_as_time(column: Column) -> str:
    """What to do where numbers could be times, of which the column's name says nothing, or have two units."""
    array = pa.array(column.values.astype(object), pa.string())
    try:
        found = detect_time_format(array)
    except ConfigError:
        return ""
    if not found.sure or column.distinct < 0.2 * column.rows:
        return ""
    if names.says(column.words_of_name, names.TIME) == 1 and found.share < 0.9:
        return (
            f"looks like a time, but {1 - found.share:.0%} of its values are no {found.why}, such as"
            f" {found.misfit!r}; write them in one form"
        )
    if found.share < 0.99:
        return ""
    times = parse_times(array, found.name)
    first, last = (pd.Timestamp(int(moment)) for moment in (times.min(), times.max()))
    return (
        f"could be times, {first:%Y-%m-%d} to {last:%Y-%m-%d} as {found.why}, but its name does not say"
        f" so. To use them: --time {column.name}"
    )


def _is_few(column: Column) -> bool:
    return 2 <= column.distinct <= 20 and column.distinct < 0.2 * column.rows


def _events(column: Column) -> tuple[str, dict[str, Any]]:
    events = {str(kind): 0.0 if value_shapes.is_refusal(kind) else 1.0 for kind in column.unique}
    return (
        f"{column.distinct} kinds of event; all rows count the same unless it says how much each counts",
        {"event": column.name, "events": events},
    )


def _code(column: Column) -> tuple[str, dict[str, Any]]:
    """Numbers with zeros in front: codes, or dates and times without a year."""
    shown = f"numbers with zeros in front, such as {example(column)}: codes, no amounts"
    if names.says(column.words_of_name, names.TIME) > 0:
        return (
            f"{shown}; if they are times, say how they are written: --time {column.name} --time-format FORMAT"
            " (of strptime, such as %m%d for 0829)",
            {},
        )
    if column.distinct <= 1000 and column.distinct < 0.2 * column.rows:
        return f"{shown}; if it is known when the choice is made, use it", {"context": [column.name]}
    return shown, {}


def _reason_of_words(column: Column) -> tuple[str, dict[str, Any]]:
    few = _is_few(column)
    if few and is_event(column):
        return _events(column)
    if few and names.says(column.words_of_name, names.LABEL) == 1:
        return f"{column.distinct} words, not numbers; say what each stands for", {
            "label": column.name,
            "label_values": _graded(column),
        }
    if column.is_address:
        return "addresses or files", {}
    if names.says(column.words_of_name, names.ORDER) and column.distinct > 20:
        return f"an id of something else, {column.distinct:,} different", {}
    if names.says(column.words_of_name, names.PERSONAL) and column.distinct > 20:
        return f"personal, {column.distinct:,} different values", {}
    if column.distinct <= 1000 and column.distinct < 0.2 * column.rows and column.median_words <= 4:
        return f"{column.distinct:,} different values; if it is known when the choice is made, use it", {
            "context": [column.name]
        }
    if column.long_words > 3 and column.is_words:
        return (
            "text of each row: it says something of the choice, not of the item; what users wrote can be read"
            " by the ranking model, for whatever is later"
        ), {"text": column.name}
    return f"{column.distinct:,} different values, such as {example(column)}", {}


_KINDS = {
    "view",
    "click",
    "cart",
    "buy",
    "purchase",
    "transaction",
    "addtocart",
    "add_to_cart",
    "order",
    "play",
    "listen",
    "share",
    "save",
    "bookmark",
    "wishlist",
    "checkout",
    "read",
    "watch",
    "open",
    "impression",
    "download",
}


def _graded(column: Column) -> dict[str, float]:
    """A number for each word: its own where it is one."""
    numbers = column.numbers
    if numbers.notna().any():
        pairs = zip(column.unique, numbers, strict=True)
        return {str(word): float(number) for word, number in pairs if number == number}
    return {str(word): float(index) for index, word in enumerate(column.unique)}


_EVENT = {
    "event",
    "action",
    "type",
    "kind",
    "activity",
    "interaction",
    "behavior",
    "behaviour",
    "status",
}
_OF_EVENTS = {"user", "item", "order", "name", "code", "id", "my"}


def is_event(column: Column) -> bool:
    """Whether a handful of values are kinds of events, by the column's whole name or by the values."""
    words = set(column.words_of_name)
    named = bool(words & _EVENT) and words <= _EVENT | _OF_EVENTS
    known = [
        value_shapes.folded(kind) in _KINDS or value_shapes.is_refusal(kind) for kind in column.unique[:100]
    ]
    return named or sum(known) >= 2 or (any(known) and bool(words & _EVENT))


def _flag_events(column: Column) -> dict[str, float]:
    no = {"false", "no", "n", "f", "off", "nein", "non", "nao", "нет", "否", "لا"}
    return {str(value): 0.0 if value_shapes.folded(value) in no else 1.0 for value in column.unique}


def example(column: Column) -> str:
    text = str(column.values.iloc[0]) if len(column.values) else ""
    return repr(text if len(text) <= 60 else text[:57] + "…")
