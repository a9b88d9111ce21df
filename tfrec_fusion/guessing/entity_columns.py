"""Roles of the columns of items and of users: titles, text, categories, numbers, or nothing."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pyarrow as pa

from tfrec_fusion.datasets import markup
from tfrec_fusion.datasets.tables import Items, Users
from tfrec_fusion.guessing import column_names as names
from tfrec_fusion.guessing import value_shapes
from tfrec_fusion.guessing.column_profiles import Column
from tfrec_fusion.guessing.id_columns import Roles
from tfrec_fusion.guessing.ledger import Ledger
from tfrec_fusion.guessing.media_columns import media_role
from tfrec_fusion.guessing.popularity import Popularity
from tfrec_fusion.guessing.table_profiles import TableProfile, follows

MOST_CATEGORIES = 1000


@dataclasses.dataclass
class _Entities:
    """One table while it is described.

    Attributes:
        table: lists items (or users), or, where `distinct`, the interactions themselves.
        key: their ids.
        distinct: whether each has many rows.
        name: `items` or `users`.
        popularity: how often each was chosen (or chose).
    """

    table: TableProfile
    key: Column
    distinct: bool
    name: str
    roles: Roles
    ledger: Ledger
    popularity: Popularity

    def chose(self, role: str, column: Column, why: str) -> None:
        self.ledger.chose(self.name, role, column.name, why, column.path)

    def leave(self, column: Column, why: str) -> None:
        # A column of the interactions may have a role there, and is explained there where it has none.
        if not self.distinct:
            self.ledger.leave(column.path, column.name, why)

    def candidates(self) -> list[Column]:
        """Columns that may describe what has the key: not the ids themselves, and nothing that changes from
        row to row."""
        taken = {self.roles.user.name, self.roles.item.name} if self.distinct else {self.key.name}
        return [
            column
            for column in self.table.columns.values()
            if column.name not in taken and self._may_describe(column)
        ]

    def _may_describe(self, column: Column) -> bool:
        if not column.name:
            self.leave(column, "has no name; give it one to use it")
        elif column.is_unreadable:
            self.leave(
                column, f"cells of the type {column.array.type}; write their parts as columns of their own"
            )
        elif column.filled < 0.01 or column.distinct < 2:
            seen = "empty" if column.filled < 0.01 else f"the same everywhere: {column.values.iloc[0]!r}"
            self.leave(column, seen)
        elif not self.distinct or (
            follows(self.table.frame, self.key.name, column) and not _of_the_choice(column)
        ):
            return True
        return False


def describe_items(
    table: TableProfile, key: Column, distinct: bool, roles: Roles, ledger: Ledger, popularity: Popularity
) -> Items:
    """Roles of the items' columns.

    Args:
        table: lists the items, or, where `distinct`, the interactions themselves.
        key: their ids.
        distinct: whether each item has many rows.
        roles: of the interactions.
        ledger: receives the reasons.
        popularity: of the items.
    """
    entities = _Entities(table, key, distinct, "items", roles, ledger, popularity)
    columns = entities.candidates()
    words = [column for column in columns if _may_be_title(column, entities)]
    title = _title([column for column in words if _is_text(column)] or words, table)
    if title:
        entities.chose(
            "title", title, f"{title.median_words:.0f} words in the middle, {title.distinct:,} different"
        )
    separator = _separator(columns)
    columns_of: dict[str, list[str]] = {
        "text": [title.name] if title else [],
        "categories": [],
        "lists": [],
        "numbers": [],
        "vectors": [],
        "images": [],
        "audio": [],
    }
    for column in sorted(columns, key=lambda column: column.long_words if _is_text(column) else 0):
        if column is title:
            continue
        role, why = _role(column, separator, entities)
        if role == "":
            entities.leave(column, why)
            continue
        columns_of[role].append(column.name)
        entities.chose(role, column, why)
        if role in ("categories", "lists") and column.distinct > 1 and column.is_words:
            columns_of["text"].append(column.name)
    # What an item is comes first; a long description, which may be cut off, comes last.
    lengths = {column.name: column.long_words for column in columns}
    title_name = title.name if title else ""
    columns_of["text"].sort(key=lambda name: (name != title_name, lengths[name]))
    _drop_few_texts(columns_of["text"], entities)
    if not columns_of["text"]:
        ledger.note(
            f"{table.path}: no column says in words what an item is; the models learn from choices alone."
        )
        if key.is_words and key.median_words >= 2:
            ledger.note(
                f"{table.path}: the ids themselves are words ({key.unique.iloc[0]!r}): to have them read, set"
                f" title: {key.name} and text: [{key.name}] under items, and leave out text: none."
            )
    _note_markup([table.columns[name] for name in columns_of["text"]], ledger)
    return Items(
        path=table.path,
        id=key.name,
        title=title.name if title else None,
        text=tuple(columns_of["text"]),
        categories=tuple(columns_of["categories"]),
        lists=tuple(columns_of["lists"]),
        numbers=tuple(columns_of["numbers"]),
        vectors=tuple(columns_of["vectors"]),
        images=tuple(columns_of["images"]),
        audio=tuple(columns_of["audio"]),
        separator=separator or "|",
        distinct=distinct,
        csv=table.csv,
    )


def _drop_few_texts(text: list[str], entities: _Entities) -> None:
    """Takes out texts that hardly tell items apart, which stay categories: `validate` refuses them."""
    frame = entities.table.frame
    if not text or not {*text} <= {*frame}:
        return
    texts = frame[[entities.key.name, *text]].drop_duplicates(entities.key.name)[text].dropna(how="all")
    if not value_shapes.tell_apart(len(texts.drop_duplicates()), len(texts)):
        text.clear()


def describe_users(
    table: TableProfile, key: Column, distinct: bool, roles: Roles, ledger: Ledger, popularity: Popularity
) -> Users | None:
    """Roles of the users' columns, or None where nothing is known of them; arguments as `describe_items`."""
    entities = _Entities(table, key, distinct, "users", roles, ledger, popularity)
    categories, numbers, chosen = [], [], []
    for column in entities.candidates():
        reason = _not_of_an_entity(column, entities)
        personal = names.says(column.words_of_name, names.PERSONAL) > 0
        if reason:
            entities.leave(column, reason)
        elif personal and column.distinct > 50:
            entities.leave(column, "personal, and different for nearly everybody")
        elif (
            column.is_number
            and (not column.is_integer or column.distinct > 12)
            and not _is_code(column, entities)
        ):
            numbers.append(column.name)
            chosen.append(("numbers", column, f"numbers {column.spread}"))
        elif column.is_list:
            entities.leave(column, "lists; users have categories and numbers")
        elif (
            2 <= column.distinct <= min(MOST_CATEGORIES, max(5, 0.5 * key.distinct))
            and column.median_words <= 4
        ):
            categories.append(column.name)
            chosen.append(("categories", column, f"{column.distinct} different values"))
        else:
            entities.leave(column, f"{column.distinct:,} different values: not a small set, and no number")
    if not categories and not numbers:
        if not distinct:
            ledger.leave(table.path, key.name, "ids of users; no other column of the table can be used")
        return None
    why = f"{table.path} says with each row who its user is" if distinct else f"one row each in {table.path}"
    entities.chose("id", key, why)
    for role, column, reason in chosen:
        entities.chose(role, column, reason)
    return Users(
        path=table.path,
        id=key.name,
        categories=tuple(categories),
        numbers=tuple(numbers),
        distinct=distinct,
        csv=table.csv,
    )


