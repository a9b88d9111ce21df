"""What the columns of items and of people are for: titles, text, categories, numbers, or nothing."""

from __future__ import annotations

import dataclasses

import pandas as pd

from pipeline.onboarding import column_names as names
from pipeline.onboarding.column_profiles import Column, TableProfile
from pipeline.onboarding.id_columns import Roles
from tfrec_fusion.datasets.tables import Items, Users

MOST_CATEGORIES = 1000


@dataclasses.dataclass(frozen=True)
class Choice:
    """One thing that was guessed: of which table, which role, which column, and why."""

    table: str
    role: str
    column: str
    why: str


@dataclasses.dataclass
class _Notes:
    """Where reasons go while one table is described."""

    table: TableProfile
    name: str
    choices: list[Choice]
    unused: list[str]

    def chose(self, role: str, column: str, why: str) -> None:
        self.choices.append(Choice(self.name, role, column, why))

    def left(self, column: str, why: str) -> None:
        self.unused.append(f"{self.table.path}: {column}: {why}")


def describe_items(
    table: TableProfile, key: Column, distinct: bool, roles: Roles, choices: list[Choice], unused: list[str]
) -> Items:
    """Roles of the items' columns.

    Args:
        table: lists the items, or, where `distinct`, the interactions themselves.
        key: their ids.
        distinct: whether each item has many rows.
        roles: of the interactions.
        choices, unused: receive the reasons.
    """
    notes = _Notes(table, "items", choices, unused)
    columns = _describing(table, key, distinct, roles, notes)
    texts = [column for column in columns if _is_text(column)]
    title = _title(texts or [column for column in columns if _is_words(column)], table)
    if title:
        notes.chose(
            "title", title.name, f"{title.median_words:.0f} words in the middle, {title.distinct:,} different"
        )
    separator = _separator(columns)
    found: dict[str, list[str]] = {
        "text": [title.name] if title else [],
        "categories": [],
        "lists": [],
        "numbers": [],
        "vectors": [],
    }
    for column in sorted(columns, key=lambda column: column.long_words if _is_text(column) else 0):
        if column is title:
            continue
        role, why = _role(column, separator, table.rows)
        if role == "":
            notes.left(column.name, why)
            continue
        found[role].append(column.name)
        notes.chose(role, column.name, why)
        if role in ("categories", "lists") and column.distinct > 1 and _is_words(column):
            found["text"].append(column.name)
    # What an item is comes first; a long description, which may be cut off, comes last.
    lengths = {column.name: column.long_words for column in columns}
    title_name = title.name if title else ""
    found["text"].sort(key=lambda name: (name != title_name, lengths[name]))
    if not found["text"]:
        unused.append(
            f"{table.path}: no column says in words what an item is; the models learn from choices alone"
        )
    return Items(
        path=table.path,
        id=key.name,
        title=title.name if title else None,
        text=tuple(found["text"]),
        categories=tuple(found["categories"]),
        lists=tuple(found["lists"]),
        numbers=tuple(found["numbers"]),
        vectors=tuple(found["vectors"]),
        separator=separator or "|",
        distinct=distinct,
        csv=table.csv,
    )


def describe_users(
    table: TableProfile, key: Column, distinct: bool, roles: Roles, choices: list[Choice], unused: list[str]
) -> Users | None:
    """Roles of the people's columns, or None where nothing is known of them; arguments as `describe_items`."""
    notes = _Notes(table, "users", choices, unused if not distinct else [])
    columns = _describing(table, key, distinct, roles, notes)
    categories, numbers, chosen = [], [], []
    for column in columns:
        if names.says(column.words_of_name, names.PERSONAL) > 0 and column.distinct > 50:
            notes.left(column.name, "personal, and different for nearly everybody")
        elif (column.is_number and not column.is_integer) or (column.is_integer and column.distinct > 12):
            numbers.append(column.name)
            chosen.append(("numbers", column.name, "numbers"))
        elif (
            2 <= column.distinct <= min(MOST_CATEGORIES, max(5, 0.5 * key.distinct))
            and column.median_words <= 4
        ):
            categories.append(column.name)
            chosen.append(("categories", column.name, f"{column.distinct} different values"))
        else:
            notes.left(column.name, "not a small set of values, and no number")
    if not categories and not numbers:
        return None
    why = (
        f"{table.path} says with each row who its person is" if distinct else f"one row each in {table.path}"
    )
    notes.chose("id", key.name, why)
    for choice in chosen:
        notes.chose(*choice)
    return Users(
        path=table.path,
        id=key.name,
        categories=tuple(categories),
        numbers=tuple(numbers),
        distinct=distinct,
        csv=table.csv,
    )


