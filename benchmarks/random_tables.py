"""Random folders of tables in the forms that users have, with a witness of what was written.

Values are drawn first, as what a reader should find; only then is a table written, by other libraries than
those that read: Python's `csv` and `json`, and Arrow's types for Parquet.
"""

from __future__ import annotations

import bz2
import csv
import dataclasses
import datetime
import gzip
import io
import json
import lzma
import pathlib
import random
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

DAY = 86_400 * 10**9
WORDS = {
    "cp1251": [
        "красная",
        "шапка",
        "зелёный",
        "чай",
        "тихий",
        "дом",
        "большой",
        "город",
        "новая",
        "книга",
        "синее",
        "море",
        "старый",
        "друг",
        "белый",
        "снег",
    ],
    "koi8_r": [
        "красная",
        "шапка",
        "зелёный",
        "чай",
        "тихий",
        "дом",
        "большой",
        "город",
        "новая",
        "книга",
        "синее",
        "море",
        "старый",
        "друг",
        "белый",
        "снег",
    ],
    "gb18030": [
        "红色的帽子",
        "绿色茶叶",
        "安静的房子",
        "大城市",
        "新的书籍",
        "蓝色大海",
        "老朋友",
        "白色的雪",
        "音乐会",
        "电影院",
        "自行车",
        "笔记本",
    ],
    "cp932": [
        "赤い帽子",
        "緑のお茶",
        "静かな家",
        "大きな町",
        "新しい本",
        "青い海",
        "古い友達",
        "白い雪",
        "おんがく",
        "えいが",
        "自転車",
        "ノート",
    ],
    "cp949": [
        "빨간",
        "모자",
        "초록",
        "차",
        "조용한",
        "집",
        "큰",
        "도시",
        "새로운",
        "책",
        "푸른",
        "바다",
        "오래된",
        "친구",
        "하얀",
        "눈",
        "음악",
        "영화",
        "자전거",
    ],
    "cp1252": [
        "grüne",
        "Mütze",
        "schöner",
        "Tee",
        "ruhiges",
        "Häuschen",
        "größer",
        "Straße",
        "neues",
        "Buch",
        "über",
        "Café",
        "déjà",
        "été",
        "garçon",
    ],
    "cp1250": [
        "zielona",
        "herbata",
        "cichy",
        "dom",
        "wielkie",
        "miasto",
        "nowa",
        "książka",
        "żółty",
        "śnieg",
        "stary",
        "przyjaciel",
        "łąka",
        "źródło",
    ],
    "utf-8": [
        "tea",
        "Thé",
        "茶",
        "чай",
        "house",
        "Größe",
        "👽",
        "robot",
        "naïve",
        "שלום",
        "سلام",
        "kettle",
        "river",
        "本",
        "piano",
        "'quoted'",
        "a/b",
        "50%",
        "c:d",
    ],
}
ENCODINGS = (
    "utf-8",
    "utf-8",
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "cp1251",
    "koi8_r",
    "gb18030",
    "cp932",
    "cp949",
    "cp1252",
    "cp1250",
)
HOSTILE_NAMES = (
    "index",
    "id",
    "activity",
    "item_id",
    "user_id",
    "Product Category",
    "price (%)",
    "Größe",
    "店",
    "a,b",
    'say "so"',
    "a;b",
    "line\nbreak",
    "root:",
    "# note",
    "- a",
    "{x: 1}",
    "[y]",
    "&anchor",
    "*star",
    "true",
    "null",
    "on",
    "1",
    "1.5",
    "~",
    "a'b",
    "tab\tname",
    "x" * 300,
    "title",
    "time",
    "label",
    "__init__",
    "\\n",
    "a|b",
    "!tag",
    "%d",
    "@at",
    "`tick`",
    "Unnamed: 0",
    "two  blanks",
    "Ümlaut",
    "SELECT *",
    "../up",
    "$HOME",
    "a=b",
)
HOSTILE_IDS = (
    "NULL",
    "NA",
    "nan",
    "None",
    "null",
    "N/A",
    "-",
    "1e5",
    "0x1F",
    "007",
    "12.0",
    "12",
    "+12",
    "-3",
    "1,000",
    "a,b",
    'q"q',
    "x;y",
    "a|b",
    "[1]",
    "{'a': 1}",
    "=1+1",
    "True",
    "inf",
    "7e41633529000f80967da24083bb6c1c",
    "9007199254740993",
    "两",
    "é",
    "#N/A",
)


