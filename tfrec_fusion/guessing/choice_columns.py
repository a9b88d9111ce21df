"""Roles of the columns of interactions: time, label, outcomes, kinds of events, pieces, and, of the rest, how
they could be used."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.tables import Interactions
from tfrec_fusion.datasets.times import MISSING, SECOND, parse_times
from tfrec_fusion.guessing import column_names as names
from tfrec_fusion.guessing import value_shapes
from tfrec_fusion.guessing.column_profiles import Column
from tfrec_fusion.guessing.id_columns import Hints, Roles
from tfrec_fusion.guessing.ledger import Ledger
from tfrec_fusion.guessing.table_profiles import TableProfile, follows
from tfrec_fusion.guessing.time_columns import TimeGuess, guess_time, readings
from tfrec_fusion.guessing.unused_columns import example, is_event

NOT_WHEN = {
    "updated",
    "birth",
    "release",
    "released",
    "due",
    "end",
    "shipped",
    "delivered",
    "expiry",
    "expired",
    "published",
    "estimated",
    "limit",
    "deadline",
    "shipping",
    "delivery",
}

DAY = 86_400 * SECOND
COME_BACK = 0.1  # share of rows, beyond chance, whose user had the item before: above it a table logs events


def describe_interactions(roles: Roles, hints: Hints, ledger: Ledger) -> Interactions:
    """The interactions' columns by role; what has none is explained by `explain` later.

    Raises:
        ConfigError: where a hint names no column, or one that cannot be read so.
    """
    table, taken = roles.table, {roles.user.name, roles.item.name}
    keys: dict[str, Any] = {}

    def chose(role: str, column: Column, why: str) -> None:
        ledger.chose("interactions", role, column.name, why, column.path)
        taken.add(column.name)

    time = _time(table, roles, hints)
    if time:
        assert time.time
        chose("time", time, time.time.why)
        keys["time_format"] = _time_format(time, hints)
    _label_or_choice(roles, taken, hints, chose, keys, ledger)
    if not keys.keys() & {"quantity", "outcomes"} and (quantity := _returns(table, taken)):
        share = (quantity.as_numbers(quantity.values) <= 0).mean()
        chose(
            "quantity",
            quantity,
            f"{share:.1%} of its values are not above 0: returns or cancellations, left out",
        )
        keys["quantity"] = quantity.name
    if table.join:
        keys["join"] = table.join
    if table.explode:
        keys["explode"] = table.explode[1]
    return Interactions(
        path=table.path,
        user=roles.user.name,
        item=roles.item.name,
        time=time.name if time else None,
        csv=table.csv,
        **keys,
    )


def _time(table: TableProfile, roles: Roles, hints: Hints) -> Column | None:
    if hints.time:
        return _named_time(table, hints)
    taken = {roles.user.name, roles.item.name}
    candidates = [column for column in table.columns.values() if column.name not in taken and column.time]
    candidates = [column for column in candidates if column.filled > 0.5]

    def rank(column: Column) -> tuple:
        assert column.time
        other = bool(set(column.words_of_name) & NOT_WHEN)
        score = names.says(column.words_of_name, names.TIME)
        return (column.time.sure, not other, score, column.filled, column.distinct)

    best = max(candidates, key=rank, default=None)
    if best is not None and best.time and best.time.sure:
        return _earliest([column for column in candidates if rank(column)[:3] == rank(best)[:3]], best, roles)
    return _order(table, taken, roles.user) or best


def _earliest(candidates: list[Column], best: Column, roles: Roles) -> Column:
    """Of times that are as good by their names, the one that comes first in nearly every row: an order is
    placed before it is approved, sent and received. What the item or the user decides is no time of the
    choice."""
    frame = roles.table.frame
    candidates = [
        column
        for column in candidates
        if not any(follows(frame, key.name, column) for key in (roles.user, roles.item))
    ]
    if len(candidates) < 2:
        return best
    times = pd.DataFrame(
        {
            column.name: parse_times(pa.array(column.strings, pa.string()), column.time.time_format)
            for column in candidates
            if column.time
        }
    )
    # By days: the date of a moment is no earlier time.
    times = (times // DAY).where(times != MISSING)
    first = times.min(axis=1)
    known = times.notna().sum(axis=1) > 1
    shares = {name: float((times[name] == first)[known & times[name].notna()].mean()) for name in times}
    usable = [column for column in candidates if column.filled > 0.9 and shares[column.name] > 0.95]
    if best in usable:
        return best
    return max(usable, key=lambda column: (column.filled, shares[column.name]), default=best)


def _order(table: TableProfile, taken: set[str], user: Column) -> Column | None:
    """A column that numbers each user's choices in their order, which is as good as a time."""
    for column in table.columns.values():
        if column.name in taken or not column.is_integer or column.filled < 1 or column.distinct < 3:
            continue
        numbers = pd.DataFrame({"user": user.strings, "number": column.as_numbers(column.strings)}).dropna()
        steps = numbers.number.diff()[numbers.user.eq(numbers.user.shift())]
        first = numbers.groupby("user", sort=False).number.min()
        start = first.mode().iloc[0]
        counts_up = len(steps) > 20 and steps.isin([0, 1]).mean() > 0.99 and (steps == 1).mean() > 0.1
        if counts_up and (first == start).mean() > 0.8:
            column.time = TimeGuess("s", f"numbers each user's choices from {start:g} on: their order")
            return column
    return None


