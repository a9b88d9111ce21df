"""Guesses the roles of tables and columns from their names, their values, and how tables join.

A guess is a description as the pipeline reads it, and for each choice the reason in words.
"""

from __future__ import annotations

import dataclasses
import pathlib

from pipeline.onboarding import column_names as names
from pipeline.onboarding.column_profiles import Column, TableProfile, read_folder
from pipeline.onboarding.entity_columns import Choice, describe_items, describe_users
from pipeline.onboarding.id_columns import Hints, Link, Roles, find_roles, is_called
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.tables import Interactions, Items, Tables, Users
from tfrec_fusion.datasets.values import parse_numbers


@dataclasses.dataclass
class Guess:
    """The tables of a folder as the pipeline reads them, and the reasons.

    Attributes:
        tables: paths relative to the folder.
        choices: what was chosen, in the order in which it is shown.
        unused: tables and columns that were left out, and why.
        profile: of the interactions table.
    """

    tables: Tables
    choices: list[Choice]
    unused: list[str]
    profile: TableProfile


def guess(folder: pathlib.Path, hints: Hints | None = None) -> Guess:
    """Guesses the three tables of a folder.

    Raises:
        ConfigError: where no table of choices can be told; says what was seen and how to name it.
    """
    hints = hints or Hints()
    tables, unused = read_folder(folder)
    chosen = [roles for table in tables if (roles := find_roles(table, tables, hints)) is not None]
    if hints.interactions:
        chosen = [roles for roles in chosen if is_called(roles.table, hints.interactions)]
    if not chosen:
        raise ConfigError(_not_found(tables, hints))
    best = max(chosen, key=lambda roles: roles.score)
    choices: list[Choice] = []
    interactions = _describe_interactions(best, hints, choices, unused)
    items = _describe_items(best, choices, unused)
    users = _describe_users(best, choices, unused)
    used = {interactions.path, items.path, users.path if users else ""}
    for table in tables:
        if table.path not in used:
            unused.append(
                f"{table.path}: not used, the run needs one table of choices, one of items and one of people"
            )
    return Guess(Tables(interactions, items, users), choices, unused, best.table)


def _not_found(tables: list[TableProfile], hints: Hints) -> str:
    seen = "; ".join(f"{table.path}: {', '.join(list(table.columns)[:12])}" for table in tables[:6])
    asked = ", ".join(f"--{name} {value}" for name, value in dataclasses.asdict(hints).items() if value)
    return (
        "No table says who chose what: one with a column of people and a column of items is needed"
        f"{f' (asked for: {asked})' if asked else ''}. Seen: {seen}. "
        "Name the columns with --user and --item (and --interactions for the file)."
    )


def _describe_interactions(
    roles: Roles, hints: Hints, choices: list[Choice], unused: list[str]
) -> Interactions:
    table, taken = roles.table, {roles.user.name, roles.item.name}

    def chose(role: str, column: str, why: str) -> None:
        choices.append(Choice("interactions", role, column, why))
        taken.add(column)

    average = len(roles.user.values) / roles.user.distinct
    chose("user", roles.user.name, _why_id(roles.user, roles.user_link, f"{average:.1f} rows each"))
    average = len(roles.item.values) / roles.item.distinct
    chose("item", roles.item.name, _why_id(roles.item, roles.item_link, f"{average:.1f} rows each"))
    time = _time(table, taken, hints)
    if time:
        assert time.time
        chose("time", time.name, time.time.why)
    else:
        unused.append(
            "time: no column can be read as times; each person's choices are put in a fixed random order"
        )
    label, why = _label(table, taken, hints)
    quantity: Column | None = None
    if label and label.distinct == 2 and label.numbers.min() <= 0 and not hints.label:
        # Retrieval learns from every row; what was only shown must not count as chosen.
        share = (parse_numbers(label.values, label.decimal) > 0).mean()
        chose("quantity", label.name, f"yes or no: only the {share:.0%} of rows with a yes are choices")
        label, quantity = None, label
    elif label:
        chose("label", label.name, why)
    if quantity is None and (quantity := _quantity(table, taken)):
        share = (parse_numbers(quantity.values, quantity.decimal) <= 0).mean()
        chose(
            "quantity",
            quantity.name,
            f"{share:.1%} of its values are not above 0: returns or cancellations, left out",
        )
    for column in table.columns.values():
        if column.name not in taken and names.says(column.words_of_name, names.QUANTITY + names.MONEY) == 1:
            unused.append(
                f"{table.path}: {column.name}: an amount, not an opinion; every row counts as a choice"
            )
    return Interactions(
        path=table.path,
        user=roles.user.name,
        item=roles.item.name,
        time=time.name if time else None,
        label=label.name if label else None,
        time_format=time.time.time_format if time and time.time else None,
        quantity=quantity.name if quantity else None,
        csv=table.csv,
    )


