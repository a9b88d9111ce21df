"""Id columns of users and of items, by their names, their values, and the tables that list them."""

from __future__ import annotations

import dataclasses
import math

from tfrec_fusion.guessing import column_names as names
from tfrec_fusion.guessing.column_profiles import Column
from tfrec_fusion.guessing.id_writing import RULES, Match, match
from tfrec_fusion.guessing.table_profiles import TableProfile, follows

CLEAR = 0.55  # below this, a column is no id of users or items
KEYS = 0.2  # for two columns that are listed in two other tables
SURE = 0.9  # so clear that what remains is the other role's
ONLY_OTHER = 0.7
_PARTLY = 1.0  # a column of which a table lists a part, beside one that it lists wholly
NEEDS_MORE = 0.6  # a table that must be joined or taken apart comes after one that need not


@dataclasses.dataclass(frozen=True)
class Hints:
    """What the caller knows better: a file's name, or columns of the interactions table."""

    interactions: str | None = None
    items: str | None = None
    users: str | None = None
    user: str | None = None
    item: str | None = None
    time: str | None = None
    label: str | None = None
    time_format: str | None = None


@dataclasses.dataclass(frozen=True)
class Link:
    """A column's values are found in another table's column of ids."""

    table: TableProfile
    key: Column
    match: Match
    strength: float

    @property
    def overlap(self) -> float:
        """The share of the column's values that the key holds."""
        return self.match.overlap


@dataclasses.dataclass(frozen=True)
class Roles:
    """An interactions table with its columns, and how likely all of that is."""

    table: TableProfile
    user: Column
    item: Column
    user_link: Link | None
    item_link: Link | None
    user_score: float
    item_score: float
    score: float


def is_called(table: TableProfile, name: str) -> bool:
    return name in (table.path, *(file.name for file in table.files), *(file.stem for file in table.files))


def find_roles(
    table: TableProfile, tables: list[TableProfile], hints: Hints, sessions: bool = False
) -> Roles | None:
    """The best columns of users and items in a table, or None where it has none; with `sessions`, sessions
    and orders count as users."""
    users = [*names.USER, *names.ORDER] if sessions else names.USER
    links = {column.name: _links(column, table, tables, hints) for column in table.columns.values()}
    ids = [column for column in table.columns.values() if _may_be_id(column, hints)]
    finer = _finer(table, ids) if table.headerless else {}
    best: Roles | None = None
    for user in ids:
        for item in ids:
            if (
                user is item
                or (hints.user or user.name) != user.name
                or (hints.item or item.name) != item.name
            ):
                continue
            user_links = _of_its_own(links[user.name], user, item, links[item.name])
            item_links = _of_its_own(links[item.name], item, user, links[user.name])
            user_links, item_links = _apart(user_links, item_links, table.headerless)
            user_score, user_link = _score(user, table, user_links, users, names.ITEM, False)
            item_score, item_link = _score(item, table, item_links, names.ITEM, names.USER, True)
            user_score -= _PARTLY * _is_better_listed(user_link, table, links)
            item_score -= _PARTLY * _is_better_listed(item_link, table, links)
            if user.name == hints.user:
                user_score += 3
            if item.name == hints.item:
                item_score += 3
            if user_link and item_link and min(user_link.strength, item_link.strength) > 0.8:
                # Two keys into two tables: where one of them is clear, the other is what remains.
                user_score, item_score = user_score + KEYS, item_score + KEYS
            if item_score > SURE > user_score and _is_only_other(table, item, user):
                user_score += ONLY_OTHER
            elif user_score > SURE > item_score and _is_only_other(table, user, item):
                item_score += ONLY_OTHER
            if table.explode and user.distinct >= 0.9 * table.lists:
                user_score -= 0.8  # an id of each row rather than of users
            if table.headerless:
                bonus = _by_position(table, user, item, item_link) - bool(finer[item.name] - {user.name})
                user_score, item_score = user_score + bonus, item_score + bonus
            if min(user_score, item_score) < CLEAR or not _belongs_together(table, user, item):
                continue
            if table.headerless and _lists_entities(user, item, table):
                continue
            score = user_score + item_score + 0.1 * math.log10(table.rows + 1)
            score += any(column.time for column in table.columns.values())
            score -= 2 * _lists_entities(user, item, table)
            score -= NEEDS_MORE * (table.join is not None) + NEEDS_MORE * (table.explode is not None)
            roles = Roles(table, user, item, user_link, item_link, user_score, item_score, score)
            if best is None or roles.score > best.score:
                if _is_symmetric(table, user, item):
                    continue
                best = roles
    return best