def _named_time(table: TableProfile, hints: Hints) -> Column:
    column = table.columns.get(hints.time or "")
    if column is None:
        raise ConfigError(
            f"`--time {hints.time}` must be a column of {table.path}. It has: {', '.join(table.columns)}."
        )
    if not column.time and not hints.time_format:  # numbers that no name says to be times
        column.time = guess_time(column.values, column.is_number, ("time",))
    if not column.time and not hints.time_format:
        raise ConfigError(
            f"`--time {hints.time}` must be a column that can be read as times. Received: {example(column)}. "
            "Say how it is written with --time-format, for example --time-format '%d/%m/%Y %H:%M'."
        )
    if not column.time:
        column.time = TimeGuess(hints.time_format or "", f"written {hints.time_format}, as you say")
    return column


def _time_format(time: Column, hints: Hints) -> str | None:
    """The format for the configuration; None where the file says itself that it holds times.

    Raises:
        ConfigError: where day and month cannot be told apart.
    """
    assert time.time
    if time.is_time_type:
        return None
    if time.time.rivals and not hints.time_format:
        formats = (time.time.time_format, *time.time.rivals)
        raise ConfigError(
            f"Every {time.name!r} of {time.path} can be read in {len(formats)} ways:"
            f" {readings(time.time.example, formats)}. Say which with"
            f" {' or '.join(f'--time-format {known!r}' for known in formats)}."
        )
    time_format = hints.time_format or time.time.time_format
    return None if time_format in ("s", "iso") else time_format  # what a run tells by itself


def _label_or_choice(
    roles: Roles, taken: set[str], hints: Hints, chose: Any, keys: dict[str, Any], ledger: Ledger
) -> None:
    """An opinion in numbers or words, or a yes and no that says whether the row is a choice."""
    table = roles.table
    label, why = _label(table, taken, hints)
    if label is not None and not hints.label and _is_kind(roles, label):
        label, why = None, ""  # explained, with `events`, as a kind of event
    if label is None or not (hints.label or names.says(label.words_of_name, names.LABEL)):
        # Grades in words say more than numbers that only look like grades.
        words, reason = _word_label(table, taken)
        label, why = (words, reason) if words else (label, why)
    if label is None:
        return
    grades = None if label.is_number else _grades(label)
    labels = label.values.map(grades).astype(float) if grades else label.as_numbers(label.values)
    disliked = [word for word in grades or () if value_shapes.is_dislike(word)]
    if grades and not hints.label and disliked and label.filled > 0.99:
        # Retrieval learns from every row: who dislikes something did not choose it.
        kinds = {word: 0.0 if word in disliked else 1.0 for word in grades}
        if any(kinds.values()):
            shown = ", ".join(repr(word) for word, weight in kinds.items() if weight)
            chose("event", label, f"opinions in words; only {shown} are choices")
            keys.update(event=label.name, events=kinds)
            if len(set(grades.values())) > 2:
                chose("label", label, "the same words as grades")
                keys.update(label=label.name, label_values=grades)
            else:
                ledger.note(
                    f"{table.path}: {label.name}: to learn from dislikes as low ratings instead, put label:"
                    f" {label.name} and label_values: {_inline(grades)} instead of event and events."
                )
            return
    if not grades and label.distinct == 2 and label.numbers.min() <= 0 and not hints.label:
        # What was only shown, or disliked, must not count as chosen.
        _outcomes(table, label, taken, chose, keys)
        return
    chose("label", label, why)
    keys["label"] = label.name
    if grades:
        keys["label_values"] = grades
    else:
        _note_sentinels(table, label, labels, keys, ledger)
    if label.filled < 0.99:
        ledger.note(
            f"{table.path}: {label.name}: {label.filled:.0%} of the rows have one; the others are choices"
            " without an opinion."
        )


def _is_kind(roles: Roles, label: Column) -> bool:
    """Whether numbers that no name calls opinions are kinds of events, `0` for a click and `1` for a
    purchase: by their name, or since users come back to their items, as nobody does to give an opinion."""
    if names.says(label.words_of_name, names.LABEL) or label.distinct == 2:
        return False
    pairs = pd.DataFrame({"user": roles.user.strings, "item": roles.item.strings}).dropna()
    mixed = pairs.assign(item=pairs.item.sample(frac=1.0, random_state=0).to_numpy())
    return is_event(label) or bool(pairs.duplicated().mean() > mixed.duplicated().mean() + COME_BACK)


