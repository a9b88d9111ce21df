"""Guesses the roles of tables and columns from their names, their values, and how tables join.

A guess is a description as the pipeline reads it, and for each choice the reason in words.
"""

from __future__ import annotations

import dataclasses
import pathlib

import pandas as pd

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.tables import IdRule, Interactions, Items, Tables, Users
from tfrec_fusion.guessing import column_names as names
from tfrec_fusion.guessing import popularity
from tfrec_fusion.guessing.choice_columns import describe_interactions
from tfrec_fusion.guessing.column_profiles import Column
from tfrec_fusion.guessing.combined_tables import divider_words, exploded_tables, joined_tables
from tfrec_fusion.guessing.entity_columns import describe_items, describe_users
from tfrec_fusion.guessing.header_names import name_headers
from tfrec_fusion.guessing.id_columns import Hints, Link, Roles, find_roles, is_called
from tfrec_fusion.guessing.id_writing import Match, within
from tfrec_fusion.guessing.ledger import Ledger
from tfrec_fusion.guessing.other_forms import other_form
from tfrec_fusion.guessing.table_profiles import TableProfile, read_folder
from tfrec_fusion.guessing.unused_columns import explain


@dataclasses.dataclass
class Guess:
    """The tables of a folder as the pipeline reads them, and the reasons.

    Attributes:
        tables: paths relative to the folder.
        ledger: what was chosen, what was left out, and what to look at.
        profile: of the interactions table.
    """

    tables: Tables
    ledger: Ledger
    profile: TableProfile


def guess(folder: pathlib.Path, hints: Hints | None = None) -> Guess:
    """Guesses the three tables of a folder.

    Raises:
        ConfigError: where no table of choices can be told; says what was seen and how to name it.
    """
    hints = hints or Hints()
    ledger = Ledger()
    tables = read_folder(folder, ledger)
    best = _best_roles(tables, hints, ledger)
    if best is None:
        raise ConfigError(_not_found(tables, hints, ledger))
    interactions = describe_choices(best, hints, ledger)
    label = _labels(best.table, interactions)
    item_rule, user_rule = _rule(best, "item", ledger), _rule(best, "user", ledger)
    items = _describe_items(best, label, item_rule, ledger)
    users = _describe_users(best, label, user_rule, ledger)
    explain(best.table, ledger)
    _explain_rest(tables, best, items, users, hints, ledger)
    found = Tables(interactions, items, users, user_ids=user_rule, item_ids=item_rule)
    return Guess(name_headers(found, tables, ledger), ledger, best.table)


def _best_roles(tables: list[TableProfile], hints: Hints, ledger: Ledger) -> Roles | None:
    """The likeliest table of choices: one as it is, or, where there is none as clear, two joined or lists
    taken apart."""

    def best(candidates: list[TableProfile], sessions: bool = False) -> list[Roles]:
        found = [
            roles for table in candidates if (roles := find_roles(table, tables, hints, sessions)) is not None
        ]
        if hints.interactions:
            found = [roles for roles in found if is_called(roles.table, hints.interactions)]
        return found

    joined, exploded = joined_tables(tables), exploded_tables(tables)
    found = best(tables) + best(joined) + best(exploded)
    if found and not hints.user and max(found, key=lambda roles: roles.score).user.filled < 0.5:
        # Most rows are of guests: their sessions are known.
        guests = [roles for roles in best(tables, sessions=True) if roles.user.filled > 0.9]
        if guests:
            roles, known = (max(some, key=lambda roles: roles.score) for some in (guests, found))
            ledger.note(
                f"{known.table.path}: {1 - known.user.filled:.0%} of the rows have no {known.user.name}; each"
                f" {roles.user.name} counts as a user. To use the others alone: --user {known.user.name}."
            )
            return dataclasses.replace(roles, user_link=None)  # what else lists a session came of it
    if not found and not hints.user:
        found = best(tables, sessions=True) + best(exploded, sessions=True)
        if found:
            roles = max(found, key=lambda roles: roles.score)
            ledger.note(
                f"{roles.table.path}: no column says who chose; each {roles.user.name} counts as a user, whom"
                " a served model does not know: ask it with what was chosen so far."
            )
    return max(found, key=lambda roles: roles.score, default=None)


def _not_found(tables: list[TableProfile], hints: Hints, ledger: Ledger) -> str:
    seen = "; ".join(f"{table.path}: {', '.join(list(table.columns)[:12])}" for table in tables[:6])
    unread = "".join(f"\n  {entry}" for entry in ledger.left[:12] if entry.column is None)
    forms = "".join(f"\n  {table.path}: {form}" for table in tables if (form := other_form(table)))
    asked = ", ".join(f"--{name} {value}" for name, value in dataclasses.asdict(hints).items() if value)
    return (
        "No table says who chose what: one with a column of users and a column of items is needed, or two"
        f" that share a key{f' (asked for: {asked})' if asked else ''}. Seen: {seen}. Name the columns with"
        f" --user and --item (and --interactions for the file).{forms}{unread}"
    )