def _of_the_choice(column: Column) -> bool:
    """Whether a column says something of each choice, though it may follow the item."""
    score = names.says(column.words_of_name, names.QUANTITY + names.MONEY + names.LABEL) == 1
    return bool(column.time) or score or value_shapes.word_grades(column.unique) is not None


def _is_text(column: Column) -> bool:
    """Whether values are phrases or sentences, each item with its own."""
    if column.is_list or not column.is_words or column.separator:
        return False
    score = names.says(column.words_of_name, names.TITLE + names.TEXT)
    if score and column.distinct > 0.2 * len(column.values):
        return True
    return column.median_words >= 2 and column.distinct > max(20, 0.3 * len(column.values))


def _may_be_title(column: Column, entities: _Entities) -> bool:
    """Words that tell items apart: no flag, no number in words, no handful of values."""
    if not column.is_words or column.is_list or value_shapes.numbers_in_words(column.unique) is not None:
        return False
    filled = entities.key.distinct * column.filled
    return column.distinct > max(2, 0.1 * filled) and value_shapes.tell_apart(column.distinct, int(filled))


def _title(candidates: list[Column], table: TableProfile) -> Column | None:
    def rank(column: Column) -> tuple:
        # `product_name` in `products` is as clear as `name`.
        rest = [
            word
            for word in column.words_of_name
            if word not in table.words_of_name and word not in names.ITEM
        ]
        score = max(names.says(column.words_of_name, names.TITLE), names.says(tuple(rest), names.TITLE))
        long = -column.median_words if column.median_words > 15 else 0
        first = -list(table.columns).index(column.name) if table.headerless else 0
        return (score, column.filled > 0.5, long, first, column.distinct)

    return max(candidates, key=rank, default=None)


def _separator(columns: list[Column]) -> str | None:
    separators = [column.separator for column in columns if column.separator]
    return max(set(separators), key=separators.count) if separators else None