def _outcomes(table: TableProfile, label: Column, taken: set[str], chose: Any, keys: dict[str, Any]) -> None:
    """Columns of yes and no that say what came of what was shown, and the position where it was shown."""
    found = [label]
    for column in table.columns.values():
        flag = column.is_number and column.distinct == 2 and set(column.numbers.dropna()) == {0, 1}
        if (
            column.name not in {*taken, label.name}
            and flag
            and names.says(column.words_of_name, names.CHOSEN)
        ):
            found.append(column)
    for column in found:
        share = (column.as_numbers(column.values) > 0).mean()
        no = "disliked" if column.numbers.min() < 0 else "shown and not chosen"
        chose("outcomes", column, f"yes or no: the {share:.0%} of rows with a yes are choices, others {no}")
    keys["outcomes"] = {column.name: 1.0 for column in found}
    for column in table.columns.values():
        from_one = column.is_integer and column.distinct > 1 and column.numbers.min() == 1
        if column.name not in taken and from_one and names.says(column.words_of_name, names.POSITION) == 1:
            chose("position", column, f"where it was shown, {column.spread}: it weighs choices")
            keys["position"] = column.name
            return


def _note_sentinels(
    table: TableProfile, label: Column, labels: pd.Series, keys: dict[str, Any], ledger: Ledger
) -> None:
    apart = value_shapes.sentinels(labels)
    if not apart:
        return
    shares = ", ".join(f"{value:g} ({(labels == value).mean():.0%} of the rows)" for value in apart)
    rest = labels[~labels.isin(apart)]
    ledger.note(
        f"{table.path}: {label.name}: {shares} stands apart from {rest.min():g} to {rest.max():g} and looks"
        " like 'not rated': written as label_nulls, so that it is a choice without an opinion. Take"
        " label_nulls out if it is a grade."
    )
    keys["label_nulls"] = tuple(int(value) if value % 1 == 0 else value for value in apart)


def _label(table: TableProfile, taken: set[str], hints: Hints) -> tuple[Column | None, str]:
    if hints.label:
        if hints.label not in table.columns:
            raise ConfigError(
                f"`--label {hints.label}` is no column of {table.path}: {', '.join(table.columns)}."
            )
        return table.columns[hints.label], "named by you"
    candidates = []
    for column in table.columns.values():
        words = column.words_of_name
        if (
            column.name in taken
            or not (column.is_number or column.is_flag)
            or (column.time and column.time.sure)
        ):
            continue
        if not 2 <= column.distinct <= 201 or names.names_an_id(words) or not column.is_number:
            continue
        score = names.says(words, names.LABEL)
        if names.says(words, names.QUANTITY + names.MONEY) and score != 1:
            continue
        numbers = column.numbers.dropna()
        numbers = numbers[~numbers.isin(value_shapes.sentinels(column.as_numbers(column.values)))]
        steps = bool(((numbers * 2) % 1 == 0).all()) and numbers.min() >= 0 and numbers.max() <= 10
        if not score and (
            names.says(words, names.ORDER) or (column.as_numbers(column.values).diff() == 1).mean() > 0.5
        ):
            continue  # positions: 1, 2, 3, 1, 2
        if (score and column.filled > 0.02) or (steps and 4 <= column.distinct <= 21 and column.filled > 0.9):
            candidates.append((score, -column.distinct, column.name, column))
    if not candidates:
        return None, ""
    score, _, _, column = max(candidates)
    named = "its name says so; " if score else "few values in equal steps, as opinions are given; "
    return column, f"{named}{column.distinct} values {column.spread}"


def _word_label(table: TableProfile, taken: set[str]) -> tuple[Column | None, str]:
    for column in table.columns.values():
        if (
            column.name in taken
            or column.is_number
            or column.is_list
            or column.is_flag
            or column.filled < 0.02
        ):
            continue
        named = names.says(column.words_of_name, names.LABEL) > 0
        grades = (
            None
            if names.names_an_id(column.words_of_name)
            else value_shapes.word_grades(column.unique, named)
        )
        if grades:
            shown = ", ".join(
                f"{word!r} is {grade:g}"
                for word, grade in sorted(grades.items(), key=lambda entry: entry[1])[:6]
            )
            return column, f"opinions in words: {shown}"
    return None, ""


def _grades(label: Column) -> dict[str, float]:
    grades = value_shapes.word_grades(label.unique, named=True)
    if grades is None:
        raise ConfigError(
            f"`--label {label.name}` must be a column of numbers, or of words that stand for grades."
            f" Received: {', '.join(map(repr, label.unique[:5]))}. Give the words numbers in the"
            " configuration: label_values: {WORD: NUMBER}."
        )
    return grades


def _returns(table: TableProfile, taken: set[str]) -> Column | None:
    for column in table.columns.values():
        if column.name not in taken and column.is_number and names.says(column.words_of_name, names.QUANTITY):
            numbers = column.as_numbers(column.values)
            if (numbers <= 0).any() and (numbers > 0).mean() > 0.5:
                return column
    return None


def _inline(mapping: dict[str, float]) -> str:
    return "{" + ", ".join(f"{key}: {value:g}" for key, value in mapping.items()) + "}"