def _of_its_own(links: list[Link], column: Column, other: Column, rival: list[Link]) -> list[Link]:
    """Links of a column but those to keys that are called as the other column, and hold its ids as well:
    users 1 to 30 stand among the films 1 to 50."""
    best = {id(link.key): link.overlap for link in rival}
    return [
        link
        for link in links
        if link.key.unnamed
        or link.key.words_of_name == column.words_of_name
        or link.key.words_of_name != other.words_of_name
        or best.get(id(link.key), 0.0) < link.overlap - 0.1
    ]


def _is_better_listed(link: Link | None, table: TableProfile, links: dict[str, list[Link]]) -> bool:
    """Whether a column that a table lists in part stands beside one that the same table lists wholly and by
    the same name."""
    if link is None or link.overlap > 0.9:
        return False
    return any(
        other.key is link.key
        and other.overlap > link.overlap + 0.1
        and key.words_of_name == other.key.words_of_name
        for name, found in links.items()
        for key, other in ((table.columns[name], entry) for entry in found)
    )


def _apart(users: list[Link], items: list[Link], unnamed: bool) -> tuple[list[Link], list[Link]]:
    """Links to two tables: whole numbers may be found in both, but users and items are not listed in one.
    Without names, it is items that have a table more often."""
    while users and items and users[0].table is items[0].table:
        if users[0].strength >= items[0].strength + (0.3 if unnamed else 0.0):
            items = items[1:]
        else:
            users = users[1:]
    return users, items


def _is_symmetric(table: TableProfile, user: Column, item: Column) -> bool:
    """Whether pairs stand both ways round, as friends do and choices do not."""
    pairs = set(zip(user.strings[:50_000], item.strings[:50_000], strict=True))
    both = sum((item_id, user_id) in pairs for user_id, item_id in pairs if user_id != item_id)
    by_chance = len(pairs) / max(1, user.distinct * item.distinct)
    return table.rows > 20 and both > max(0.3, 3 * by_chance) * len(pairs)


def _is_only_other(table: TableProfile, known: Column, column: Column) -> bool:
    """Whether a column is the only one beside a clear id that could be an id too, whatever language its name
    is in."""

    def may_be(other: Column) -> bool:
        if (
            other is known
            or other.is_list
            or other.is_flag
            or other.time
            or not 3 <= other.distinct < 0.9 * other.rows
        ):
            return False
        if other is not column and other.distinct < 12:
            return False  # grades, pieces, kinds
        amounts = names.QUANTITY + names.MONEY + names.LABEL + names.TIME + names.ORDER
        return (
            other.median_words <= 3
            and (not other.is_number or other.is_integer)
            and not names.says(other.words_of_name, amounts)
        )

    others = [other for other in table.columns.values() if may_be(other)]
    others = [other for other in others if not other.is_number] or others  # codes rather than amounts
    return others == [column]


def _by_position(table: TableProfile, user: Column, item: Column, item_link: Link | None) -> float:
    """Without names, users come before items and both among the first columns, unless only the first are
    listed as items."""
    order = list(table.columns)
    first, second = order.index(user.name), order.index(item.name)
    if first > second and (item_link is None or match(user.unique, item_link.key.unique).overlap > 0.6):
        return -1.0
    return (1.1 if second <= 4 or item_link else 0.0) - 0.05 * (first + second)


def _finer(table: TableProfile, ids: list[Column]) -> dict[str, set[str]]:
    """Of each column those of finer ids that decide it, as a track does its artist."""
    return {
        column.name: {
            other.name
            for other in ids
            if other is not column
            and 1.5 * column.distinct < other.distinct < 0.9 * len(other.values)
            and not other.is_words
            and follows(table.frame, other.name, column)
        }
        for column in ids
    }


def _belongs_together(table: TableProfile, user: Column, item: Column) -> bool:
    """Whether a table that was put together is needed: its users and items stand in different tables, and
    the items in the column that was taken apart."""
    if table.join and (user.path == item.path or item.path != table.path):
        return False
    return not table.explode or item.name == table.explode[0]


