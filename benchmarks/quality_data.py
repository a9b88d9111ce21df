"""The protocols of `benchmarks.quality`: which data, split how, and who is asked for what."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.pipeline_config import DataConfig, PipelineConfig, SplitConfig
from pipeline.studies import ablation
from pipeline.studies.offline_figures import relevant_items
from tfrec_fusion.config import TextConfig
from tfrec_fusion.datasets.movielens import movielens_100k
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.features.preparing import Prepared

SHARED = pathlib.Path(__file__).parents[2] / "shared" / "data"
BEAUTY, LASTFM = SHARED / "amazon-beauty", SHARED / "lastfm-hetrec"
LATEST_SMALL = SHARED / "movielens-latest-small"
SHOP = pathlib.Path(os.environ.get("TFREC_UCI", SHARED / "uci-online-retail"))
WORK = pathlib.Path(tempfile.gettempdir(), "tfrec_fusion_quality")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A split data set and a question per user.

    Attributes:
        data: the split data.
        rows: int64 `[users]`, a row of `data.test` each, whose history the user has.
        seen: per user int32, what they met before; not asked for.
        relevant: per user int, what they chose.
        allowed: bool `[N + 1]`, what may be recommended.
        also_repeats: whether answers are also judged with what was met before left in.
    """

    data: Prepared
    rows: np.ndarray
    seen: list[np.ndarray]
    relevant: list[np.ndarray]
    allowed: np.ndarray
    also_repeats: bool = False

    @property
    def queries(self) -> dict[str, np.ndarray]:
        """What a model takes to answer everybody, one row per user."""
        return {name: values[self.rows] for name, values in self.data.test.items()}


def movielens_tables() -> Tables:
    """MovieLens 100K; texts are titles and genres."""
    tables = movielens_100k(None, str(WORK / "movielens_100k"))
    return Tables(tables.interactions, dataclasses.replace(tables.items, numbers=()))


def latest_small_tables() -> Tables:
    """MovieLens latest-small, with plot overviews where there are any."""

    def read(name: str) -> pd.DataFrame:
        with gzip.open(
            SHARED / "movielens-latest-small" / f"{name}.csv.gz", "rt", encoding="utf-8"
        ) as stream:
            return pd.read_csv(stream, dtype=str)

    films, links, overviews = read("movies"), read("links"), read("overviews")
    key = next(column for column in overviews.columns if column.lower() in ("tmdbid", "tmdb_id", "id"))
    plots = overviews.set_index(key)["overview"]
    films = films.merge(links, on="movieId")
    films["plot"] = films["tmdbId"].map(plots[~plots.index.duplicated()]).fillna("")
    folder = WORK / "latest_small"
    folder.mkdir(parents=True, exist_ok=True)
    read("ratings").to_parquet(folder / "ratings.parquet")
    films.to_parquet(folder / "movies.parquet")
    items = Items(
        str(folder / "movies.parquet"),
        "movieId",
        title="title",
        text=("title", "genres", "plot"),
        lists=("genres",),
    )
    return Tables(Interactions(str(folder / "ratings.parquet"), "userId", "movieId", "timestamp"), items)


def shop_tables() -> Tables:
    """A year of a shop's invoices: purchases of known customers, without cancelled invoices, negative
    quantities, lines without a description and codes that are no product (postage, fees). One description an
    item, the most frequent."""
    lines = pd.read_parquet(SHOP / "online_retail.parquet")
    lines.columns = [column.lower() for column in lines.columns]
    lines = lines.rename(columns={"invoiceno": "invoice", "stockcode": "code", "customerid": "customer"})
    lines = lines.dropna(subset=["customer", "description"])
    product = lines["code"].astype(str).str.match(r"^\d{5}")
    bought = (lines["quantity"] > 0) & ~lines["invoice"].astype(str).str.startswith("C")
    lines = lines[product & bought].assign(
        customer=lambda frame: frame["customer"].astype(float).astype(int).astype(str),
        code=lambda frame: frame["code"].astype(str),
        time=lambda frame: pd.to_datetime(frame["invoicedate"]).astype("datetime64[s]").astype("int64"),
    )
    folder = WORK / "shop"
    folder.mkdir(parents=True, exist_ok=True)
    lines[["customer", "code", "time"]].drop_duplicates().to_parquet(folder / "purchases.parquet")
    names = lines.groupby("code")["description"].agg(lambda words: words.value_counts().index[0])
    names.reset_index().to_parquet(folder / "products.parquet")
    items = Items(str(folder / "products.parquet"), "code", title="description", text=("description",))
    return Tables(Interactions(str(folder / "purchases.parquet"), "customer", "code", "time"), items)


def beauty_tables() -> Tables:
    """Amazon Beauty 2014, 5-core; texts are a few keywords an item that others made of title and
    description. Positions of a user's choices stand for times."""
    folder = WORK / "beauty"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("interactions", "items"):
        pd.read_csv(BEAUTY / f"{name}.csv.gz", dtype=str).to_parquet(folder / f"{name}.parquet")
    items = Items(str(folder / "items.parquet"), "item_id", title="text", text=("text",))
    return Tables(Interactions(str(folder / "interactions.parquet"), "user_id", "item_id", "position"), items)