def describe_choices(roles: Roles, hints: Hints, ledger: Ledger) -> Interactions:
    """The ids, then the other columns of the interactions."""
    for role, column, link in (("user", roles.user, roles.user_link), ("item", roles.item, roles.item_link)):
        average = len(column.values) / column.distinct
        why = _why_id(column, link, f"{average:.1f} rows each")
        if roles.table.explode and role == "item":
            why += f"; several a cell, divided by {divider_words(roles.table.explode[1])}"
        ledger.chose("interactions", role, column.name, why, column.path)
    join = roles.table.join
    if join:
        ledger.chose("interactions", "join.on", join.left, f"the key into {join.path}", roles.table.path)
        ledger.chose("interactions", "join.on", join.right, "the same key, each once", join.path)
    return describe_interactions(roles, hints, ledger)


def _why_id(column: Column, link: Link | None, spread: str) -> str:
    reasons = [f"{column.distinct:,} different values, {spread}"]
    if link:
        reasons.append(f"{link.overlap:.0%} of them stand in {link.table.path} as {link.key.name}")
    return "; ".join(reasons)


def _labels(table: TableProfile, interactions: Interactions) -> pd.Series | None:
    if not interactions.label:
        return None
    column = table.columns[interactions.label]
    if interactions.label_values:
        return column.strings.map(interactions.label_values).astype(float)
    labels = column.as_numbers(column.strings)
    return labels.where(~labels.isin([float(value) for value in interactions.label_nulls]))


def _rule(roles: Roles, role: str, ledger: Ledger) -> IdRule:
    """How ids are compared: as written unless they only match, or are only one, by another rule."""
    column, link = (roles.item, roles.item_link) if role == "item" else (roles.user, roles.user_link)
    rule: Match | None = link.match if link else None
    key = f"data.{role}_ids"
    if rule and rule.rule != "as_written":
        assert link is not None
        ledger.note(
            f"{link.table.path}: its {link.key.name} and {roles.table.path}'s {column.name}: {rule.words};"
            f" written as {key}: {rule.rule}."
        )
        return rule.rule
    inside = within(column.unique)
    if inside is None:
        return "as_written"
    forms = column.distinct * inside.as_written
    ledger.note(
        f"{column.path}: {column.name}: {column.distinct:,} different ids, {forms:,.0f} without"
        f" {inside.without}; written as {key}: {inside.rule}. Take it out if they are different {role}s."
    )
    return inside.rule


def _describe_items(roles: Roles, label: pd.Series | None, rule: IdRule, ledger: Ledger) -> Items:
    table, key, distinct = roles.table, roles.item, True
    why = f"no table lists the items; {table.path} says with each row what its item is"
    if roles.item_link:
        table, key, distinct = roles.item_link.table, roles.item_link.key, False
        why = f"one row each in {table.path}"
    elif roles.table.join or roles.table.explode:
        table, key = _own_table(roles.table), roles.item
    ledger.chose("items", "id", key.name, why, key.path)
    popular = popularity.measure(roles.table, roles.item, label, key, rule, "item")
    return describe_items(table, key, distinct, roles, ledger, popular)


def _describe_users(roles: Roles, label: pd.Series | None, rule: IdRule, ledger: Ledger) -> Users | None:
    table, key, distinct = roles.table, roles.user, True
    if roles.user_link:
        table, key, distinct = roles.user_link.table, roles.user_link.key, False
    elif roles.table.join or roles.table.explode:
        return None
    popular = popularity.measure(roles.table, roles.user, label, key, rule, "user")
    return describe_users(table, key, distinct, roles, ledger, popular)


def _own_table(table: TableProfile) -> TableProfile:
    """A joined table's own columns: the table of items knows nothing of the join."""
    columns = {name: column for name, column in table.columns.items() if column.path == table.path}
    return dataclasses.replace(table, columns=columns, join=None)


def _explain_rest(
    tables: list[TableProfile], roles: Roles, items: Items, users: Users | None, hints: Hints, ledger: Ledger
) -> None:
    """Names each table that is not used with the true reason, and each column that nothing was said of."""
    used = {
        items.path,
        roles.table.path,
        users.path if users else "",
        roles.table.join.path if roles.table.join else "",
    }
    for table in tables:
        if table.path not in used and not (roles.user_link and table is roles.user_link.table):
            ledger.leave(table.path, None, _why_unused(table, tables, roles, items, hints))
        for column in table.columns.values():
            if column.name not in ledger.named(table.path):
                ledger.leave(table.path, column.name, _shape(column))