def _not_of_an_entity(column: Column, entities: _Entities) -> str:
    """Why a column describes nothing that is known beforehand: an id, a running number, an outcome; "" where
    it may."""
    in_words = (
        value_shapes.numbers_in_words(column.unique) if not column.is_number and not column.is_list else None
    )
    if (column.is_number and not column.is_flag) or in_words is not None:
        if outcome := entities.popularity.outcome(column, in_words):
            return outcome
        if names.says(column.words_of_name, names.OUTCOME) == 1:
            return "an outcome of choices: it would tell the models what happens later"
    if in_words is not None and in_words.nunique() > 12:
        return f"a number in words, {column.values.iloc[0]!r}; write it as a number to use it"
    if column.is_flag or column.is_list:
        return ""
    if column.is_integer and value_shapes.is_running_number(column.numbers, len(column.values)):
        return "counts the rows"
    if names.names_an_id(column.words_of_name) and (column.is_integer or not column.is_words):
        known = names.USER if entities.name == "users" else names.ITEM
        if names.says(column.words_of_name, known) and column.distinct < entities.key.distinct:
            _note_once(column, entities)
            return (
                f"another id of {entities.name}, {column.distinct:,} for {entities.key.distinct:,} of"
                f" {entities.key.name}"
            )
        return "an id of something else"
    if not column.is_integer:
        return ""
    unique = column.distinct > 0.95 * entities.table.rows and column.distinct > 20
    if unique and not entities.distinct and value_shapes.are_id_like(column.numbers):
        return "whole numbers, different in almost every row: an id of something else, or a count"
    if other := _names_the_same(column, entities.table):
        return f"an id of {other}, which says the same in words"
    return ""


def _note_once(column: Column, entities: _Entities) -> None:
    """Says so where each id of the interactions is of one order alone, while others here come again."""
    join, roles = entities.roles.table.join, entities.roles
    if entities.name != "users" or not join or column.filled < 0.9:
        return
    if names.says(column.words_of_name, names.PERSONAL):  # a postcode
        return
    pairs = pd.DataFrame(
        {"user": roles.user.strings, "order": roles.table.columns[join.left].strings}
    ).dropna()
    if pairs.groupby("user")["order"].nunique().mean() > 1.1:
        return
    entities.ledger.note(
        f"{join.path}: each {roles.user.name} has one order, so that hardly anybody has a history; who they"
        f" are may be {column.name} of {column.path} ({column.distinct:,} for {entities.key.distinct:,}). To"
        f" use it, write it into {join.path} as a column, and name it with --user {column.name}."
    )


def _names_the_same(column: Column, table: TableProfile) -> str:
    """The column of words that stands in one-to-one relation to a column of whole numbers: a brand and its
    number."""
    if not 3 <= column.distinct < 0.9 * table.rows:
        return ""
    for other in table.columns.values():
        if (
            other is not column
            and not other.is_list
            and abs(other.distinct - column.distinct) < 1 + 0.02 * column.distinct
            and other.is_words
        ):
            pairs = table.frame[[column.name, other.name]].dropna().drop_duplicates()
            if len(pairs) <= 1.02 * column.distinct:
                return other.name
    return ""


def _role(column: Column, separator: str | None, entities: _Entities) -> tuple[str, str]:
    """`text`, `categories`, `lists`, `numbers`, `vectors`, `images`, `audio` or "" (left out), and why."""
    if column.is_address:
        return media_role(column, entities.table.files)
    if reason := _not_of_an_entity(column, entities):
        return "", reason
    if column.is_flag:
        return "categories", "yes and no"
    if column.is_list:
        if column.vector_length:
            return "vectors", f"lists of {column.vector_length} numbers"
        if column.is_words:
            shown = ", ".join(map(repr, column.elements.drop_duplicates()[:3]))
            return "lists", f"lists of words: {shown}, …"
        return "", "lists of numbers or codes of differing lengths"
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
        if _is_code(column, entities):
            return "categories", f"{column.distinct:,} codes {column.spread}, as kinds are numbered"
        return "numbers", f"numbers {column.spread}"
    if not column.is_words and column.distinct > 0.5 * len(column.values):
        return "", "codes, different for nearly every item"
    if _is_text(column):
        return "text", f"{column.median_words:.0f} words in the middle"
    if column.distinct <= min(MOST_CATEGORIES * 50, max(20, 0.5 * len(column.values))):
        return "categories", f"{column.distinct:,} different values"
    return ("text", "words") if column.is_words else ("", "codes, different for nearly every item")


def _is_code(column: Column, entities: _Entities) -> bool:
    """Whether whole numbers that several items (or users) share are codes."""
    return (
        column.is_integer
        and column.distinct <= min(MOST_CATEGORIES, 0.5 * entities.key.distinct)
        and value_shapes.are_codes(column.numbers, column.unique)
    )


def _note_markup(columns: list[Column], ledger: Ledger) -> None:
    for column in columns:
        sample = pa.array(column.unique[:5000].astype(object), pa.string())
        share = markup.markup_share(sample)
        if share > 0:
            example = next(
                text for text in sample.to_pylist() if markup.clean_html(text) != " ".join(text.split())
            )
            ledger.note(
                f"{column.path}: {column.name}: {share:.0%} of the texts hold HTML ({example[:50]!r}); tags"
                " are taken out and entities read, unless clean_html: false says otherwise."
            )