def _describing(
    table: TableProfile, key: Column, distinct: bool, roles: Roles, notes: _Notes
) -> list[Column]:
    """Columns that may describe what has the key: not the ids themselves, and nothing that changes from row to row."""
    taken = {roles.user.name, roles.item.name} if distinct else {key.name}
    found = []
    for column in table.columns.values():
        if column.name in taken:
            continue
        if column.filled < 0.01 or column.distinct < 2:
            notes.left(column.name, "empty, or the same everywhere")
        elif (distinct and not _follows(table.frame, key.name, column)) or (
            distinct
            and (
                column.time
                or names.says(column.words_of_name, names.QUANTITY + names.MONEY + names.LABEL) == 1
            )
        ):
            continue
        else:
            found.append(column)
    return found


def _follows(frame: pd.DataFrame, key: str, column: Column) -> bool:
    """Whether the key nearly always decides the value (a product its name, a person their country)."""
    if column.is_list:
        return False
    pairs = frame[[key, column.name]].dropna()
    sizes = pairs.groupby([key, column.name], sort=False).size()
    rows = sizes.groupby(level=0).sum()
    several = rows[rows > 1].index
    if len(several) < 5:
        return False
    most = sizes.groupby(level=0).max()
    constant = len(pairs) and pairs[column.name].value_counts(normalize=True).iloc[0]
    return bool(most[several].sum() / rows[several].sum() > max(0.85, constant + 0.02))


def _is_words(column: Column) -> bool:
    """Whether values are words rather than codes and numbers."""
    if column.is_list:
        return isinstance(next(iter(column.values.iloc[0]), None), str)
    if column.is_number or column.time or names.says(column.words_of_name, names.LINK) == 1:
        return False
    sample = column.unique[:2000]
    return bool(sample.str.contains(r"[^\W\d_]{2,}").mean() > 0.7 and not _is_address(sample))


def _is_address(sample: pd.Series) -> bool:
    return bool(
        sample.str.contains(r"^\w+://|^www\.|^/|\.(?:jpe?g|png|gif|html?|mp3|mp4)$", case=False).mean() > 0.5
    )


def _is_text(column: Column) -> bool:
    """Whether values are phrases or sentences, each item with its own."""
    if column.is_list or not _is_words(column) or column.separator:
        return False
    if names.says(column.words_of_name, names.TITLE + names.TEXT) and column.distinct > 0.2 * len(
        column.values
    ):
        return True
    return column.median_words >= 2 and column.distinct > max(20, 0.3 * len(column.values))


def _title(candidates: list[Column], table: TableProfile) -> Column | None:
    def rank(column: Column) -> tuple:
        said = names.says(column.words_of_name, names.TITLE)
        # `product_name` in `products` is as clear as `name`.
        rest = [
            word
            for word in column.words_of_name
            if word not in table.words_of_name and word not in names.ITEM
        ]
        said = max(said, names.says(tuple(rest), names.TITLE))
        return (
            said,
            column.filled > 0.5,
            -column.median_words if column.median_words > 15 else 0,
            column.distinct,
        )

    return max(candidates, key=rank, default=None)


def _separator(columns: list[Column]) -> str | None:
    found = [column.separator for column in columns if column.separator]
    return max(set(found), key=found.count) if found else None


def _role(column: Column, separator: str | None, rows: int) -> tuple[str, str]:
    """`text`, `categories`, `lists`, `numbers`, `vectors` or "" (left out), and why."""
    words = column.words_of_name
    if column.is_list:
        if column.vector_length:
            return "vectors", f"lists of {column.vector_length} numbers"
        return (
            ("lists", "lists of words") if _is_words(column) else ("", "lists of differing lengths or kinds")
        )
    if names.says(words, names.OUTCOME) > 0 and column.is_number:
        return "", "an outcome of choices: it would tell the models what happens later"
    if column.separator:
        if column.separator == separator:
            return "lists", f"several values divided by {separator!r}"
        return (
            "text",
            f"values divided by {column.separator!r}, while lists here are divided by {separator!r}",
        )
    if column.time and (column.time.sure or not column.is_number):
        return "", "a date; turn it into a number, such as a year, to use it"
    if column.is_number:
        if names.names_an_id(words):
            return "", "an id of something else"
        if column.is_integer and column.distinct > 0.95 * rows and column.distinct > 50:
            return "", "whole numbers, different in almost every row: an id of something else, or a count"
        return "numbers", f"numbers from {column.numbers.min():g} to {column.numbers.max():g}"
    if not _is_words(column) and column.distinct > 0.5 * len(column.values):
        return "", "codes or addresses, different for nearly every item"
    if _is_text(column):
        return "text", f"{column.median_words:.0f} words in the middle"
    if column.distinct <= min(MOST_CATEGORIES * 50, max(20, 0.5 * len(column.values))):
        return "categories", f"{column.distinct:,} different values"
    return ("text", "words") if _is_words(column) else ("", "codes, different for nearly every item")