def lastfm_tables() -> Tables:
    """HetRec 2011 Last.fm: who listened to which artist. There are no times: each user's artists come in a
    fixed random order."""
    folder = WORK / "lastfm"
    folder.mkdir(parents=True, exist_ok=True)

    def read(name: str, **options: Any) -> pd.DataFrame:
        path = LASTFM / f"{name}.dat.gz"
        return pd.read_csv(path, sep="\t", dtype=str, quoting=csv.QUOTE_NONE, **options)

    # Two lines with counts stand where the names of columns should.
    listened = read("user_artists", skiprows=2, names=["userID", "artistID", "plays"])
    listened.to_parquet(folder / "listened.parquet")
    read("artists")[["id", "name"]].to_parquet(folder / "artists.parquet")
    items = Items(str(folder / "artists.parquet"), "id", title="name", text=("name",))
    return Tables(Interactions(str(folder / "listened.parquet"), "userID", "artistID", None), items)


def item_texts(tables: Tables) -> list[str]:
    """Each item's text as the text tower reads it."""
    frame = pd.read_parquet(tables.items.path, columns=list(tables.items.text))
    for column in tables.items.lists:
        frame[column] = frame[column].str.replace("|", " ")
    return [". ".join(filter(None, row)) for row in frame.itertuples(index=False)]


def prepared(name: str, tables: Tables, method: str) -> Prepared:
    """A data set split by `method` with its own shares, each text encoded once."""
    data = DataConfig(interactions=tables.interactions, items=tables.items)
    text = TextConfig(max_length=128)
    split = SplitConfig(method=method)
    return ablation.prepared(PipelineConfig(name, data, root=str(WORK), text=text, split=split))


def _whole_catalogue(name: str, tables: Tables, method: str, also_repeats: bool = False) -> Protocol:
    data = prepared(name, tables, method)
    rows, seen, relevant = relevant_items(data)
    return Protocol(data, rows, seen, relevant, np.arange(len(data.catalogue)) > 0, also_repeats)


def _hidden_items() -> Protocol:
    """A tenth of the items, chosen by a hash of their ids, is hidden with all that was said of them; users
    are asked for hidden items alone, after all else that they met."""
    tables = latest_small_tables()
    ratings = pd.read_parquet(tables.interactions.path)
    hidden = ratings["movieId"].map(lambda item: hashlib.md5(item.encode()).digest()[0] % 10 == 0)
    visible = WORK / "latest_small" / "visible.parquet"
    ratings[~hidden].to_parquet(visible)
    interactions = dataclasses.replace(tables.interactions, path=str(visible))
    data = prepared("latest_small_hidden", Tables(interactions, tables.items), "leave_last_out")
    position = {item: row for row, item in enumerate(data.catalogue.ids)}
    chosen = ratings[hidden].groupby("userId")["movieId"].agg(list)
    before = ratings[~hidden].assign(time=lambda frame: frame["timestamp"].astype(int)).sort_values("time")
    seen_items = before.groupby("userId")["movieId"].agg(list)
    users = [user for user in chosen.index if user in seen_items.index]
    seen = [np.array([position[item] for item in seen_items[user]], np.int32) for user in users]
    width = data.validation["history"].shape[1]
    history = np.zeros((len(users), width), np.int32)
    for row, items in enumerate(seen):
        history[row, -min(width, len(items)) :] = items[-width:]
    relevant = [np.array([position[item] for item in chosen[user]]) for user in users]
    none = np.zeros(len(users), np.int32)
    test = {"user_index": none, "history": history, "item_index": none}
    allowed = np.zeros(len(data.catalogue), bool)
    allowed[np.unique(np.concatenate(relevant))] = True
    data = dataclasses.replace(data, test=test, users=np.arange(len(users)), seen=seen)
    return Protocol(data, np.arange(len(users)), seen, relevant, allowed)


PROTOCOLS: dict[str, Callable[[], Protocol]] = {
    "MovieLens 100K, last film": lambda: _whole_catalogue(
        "movielens_last", movielens_tables(), "leave_last_out"
    ),
    "MovieLens 100K, by time": lambda: _whole_catalogue("movielens_time", movielens_tables(), "temporal"),
    "latest-small, by time": lambda: _whole_catalogue("latest_small_time", latest_small_tables(), "temporal"),
    "shop, by time": lambda: _whole_catalogue("shop_time", shop_tables(), "temporal"),
    "latest-small, hidden items": _hidden_items,
    "Amazon Beauty, last item": lambda: _whole_catalogue(
        "beauty_last", beauty_tables(), "leave_last_out", also_repeats=True
    ),
    "Last.fm, one artist": lambda: _whole_catalogue("lastfm_last", lastfm_tables(), "leave_last_out"),
}
NEEDS = {
    "latest-small": LATEST_SMALL,
    "shop": SHOP,
    "Amazon Beauty": BEAUTY,
    "Last.fm": LASTFM,
}