def _why_unused(
    table: TableProfile, tables: list[TableProfile], roles: Roles, items: Items, hints: Hints
) -> str:
    if form := other_form(table):
        return f"not used: {form}"
    own = [name for name, column in roles.table.columns.items() if column.path == roles.table.path]
    if list(table.columns) == own and not table.headerless:
        return (
            f"not used: it has the columns of {roles.table.path}: a copy, or more of the same. To read both"
            " as one table, put them alone into a folder, and set path to it"
        )
    for column, listing, what in (
        (roles.item, roles.item_link, "items"),
        (roles.user, roles.user_link, "users"),
    ):
        for key in table.columns.values():
            shared = column.unique.isin(set(key.unique)).mean() if not key.is_list else 0.0
            if (
                shared > 0.3
                and key.distinct >= 0.95 * table.rows
                and listing
                and (set(key.words_of_name) & set(column.words_of_name))
            ):
                return (
                    f"not used: says more of the {what} ({key.name}), which a run reads from one table,"
                    f" {listing.table.path}. To use it, join the two into one file"
                )
    users, known = set(roles.user.unique), set(roles.item.unique)
    user_columns = [
        column
        for column in table.columns.values()
        if column.distinct > 2 and column.unique.isin(users).mean() > 0.5
    ]
    of_items = any(column.unique.isin(known).mean() > 0.5 for column in user_columns)
    if len(user_columns) == 2 and len(table.columns) <= 5 and not of_items:
        return (
            f"not used: pairs of users ({user_columns[0].name}, {user_columns[1].name}), no choices of items"
        )
    others = find_roles(table, tables, Hints(items=hints.items, users=hints.users))
    properties = _properties(table, roles, others)
    if others and not properties:
        return (
            f"not used: another table of who chose what ({others.user.name}, {others.item.name};"
            f" {table.rows:,} rows). To take it instead of {roles.table.path}: --interactions"
            f" {table.path}"
        )
    if properties:
        return properties
    for key in table.columns.values():
        for other in (
            *roles.table.columns.values(),
            *(roles.item_link.table.columns.values() if roles.item_link else ()),
        ):
            if key.words_of_name == other.words_of_name and other.unique.isin(set(key.unique)).mean() > 0.5:
                return (
                    f"not used: it says more of {other.path}'s {other.name}. To use it, join the two into one"
                    " file"
                )
    return (
        f"not used: no column of it holds the ids of users ({roles.user.name}) or of items"
        f" ({roles.item.name})"
    )


def _properties(table: TableProfile, roles: Roles, others: Roles | None) -> str:
    """Why a table that holds several rows of each item (or user) and no ids of the others is not used: tags'
    weights, comments by day, a row for each property; "" where it is none."""
    for key, other, what in ((roles.item, roles.user, "item"), (roles.user, roles.item, "user")):
        same = [
            column
            for column in table.columns.values()
            if column.words_of_name == key.words_of_name and column.unique.isin(set(key.unique)).mean() > 0.3
        ]
        if not same or table.headerless:
            continue
        known = set(other.unique)
        chosen = others and (others.user if what == "item" else others.item)
        if chosen and (
            min(chosen.unique.isin(known).mean(), other.unique.isin(set(chosen.unique)).mean()) > 0.3
            or chosen.words_of_name == other.words_of_name
            or names.says(chosen.words_of_name, names.USER if what == "item" else names.ITEM) > 0
        ):
            continue
        rest = ", ".join(name for name in table.columns if name != same[0].name)
        rows = table.rows / max(1, same[0].distinct)
        return (
            f"not used: {rows:.1f} rows for each {what} ({same[0].name}), with {rest}; a run reads one row"
            f" each. To use it, make one row for each {what} of it, a column for each thing it says (pandas:"
            " pivot_table or groupby), and join that to the table that lists them"
        )
    return ""


def _shape(column: Column) -> str:
    """What a column that has no role holds."""
    if column.is_unreadable:
        return f"cells of the type {column.array.type}"
    if not column.distinct:
        return "empty"
    if column.is_list:
        return "lists"
    if column.is_flag:
        return "yes and no"
    if column.time and column.time.sure:
        return "times"
    if names.names_an_id(column.words_of_name) or column.distinct == column.rows:
        return (
            f"{column.distinct:,} different ids"
            if names.names_an_id(column.words_of_name)
            else f"{column.distinct:,} different values"
        )
    return f"numbers {column.spread}" if column.is_number else f"{column.distinct:,} different values"