@dataclasses.dataclass
class Column:
    """A column of a table.

    Attributes:
        name: what the table calls it.
        values: what a reader should find in each row: text as written, None where there is nothing.
        raw: what a typed format holds in each row.
        times: nanoseconds since 1970 where it is a column of times.
        kind: `id`, `text`, `number`, `list`, `flag` or `time`.
    """

    name: str
    values: list[str | None]
    raw: list[Any] | None = None
    times: list[int | None] | None = None
    kind: str = "text"

    def typed(self) -> list[Any]:
        return self.values if self.raw is None else self.raw


@dataclasses.dataclass
class Table:
    """A table, and how it was written.

    Attributes:
        columns: in the order in which they were written.
        pattern: the name of its file, or what its files have in common.
        form: in words, for a finding.
        header: whether its file names its columns.
        short: rows that were written with too few values.
    """

    columns: list[Column]
    pattern: str = ""
    form: str = ""
    header: bool = True
    short: int = 0

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def __len__(self) -> int:
        return len(self.columns[0].values)


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
    forms = {name: _form(rng) for name in ("interactions", "items", "users")}
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


@dataclasses.dataclass
class _Text:
    """Delimited text."""

    delimiter: str
    encoding: str
    quoted: bool
    always: bool
    ending: str
    end: str
    header: bool
    trailing: bool
    press: str

    def write(self, rng: random.Random, table: Table, folder: pathlib.Path, name: str) -> None:
        if {column.values[0] for column in table.columns} & {*HOSTILE_IDS}:
            self.header = True  # nothing tells that the first row holds no names
        table.header = self.header
        table.form = f"{self}"
        count = len(table)
        files = 2 if self.header and count > 60 and rng.random() < 0.15 else 1
        table.pattern = (
            f"{name}{self.ending}{self.press}" if files == 1 else f"{name}*{self.ending}{self.press}"
        )
        for number in range(files):
            rows = range(number * count // files, (number + 1) * count // files)
            lines = [[column.name for column in table.columns]] if self.header else []
            above = self.header and self.quoted and len(table.columns) > 2 and rng.random() < 0.08
            lines: list[list[str] | None] = [*lines]
            lines += [[column.values[row] or "" for column in table.columns] for row in rows]
            if len(table.columns) > 2 and len(rows) > 70 and rng.random() < 0.2:
                lines.insert(rng.randrange(40, len(lines)), ["short"])
                table.short += 1
            if self.quoted and len(table.columns) > 2 and len(rows) > 70 and rng.random() < 0.1:
                lines.insert(rng.randrange(40, len(lines)), None)
                table.short += 1
            text = self._lines(lines)
            if above and not self.trailing:
                text = f"# exported{self.end}# by a shop{self.end}{text}"
                table.short += 2
            data = text.encode(self.encoding)
            path = folder / table.pattern.replace("*", f"_{number + 1}")
            path.write_bytes(PRESSES[self.press](data))

    def _lines(self, lines: list[list[str] | None]) -> str:
        if not self.quoted:
            written = [self.delimiter.join(line) for line in lines]
        else:
            written = []
            for line in lines:
                if line is None:
                    written.append(f'x{self.delimiter}"never closed{self.delimiter}5')
                    continue
                out = io.StringIO()
                quoting = csv.QUOTE_ALL if self.always else csv.QUOTE_MINIMAL
                csv.writer(out, delimiter=self.delimiter, quoting=quoting, lineterminator="\r\n").writerow(
                    line
                )
                written.append(out.getvalue()[:-2])
        tail = self.delimiter if self.trailing else ""
        written = [line + (tail if number or not self.header else "") for number, line in enumerate(written)]
        return self.end.join(written) + self.end


@dataclasses.dataclass
class _Json:
    lines: bool
    press: str
    encoding: str = "utf-8"
    quoted: bool = True

    def write(self, rng: random.Random, table: Table, folder: pathlib.Path, name: str) -> None:
        rows = [
            {
                column.name: value
                for column, value in zip(table.columns, values, strict=True)
                if value is not None
            }
            for values in zip(*(column.typed() for column in table.columns), strict=True)
        ]
        # A column without a value is not there.
        table.columns = [
            column for column in table.columns if any(value is not None for value in column.values)
        ]
        if self.lines:
            body = "\n".join(json.dumps(row, ensure_ascii=rng.random() < 0.5) for row in rows) + "\n"
        else:
            body = json.dumps(rows, indent=rng.choice([None, 1]))
        table.form, table.pattern = f"{self}", name + (".jsonl" if self.lines else ".json") + self.press
        (folder / table.pattern).write_bytes(PRESSES[self.press](body.encode()))


@dataclasses.dataclass
class _Parquet:
    encoding: str = "utf-8"
    quoted: bool = True

    def write(self, rng: random.Random, table: Table, folder: pathlib.Path, name: str) -> None:
        arrays = [_array(rng, column) for column in table.columns]
        table.pattern = f"{name}.parquet"
        table.form = (
            "Parquet"
            f" {[(c.name[:20], str(array.type)) for c, array in zip(table.columns, arrays, strict=True)]}"
        )
        whole = pa.table(arrays, names=[column.name for column in table.columns])
        pq.write_table(whole, folder / table.pattern, row_group_size=rng.choice([7, 50, 10_000]))


def _array(rng: random.Random, column: Column) -> pa.Array:
    if column.kind == "time" and rng.random() < 0.5:
        unit = rng.choice(["s", "ms", "us", "ns"])
        size = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
        assert column.times is not None
        column.times = [None if time is None else time // size * size for time in column.times]
        values = [None if time is None else time // size for time in column.times]
        column.values = [None if time is None else "?" for time in column.times]
        return pa.array(values, pa.timestamp(unit, rng.choice([None, "UTC", "Europe/Berlin"])))
    if column.raw is not None:
        present = [value for value in column.raw if value is not None]
        if column.kind == "id" and present:
            kinds = [pa.uint64()] if max(present) >= 2**63 else [pa.int64(), pa.uint64()]
            if max(present) < 2**31:
                kinds += [pa.int32(), pa.float64(), pa.decimal128(20, 2)]
            return pa.array(column.raw, rng.choice(kinds))
        return pa.array(column.raw)
    if column.kind == "list" and rng.random() < 0.6:
        column.kind = "native list"
        inner = rng.choice([pa.string(), pa.binary(), pa.large_string()])
        split = [
            None if value is None else [part.encode() for part in value.split("|")] for value in column.values
        ]
        return pa.array(split, pa.list_(pa.binary())).cast(pa.list_(inner))
    kind = rng.randrange(4)
    if kind == 0:
        return pa.array(column.values, pa.string()).dictionary_encode()
    kinds = (pa.string(), pa.large_string(), pa.binary())
    values = (
        [None if value is None else value.encode() for value in column.values] if kind == 3 else column.values
    )
    return pa.array(values, kinds[kind - 1])


def _arrow(data: bytes, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PRESSES: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: _arrow(data, "zstd"),
    ".lz4": lambda data: _arrow(data, "lz4"),
}


def _form(rng: random.Random) -> _Text | _Json | _Parquet:
    kind = rng.random()
    press = rng.choice(list(PRESSES)) if rng.random() < 0.3 else ""
    if kind < 0.2:
        return _Parquet()
    if kind < 0.35:
        return _Json(rng.random() < 0.7, press)
    delimiter = rng.choice([",", ",", ",", ";", "\t", "|", "::", "\x01"])
    quoted = delimiter not in ("::", "\x01")
    return _Text(
        delimiter,
        rng.choice(ENCODINGS),
        quoted,
        rng.random() < 0.2,
        rng.choice([".csv", ".csv", ".txt", ".dat", ".tsv", ".data"]),
        rng.choice(["\n", "\n", "\n", "\r\n", "\r\n", "\r"]),
        rng.random() < 0.85,
        rng.random() < 0.1,
        press,
    )