def _lists_entities(user: Column, item: Column, table: TableProfile) -> bool:
    """Whether a table has one row per user or per item: then it says what they are, not what was
    chosen."""
    return max(user.distinct, item.distinct) >= 0.98 * max(len(user.values), 2) and table.rows > 20


def _may_be_id(column: Column, hints: Hints) -> bool:
    if column.name in (hints.user, hints.item):
        return True
    if (
        not column.name
        or column.is_list
        or column.distinct < 2
        or column.filled < 0.2
        or column.name in (hints.time, hints.label)
    ):
        return False
    if column.is_number and not column.is_integer:
        return False
    if column.is_flag or (column.time and column.time.sure and not names.names_an_id(column.words_of_name)):
        return False
    return column.median_words <= 8 if column.distinct < 0.9 * column.rows else column.median_words < 2


def _links(column: Column, table: TableProfile, tables: list[TableProfile], hints: Hints) -> list[Link]:
    """Tables that list this column's values, one row each."""
    links: list[Link] = []
    if column.is_list or column.distinct < 2:
        return links
    for other in tables:
        if other.path == table.path or (table.join and other.path == table.join.path):
            continue
        for key in other.columns.values():
            if not _is_key(key, other):
                continue
            alike = _alike(column, key, other)
            # Short ids that are the same but for their zeros may be so by chance.
            long = column.unique[:1000].str.len().median() >= 5
            found_in = match(column.unique, key.unique, RULES if alike or long else RULES[:1])
            overlap = found_in.overlap
            covered = overlap * column.distinct / max(1, key.distinct)
            if overlap < 0.3:
                continue
            # Small whole numbers are among any ids: they count where the names agree or most of the ids
            # occur.
            strength = overlap * (0.3 + 0.7 * max(alike, covered if not key.is_integer else 0.8 * covered))
            # Of two tables that list the same ids, the one that says more of them.
            strength += (
                0.1
                * sum(not column.is_number for column in other.columns.values() if column is not key) ** 0.5
            )
            if is_called(other, hints.items or "") or is_called(other, hints.users or ""):
                strength += 1
            if alike or (strength > 0.5 and (overlap > 0.9 or not key.is_integer)):
                links.append(Link(other, key, found_in, strength))
    return sorted(links, key=lambda link: -link.strength)


def _is_key(column: Column, table: TableProfile) -> bool:
    if not column.name or column.is_list or column.median_words > 1.5:
        return False
    if column.is_number and not column.is_integer:
        return False
    return column.distinct >= 0.95 * table.rows and column.distinct >= 2


def _alike(column: Column, key: Column, table: TableProfile) -> float:
    """How much the names of a column and of a key in another table agree."""
    own = set(column.words_of_name) - set(names.ID) or set(column.words_of_name)
    others = set(key.words_of_name) - set(names.ID) | {names.singular(word) for word in table.words_of_name}
    if column.words_of_name == key.words_of_name:
        return 1.0
    return len(own & others) / len(own) if own else 0.0


def _score(
    column: Column, table: TableProfile, links: list[Link], words: list[str], others: list[str], item: bool
) -> tuple[float, Link | None]:
    """How likely a column is the id of users (or items), and the table that lists them."""
    own = column.words_of_name
    score = 1.2 * names.says(own, words) - 0.9 * names.says(own, others)
    score += 0.3 * names.names_an_id(own) - 0.9 * (
        names.says(own, names.ORDER) > 0 and not names.says(own, words)
    )
    score -= 0.8 * (names.says(own, names.QUANTITY + names.MONEY + names.TIME) == 1)
    score -= 0.6 * (names.says(own, names.LABEL) == 1)
    link = links[0] if links else None
    if link:
        table_words = link.table.words_of_name
        score += 0.5 * link.strength + 0.7 * (names.says(table_words, words) > 0)
        score -= 0.7 * (names.says(table_words, others) > 0)
        if item:
            score += 0.6 * any(column.median_words >= 2 for column in link.table.columns.values())
    if column.median_words > 1.5:
        score -= 0.4  # a name instead of an id
    if column.distinct >= 0.98 * len(column.values) and table.rows > 20:
        score -= 0.5
    if column.distinct < 6:
        score -= 0.4
    if not item and column.distinct < 20 and len(column.values) > 100 * column.distinct:
        score -= 0.8  # a kind of user
    return score, link