def _why_id(column: Column, link: Link | None, spread: str) -> str:
    reasons = [f"{column.distinct:,} different values, {spread}"]
    if link:
        reasons.append(f"{link.overlap:.0%} of them stand in {link.table.path} as {link.key.name}")
    return "; ".join(reasons)


def _time(table: TableProfile, taken: set[str], hints: Hints) -> Column | None:
    if hints.time:
        column = table.columns.get(hints.time)
        if column is None or not column.time:
            raise ConfigError(
                f"`--time {hints.time}` must be a column of {table.path} that can be read as times. "
                f"It has: {', '.join(table.columns)}."
            )
        return column
    found = [column for column in table.columns.values() if column.name not in taken and column.time]
    found = [column for column in found if column.filled > 0.5]

    def rank(column: Column) -> tuple:
        assert column.time
        updated = bool(set(column.words_of_name) & {"updated", "birth", "release", "due", "end", "shipped"})
        said = names.says(column.words_of_name, names.TIME)
        return (column.time.sure, not updated, said, column.filled, column.distinct)

    return max(found, key=rank, default=None)


def _label(table: TableProfile, taken: set[str], hints: Hints) -> tuple[Column | None, str]:
    if hints.label:
        if hints.label not in table.columns:
            raise ConfigError(
                f"`--label {hints.label}` is no column of {table.path}: {', '.join(table.columns)}."
            )
        return table.columns[hints.label], "named by you"
    found = []
    for column in table.columns.values():
        if column.name in taken or not column.is_number or column.time or column.filled < 0.9:
            continue
        numbers = column.numbers.dropna()
        if not 2 <= column.distinct <= 201 or names.names_an_id(column.words_of_name):
            continue
        words = column.words_of_name
        if names.says(words, names.QUANTITY + names.MONEY) and names.says(words, names.LABEL) != 1:
            continue
        said = names.says(words, names.LABEL)
        steps = bool(((numbers * 2) % 1 == 0).all()) and numbers.min() >= 0 and numbers.max() <= 10
        if said or (steps and 4 <= column.distinct <= 21):
            found.append((said, -column.distinct, column.name, column))
    if not found:
        return None, ""
    column = max(found)[-1]
    low, high = column.numbers.min(), column.numbers.max()
    named = "its name says so; " if max(found)[0] else "few values in equal steps, as opinions are given; "
    return column, f"{named}{column.distinct} values from {low:g} to {high:g}"


def _quantity(table: TableProfile, taken: set[str]) -> Column | None:
    for column in table.columns.values():
        if column.name not in taken and column.is_number and names.says(column.words_of_name, names.QUANTITY):
            numbers = parse_numbers(column.values, column.decimal)
            if (numbers <= 0).any() and (numbers > 0).mean() > 0.5:
                return column
    return None


def _describe_items(roles: Roles, choices: list[Choice], unused: list[str]) -> Items:
    if roles.item_link:
        table, key, distinct = roles.item_link.table, roles.item_link.key, False
        choices.append(Choice("items", "id", key.name, f"one row each in {table.path}"))
    else:
        table, key, distinct = roles.table, roles.item, True
        choices.append(
            Choice(
                "items",
                "id",
                key.name,
                f"no table lists the items; {table.path} says with each row what its item is",
            )
        )
    return describe_items(table, key, distinct, roles, choices, unused)


def _describe_users(roles: Roles, choices: list[Choice], unused: list[str]) -> Users | None:
    if roles.user_link:
        table, key = roles.user_link.table, roles.user_link.key
        return describe_users(table, key, False, roles, choices, unused)
    return describe_users(roles.table, roles.user, True, roles, choices, unused)
