"""Tables as they are given in Python (DataFrames, Arrow tables, paths) as described files.

A frame is written to a file, so that the readers of files, their rules for ids, times and texts, and the
guesses of `tfrec_fusion.guessing` hold for it too.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from tfrec_fusion.config import ConfigError, from_dict
from tfrec_fusion.config.recommender import DataSettings
from tfrec_fusion.datasets.dialect import detect_kind
from tfrec_fusion.datasets.edges import Graph, NodeKind
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.friends import friend_tables
from tfrec_fusion.datasets.media import KINDS as KINDS_OF_MEDIA
from tfrec_fusion.datasets.reading import column_names
from tfrec_fusion.datasets.storage import is_remote, open_remote
from tfrec_fusion.datasets.tables import Interactions, Items, Tables, Users
from tfrec_fusion.datasets.values import arrow_of
from tfrec_fusion.guessing import Hints, guess

__all__ = [
    "columns_in_words",
    "described",
    "friends_described",
    "graph_of",
    "place",
    "test_tables",
    "whole_numbers",
]

HINTS = ("user", "item", "time", "label", "time_format")
OF_COLUMNS = (
    *("user", "item", "time", "label", "context", "quantity", "weight", "event", "text_time"),
    *("id", "title", "text", "categories", "lists", "numbers", "vectors", "images", "audio"),
)
KINDS: dict[str, type] = {"interactions": Interactions, "items": Items, "users": Users}


def place(table: Any, name: str, folder: pathlib.Path) -> str:
    """Puts a table into a folder, and says where: a path or a glob.

    Args:
        table: a DataFrame, an Arrow table, anything that `pyarrow.table` takes, or a path (a file, a
            folder, a glob, a URI).
        name: `interactions`, `items`, `users`, or what a table of edges is called.
        folder: receives a file, or links to the files of a path.

    Raises:
        ConfigError: for what is no table, holds no rows, or names a column twice.
    """
    if isinstance(table, (str, os.PathLike)):
        return _linked(os.fspath(table), name, folder)
    arrow = _arrow(table, name)
    twice = sorted({column for column in arrow.column_names if arrow.column_names.count(column) > 1})
    if twice:
        raise ConfigError(
            f"The {name} table must name each column once. Received: {', '.join(map(repr, twice))} more"
            " than once."
            " Rename one."
        )
    if not arrow.num_rows or not arrow.num_columns:
        raise ConfigError(
            f"The {name} table must have rows. Received: {arrow.num_rows} rows of {arrow.num_columns}"
            " columns."
        )
    path = folder / f"{name}.parquet"
    pyarrow.parquet.write_table(arrow, path)
    return str(path)


def _arrow(table: Any, name: str) -> pa.Table:
    if isinstance(table, pd.DataFrame):
        if table.index.names != [None]:
            table = table.reset_index()
        arrays = [arrow_of(table.iloc[:, position]) for position in range(table.shape[1])]
        return pa.Table.from_arrays(arrays, [str(column) for column in table.columns])
    try:
        return table if isinstance(table, pa.Table) else pa.table(table)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise ConfigError(
            f"The {name} table must be a DataFrame, an Arrow table or a path. Received:"
            f" {type(table).__name__} ({error}). Convert it to one of these."
        ) from error


def _linked(path: str, name: str, folder: pathlib.Path) -> str:
    files = find_files(path, name)
    made = []
    for number, file in enumerate(files):
        endings = "".join(pathlib.PurePath(file).suffixes[-2:]) or ".csv"
        target = folder / (f"{name}{endings}" if len(files) == 1 else f"{name}-{number:05d}{endings}")
        if is_remote(file):
            system, inside = open_remote(file)
            with system.open_input_stream(inside) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        else:
            target.symlink_to(pathlib.Path(file).absolute())
        made.append(target)
    return str(made[0]) if len(made) == 1 else str(folder / f"{name}-*")


def described(
    paths: Mapping[str, str],
    folder: pathlib.Path,
    settings: DataSettings,
    edges: Mapping[NodeKind, str] | None = None,
) -> Tables:
    """The meaning of each table's columns: as named, all others as `tfrec init` guesses them.

    Args:
        paths: by table, in the folder.
        folder: holds nothing else.
        settings: names of columns.
        edges: paths of the tables of edges between `items` and between `users`, outside of the folder.

    Raises:
        ConfigError: for a named column that is not there, or where the columns of users and items, or the
            items' ids, cannot be told apart.
    """
    named = {name: _named(name, getattr(settings, name), paths) for name in KINDS}
    guessed = _guessed(folder, paths, named)
    interactions = _overlaid(
        Interactions,
        paths["interactions"],
        guessed.interactions if guessed else None,
        named["interactions"],
    )
    tables: dict[str, Any] = {}
    for name, column in (("items", interactions.item), ("users", interactions.user)):
        own = getattr(guessed, name, None)
        if name in paths:
            linked = name in (edges or {}) or name in (settings.graph or {})
            tables[name] = _entity(name, paths[name], own, named[name], column, linked)
        elif own is not None or name == "items":
            own = own or Items(paths["interactions"], column, distinct=True)
            tables[name] = _overlaid(KINDS[name], own.path, own, named[name])
    tables["items"] = _with_media_folder(tables["items"], named["items"])
    rules: dict[str, Any] = {
        name: getattr(settings, name) or (getattr(guessed, name) if guessed else "as_written")
        for name in ("user_ids", "item_ids")
    }
    return Tables(interactions, **tables, **rules, graph=graph_of(settings.graph, edges or {}))


def _with_media_folder(items: Items, named: Mapping[str, Any]) -> Items:
    """The items, whose pictures' and sounds' relative paths start where the given file lies; of a table in
    memory in the working folder. Columns of files that nobody named are left out: encoding takes its time."""
    images, audio = (getattr(items, kind) if kind in named else () for kind in KINDS_OF_MEDIA)
    items = dataclasses.replace(items, images=images, audio=audio)
    if items.media.folder is not None or not items.media_columns:
        return items
    file = pathlib.Path(find_files(items.path)[0])
    folder = file.resolve().parent if file.is_symlink() else pathlib.Path.cwd()
    return dataclasses.replace(items, media=dataclasses.replace(items.media, folder=str(folder)))


def graph_of(named: Mapping[str, Any] | None, paths: Mapping[NodeKind, str]) -> Graph | None:
    """The graph: as named, with the given tables; of a table without the columns that are named by default,
    the first two are the ends."""
    values: dict[str, Any] = dict(named or {})
    for kind, path in paths.items():
        several = values.get(kind) or [{}]
        if len(several) > 1:
            raise ConfigError(
                f"`data.graph.{kind}` must describe the one table of edges that is given. Received:"
                f" {len(several)} descriptions. Give one, or name files by their `path`."
            )
        ends = [several[0].get(end, end) for end in ("source", "target")]
        columns = _columns(path)
        if not {"source", "target"} & {*several[0], *columns}:
            ends = columns[:2]
        values[kind] = [{**several[0], "path": path, **dict(zip(("source", "target"), ends, strict=False))}]
    return from_dict(Graph, values, "data.graph") if values else None


def friends_described(edges: str, users: str | None, settings: DataSettings, folder: pathlib.Path) -> Tables:
    """Friendships as interactions (`datasets.friends`).

    Args:
        edges: path of the table of edges.
        users: path of a table of users; None without.
        settings: `graph.users` describes the edges, `items` the table of users.
        folder: receives the tables.
    """
    graph = graph_of(settings.graph, {"users": edges})
    assert graph is not None  # made of the edges
    items = None
    if users is not None:
        columns = _columns(users)
        named = {"id": "user_id" if "user_id" in columns else columns[0], **settings.items}
        items = from_dict(Items, {**named, "path": users}, "data.items")
    rule: Any = settings.user_ids or "as_written"
    return friend_tables(graph.users, str(folder), items, None, rule, settings.max_reject_share)


def _entity(
    name: str, path: str, guessed: Any, named: Mapping[str, Any], column: str, linked: bool = False
) -> Any:
    """A given table of items or users: its guess, where there is one, with the named columns instead.

    Args:
        name: `items` or `users`.
        path: of the given table.
        guessed: what was guessed of items or users, perhaps in another table.
        named: keys of the configuration.
        column: the ids' column in the interactions.
        linked: whether edges say something of each row, so that ids alone are worth reading.
    """
    own = guessed if guessed is not None and _is(guessed.path, path) else None
    known = _columns(path)
    if own is None and not named:
        if column not in known:
            raise ConfigError(
                f"A column of the {name} table must hold the ids that the interactions have in {column!r}."
                f" Received: {', '.join(known)}. Name it, and what else counts, such as"
                f" data={{{name!r}: {{'id': {known[0]!r}}}}}."
            )
        if not linked:
            warnings.warn(
                f"Of the {name} table nothing but the ids ({column!r}) is used: they repeat, or few of them"
                f" are among the interactions. Name what counts with `data.{name}`.",
                stacklevel=5,
            )
    table = _overlaid(KINDS[name], path, own, named if own is not None else {"id": column, **named})
    if table.id not in known and not table.csv.header:
        raise ConfigError(
            f"`data.{name}.id` must name a column of the {name} table. Received: {table.id!r}. It has:"
            f" {', '.join(known)}."
        )
    return table


def _named(name: str, keys: Mapping[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    """The named columns, checked: keys that there are, columns that the table has."""
    if not keys:
        return {}
    if name not in paths and name != "items":
        raise ConfigError(
            f"`data.{name}` names columns of a table that was not given. Give `{name}` to `fit`."
        )
    path = paths.get(name, paths["interactions"])
    read: Any = from_dict(KINDS[name], {"path": path, **keys}, f"data.{name}")
    values = {key: getattr(read, key) for key in keys}
    known = _columns(path)
    if getattr(read, "join", None) or (getattr(read, "csv", None) and read.csv.header):
        return values
    columns = {key: values.get(key) for key in OF_COLUMNS}
    if "labels" in values:
        columns |= {f"labels.{label}": column for label, column in read.label_columns.items()}
    for key, value in columns.items():
        for column in value if isinstance(value, tuple) else (value,) if value else ():
            if column not in known:
                raise ConfigError(
                    f"`data.{name}.{key}` must name a column of the {name} table. Received: {column!r}."
                    f" It has: {', '.join(known)}."
                )
    return values


def _columns(path: str) -> list[str]:
    return column_names(find_files(path)[0])


def _guessed(
    folder: pathlib.Path, paths: Mapping[str, str], named: Mapping[str, dict[str, Any]]
) -> Tables | None:
    """The guess, its paths absolute; None where it fails and user and item are named."""
    own = named["interactions"]
    files = {name: pathlib.Path(find_files(path, name)[0]).name for name, path in paths.items()}
    hints = Hints(**files, **{key: own[key] for key in HINTS if own.get(key)})
    try:
        tables = guess(folder, hints).tables
    except ConfigError as error:
        if "user" in own and "item" in own:
            return None
        raise ConfigError(_in_python(str(error))) from error
    tables = dataclasses.replace(
        tables,
        **{
            name: dataclasses.replace(getattr(tables, name), path=str(folder / getattr(tables, name).path))
            for name in KINDS
            if getattr(tables, name)
        },
    )
    join = tables.interactions.join
    if join:
        join = dataclasses.replace(join, path=str(folder / join.path))
        tables = dataclasses.replace(tables, interactions=dataclasses.replace(tables.interactions, join=join))
    return tables


def _in_python(message: str) -> str:
    """A message that speaks of the command's flags, with the settings that stand for them."""
    message = message.replace(" (and --interactions for the file)", "")
    return re.sub(r"--(user|item|time-format|time|label)\b",
                  lambda flag: f"data.interactions.{flag[1].replace('-', '_')}", message)  # fmt: skip


