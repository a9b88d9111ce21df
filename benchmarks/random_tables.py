"""Random folders of tables in the forms that users have, with a witness of what was written.

Values are drawn first, as what a reader should find; only then is a table written, by other libraries than
those that read: Python's `csv` and `json`, and Arrow's types for Parquet.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import random
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.hostile_values import HOSTILE_IDS, HOSTILE_NAMES, WORDS
from benchmarks.table_forms import Column, Table, draw_form

DAY = 86_400 * 10**9


@dataclasses.dataclass
class Shop:
    """Tables of one folder."""

    interactions: Table
    items: Table | None
    users: Table | None
    hints: list[str]

    def tables(self) -> list[Table]:
        return [table for table in (self.interactions, self.items, self.users) if table]


def _distinct(rng: random.Random, count: int, make: Callable[[int], str]) -> list[str]:
    results: dict[str, None] = {}
    number = rng.randrange(1000)
    while len(results) < count:
        number += rng.randint(1, 7)
        results[make(number)] = None
    return list(results)


def ids(rng: random.Random, count: int, ascii_only: bool) -> tuple[list[str], list[int] | None]:
    """Distinct ids of one kind, and as integers where they are."""
    kind = rng.randrange(9)
    if kind == 0:
        values = _distinct(rng, count, str)
        return values, list(map(int, values))
    if kind == 1:  # floats cannot hold them
        start = rng.choice([2**53, 1285704473650888702, 2**63 - 20_000])
        values = _distinct(rng, count, lambda number: str(start + number))
        return values, list(map(int, values))
    if kind == 2:
        start = 2**63 + rng.randrange(10**6)
        values = _distinct(rng, count, lambda number: str(start + number))
        return values, list(map(int, values))
    if kind == 3:
        return _distinct(rng, count, lambda number: f"{rng.getrandbits(128):032x}"), None
    if kind == 4:  # as numbers with an exponent
        return _distinct(rng, count, lambda _: f"{rng.randrange(10)}e{rng.randrange(10**9, 10**10)}"), None
    if kind == 5:
        return _distinct(rng, count, lambda number: f"{number:07d}"), None
    if kind == 6:
        return _distinct(rng, count, lambda _: str(uuid.UUID(int=rng.getrandbits(128), version=4))), None
    prefix = rng.choice(["p", "B00", "user ", "SKU-", "x_"])
    values = _distinct(rng, count, lambda number: f"{prefix}{number}")
    if kind == 7:
        strange = [value for value in HOSTILE_IDS if value.isascii() or not ascii_only]
        chosen = rng.sample(strange, min(rng.randint(1, 4), count // 4))
        values[: len(chosen)] = chosen
    return values, None


def _moments(rng: random.Random, count: int) -> list[int]:
    start = datetime.datetime(2015 + rng.randrange(10), rng.randint(1, 12), rng.randint(1, 28))
    first = int(start.replace(tzinfo=datetime.UTC).timestamp()) * 10**9
    step = rng.choice([10**9, 3600 * 10**9, DAY, 200 * 10**6])
    return [first + rng.randrange(300) * step + rng.randrange(10**9) for _ in range(count)]


def _written(moment: int, form: str) -> tuple[Any, int]:
    """A moment as a form writes it, and what of it is left."""
    second, rest = divmod(moment, 10**9)
    when = datetime.datetime.fromtimestamp(second, datetime.UTC).replace(tzinfo=None)
    whole = second * 10**9
    if form in ("s", "ms", "us", "ns"):
        size = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[form]
        return moment // size, moment // size * size
    if form == "iso":
        return f"{when:%Y-%m-%d %H:%M:%S}", whole
    if form == "isoT":
        return f"{when:%Y-%m-%dT%H:%M:%S}.{rest // 10**6:03d}Z", whole + rest // 10**6 * 10**6
    if form == "offset":
        return f"{when + datetime.timedelta(hours=2):%Y-%m-%dT%H:%M:%S}+02:00", whole
    if form == "excel":
        return round(second / 86400 + 25569, 6), whole
    text = when.strftime(form)
    return text, int(datetime.datetime.strptime(text, form).replace(tzinfo=datetime.UTC).timestamp()) * 10**9


TIMES = (
    "s",
    "ms",
    "us",
    "ns",
    "iso",
    "iso",
    "isoT",
    "offset",
    "excel",
    "%Y-%m-%d",
    "%d.%m.%Y",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%Y%m%d",
    "%Y/%m/%d",
    "%Y%m%d%H%M%S",
    "%d %b %Y",
    "%b %d, %Y",
    "%d-%m-%Y %H:%M:%S",
)


def times(rng: random.Random, name: str, count: int) -> Column:
    """A column of times in one form."""
    form = rng.choice(TIMES)
    pairs = [_written(moment, form) for moment in _moments(rng, count)]
    raw = [value for value, _ in pairs]
    return Column(name, list(map(str, raw)), raw, [left for _, left in pairs], "time")


def text(rng: random.Random, encoding: str, breaks: bool) -> str:
    """A few words; with `breaks`, seldom a line break, a delimiter or a quote among them."""
    words = rng.choices(WORDS.get(encoding, WORDS["utf-8"]), k=rng.randint(2, 5))
    if breaks and rng.random() < 0.1:
        words.insert(1, rng.choice(["\n", "\r\n", ",", ";", '"', '"x"', "\t", "|", "::"]))
    return " ".join(words)


def more(rng: random.Random, name: str, count: int, encoding: str, breaks: bool) -> Column:
    """A further column of any kind."""
    kind = rng.randrange(11)
    if kind == 9:
        marked = [rng.choice(["NULL", "\\N", "nan", "7", "8", "12.5"]) for _ in range(count)]
        return Column(name, list(marked), kind="number")
    if kind == 10:
        parts = [{"a": n, "b": {"c": "x"}} for n in range(count)]
        return Column(name, [json.dumps(part) for part in parts], list(parts), kind="nested")
    if kind == 0:
        numbers = [rng.randrange(5000) for _ in range(count)]
        return Column(name, list(map(str, numbers)), numbers, kind="number")
    if kind == 1:
        parts = [round(rng.random() * 100, 2) for _ in range(count)]
        return Column(name, list(map(str, parts)), parts, kind="number")
    if kind == 2:
        few = [text(rng, encoding, False) for _ in range(rng.randint(2, 6))]
        return Column(name, rng.choices(few, k=count))
    if kind == 3:
        return Column(name, [text(rng, encoding, breaks) for _ in range(count)])
    if kind == 4:
        flags = [rng.random() < 0.5 for _ in range(count)]
        return Column(name, ["True" if flag else "False" for flag in flags], list(flags), kind="flag")
    if kind == 5:
        tags = ["|".join(rng.sample(["red", "big", "new", "old"], rng.randint(1, 3))) for _ in range(count)]
        return Column(name, tags, kind="list")
    if kind == 6:
        return Column(name, [None] * count)
    if kind == 7:
        return Column(name, [rng.choice(["same", "same", " padded "]) for _ in range(count)])
    return Column(name, [f"https://shop.example/{rng.randrange(10**6)}?a=1&b=2" for _ in range(count)])


def names(rng: random.Random, form: Any, plain: Sequence[str], count: int, taken: Sequence[str]) -> list[str]:
    """Further names of columns that a form can write, half of them hostile ones."""
    fit = [name for name in HOSTILE_NAMES if _can_write(name, form)]
    pool = [name for name in (*fit, *(f"extra{n}" for n in range(20))) if name not in {*plain, *taken}]
    return rng.sample(pool, count)


def _can_write(name: str, form: Any) -> bool:
    try:
        name.encode(form.encoding)
    except UnicodeEncodeError:
        return False
    if not name.isascii() and not form.encoding.startswith("utf"):
        return False  # one word is too little to tell an encoding by
    if getattr(form, "end", "") == "\r" and "\n" in name:
        return False
    return form.quoted or not set(name) & set('\n\t":')


def _holes(rng: random.Random, column: Column, share: float) -> None:
    for row in range(len(column.values)):
        if rng.random() < share:
            column.values[row] = None
            if column.raw is not None:
                column.raw[row] = None
            if column.times is not None:
                column.times[row] = None


def make(rng: random.Random, folder: pathlib.Path) -> Shop:
    """Draws tables, writes them into a folder, and gives what was written."""
    all_users, things, rows = rng.randint(8, 25), rng.randint(10, 30), rng.randint(80, 220)
    hostile = rng.random() < 0.4
    forms = {name: draw_form(rng) for name in ("interactions", "items", "users")}
    first, second, third = forms.values()
    user, item, time = ("user_id", "item_id", "timestamp") if not hostile else names(rng, first, (), 3, ())
    breaks = {name: form.quoted and getattr(form, "end", "") != "\r" for name, form in forms.items()}
    plain_ids = any(form.encoding not in ("utf-8", "utf-8-sig", "utf-16") for form in forms.values())
    user_ids, user_numbers = ids(rng, all_users, plain_ids or not all(breaks.values()))
    item_ids, item_numbers = ids(rng, things, plain_ids or not all(breaks.values()))
    who = [min(rng.randrange(all_users), rng.randrange(all_users)) for _ in range(rows)]
    what = [min(rng.randrange(things), rng.randrange(things)) for _ in range(rows)]
    columns = [
        _ids_column(user, user_ids, user_numbers, who),
        _ids_column(item, item_ids, item_numbers, what),
    ]
    columns.append(times(rng, time, rows))
    for column in columns:
        if rng.random() < 0.2:
            _holes(rng, column, 0.02)
    if rng.random() < 0.5:
        stars = Column("rating", [str(value) for value in rng.choices(range(1, 6), k=rows)], kind="number")
        stars.raw = [int(value) for value in stars.values if value]
        if rng.random() < 0.4:
            _holes(rng, stars, 0.5)
        if "rating" not in (user, item, time):
            columns.append(stars)
    taken = [column.name for column in columns]
    for name in names(rng, first, taken, rng.randint(0, 4), ()):
        columns.append(more(rng, name, rows, forms["interactions"].encoding, breaks["interactions"]))
    if rng.random() < 0.3:
        rng.shuffle(columns)
    interactions = Table(columns)
    items = users = None
    if rng.random() < 0.7:
        encoding = forms["items"].encoding
        columns = [
            _ids_column(
                item if _can_write(item, second) and rng.random() < 0.5 else "item_id",
                item_ids,
                item_numbers,
                range(things),
            )
        ]
        columns.append(Column("name", [text(rng, encoding, breaks["items"]) for _ in range(things)]))
        for name in names(rng, second, [column.name for column in columns], rng.randint(0, 4), ("title",)):
            columns.append(more(rng, name, things, encoding, breaks["items"]))
        items = Table(columns)
    if rng.random() < 0.5:
        columns = [
            _ids_column(
                user if _can_write(user, third) and rng.random() < 0.5 else "user_id",
                user_ids,
                user_numbers,
                range(all_users),
            )
        ]
        for name in names(rng, third, [columns[0].name], rng.randint(1, 4), ()):
            columns.append(more(rng, name, all_users, forms["users"].encoding, breaks["users"]))
        users = Table(columns)
    shop = Shop(interactions, items, users, [])
    for name, table in (("interactions", interactions), ("items", items), ("users", users)):
        if table:
            forms[name].write(
                rng, table, folder, {"interactions": "orders", "items": "products", "users": "people"}[name]
            )
    if interactions.header and (hostile or rng.random() < 0.3):
        shop.hints = [
            f"--user={user}",
            f"--item={item}",
            f"--time={time}",
            f"--interactions={interactions.pattern}",
        ]
    return shop


def _ids_column(name: str, values: list[str], numbers: list[int] | None, rows: Sequence[int]) -> Column:
    raw = None if numbers is None else [numbers[row] for row in rows]
    return Column(name, [values[row] for row in rows], raw, kind="id")