def _is(path: str, other: str) -> bool:
    return set(find_files(path)) == set(find_files(other))


def _overlaid(kind: type, path: str, guessed: Any, named: Mapping[str, Any]) -> Any:
    """What was guessed, with the named columns instead."""
    if guessed is None:
        if kind is Interactions:
            named = {"time": None, **named}
        return kind(path, **named)
    changes = dict(named)
    if "label" in named and named["label"] != guessed.label:
        changes = {"label_values": {}, "label_nulls": (), **changes}
    if "time" in named and named["time"] != guessed.time:
        changes = {"time_format": None, **changes}
    return dataclasses.replace(guessed, **changes)


def whole_numbers(tables: Tables) -> tuple[str, ...]:
    """Which ids, of `user` and `item`, are whole numbers in the interactions: answers give them as such."""
    file = find_files(tables.interactions.path)[0]
    if detect_kind(file) != "parquet" or is_remote(file):
        return ()
    schema = pyarrow.parquet.ParquetFile(file).schema_arrow
    columns = {"user": tables.interactions.user, "item": tables.interactions.item}
    return tuple(
        role
        for role, column in columns.items()
        if column in schema.names and pa.types.is_integer(schema.field(column).type)
    )


def test_tables(test: Any, tables: Tables, folder: pathlib.Path) -> tuple[Tables, list[str]]:
    """Further interactions, read like those that were fitted.

    Args:
        test: a table, as `place` takes it.
        tables: what was fitted, with nothing left open. Times, labels and texts may be missing.
        folder: receives the table.

    Returns:
        The tables with the interactions' own path, and its files.

    Raises:
        ConfigError: for a column that is missing.
    """
    path = place(test, "test", folder)
    files, table = find_files(path), tables.interactions
    known = _columns(path)
    # What was written is no input of an answer.
    changes: dict[str, Any] = {"path": path, "text": None, "text_time": None}
    for key in ("time", "label"):
        if getattr(table, key) and getattr(table, key) not in known:
            changes[key] = None
            if key == "label":
                changes |= {"label_values": {}, "label_nulls": ()}
    table = dataclasses.replace(table, **changes)
    given = {label: described for label, described in table.labels.items()
             if table.label_columns[label] in known}  # fmt: skip
    table = dataclasses.replace(table, labels=given)
    missing = [column for column in table.columns() if column not in known]
    if missing:
        raise ConfigError(
            f"The test table must have the columns that the interactions had. Received: none named"
            f" {', '.join(map(repr, missing))}, only {', '.join(known)}."
        )
    return dataclasses.replace(tables, interactions=table), files


def columns_in_words(tables: Tables) -> str:
    """What each column was taken for."""
    parts = []
    for name in ("interactions", "items", "users"):
        table = getattr(tables, name)
        if table is None:
            continue
        roles = {
            field.name: value
            for field in dataclasses.fields(table)
            if field.name not in ("path", "separator", "time_format") and (value := getattr(table,
            field.name)) and isinstance(value, (str, tuple))
        }  # fmt: skip
        words = ", ".join(f"{role} {value if isinstance(value, str) else ' + '.join(map(str, value))}"
                          for role, value in roles.items())  # fmt: skip
        parts.append(f"{name} ({words})")
    return "; ".join(parts)
