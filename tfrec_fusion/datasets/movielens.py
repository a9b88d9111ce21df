"""MovieLens 100K as three tables.

F. Maxwell Harper and Joseph A. Konstan, 2015. The MovieLens Datasets: History and Context.
https://doi.org/10.1145/2827872. 943 users, 1,682 films, 100,000 ratings from 1 to 5, September 1997 to April
1998.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import pathlib
import urllib.request
import zipfile

import pandas as pd

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.tables import Interactions, Items, Tables, Users
from tfrec_fusion.datasets.values import parse_numbers
from tfrec_fusion.files import whole_file, whole_folder

URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
MD5 = "0e33842e24a9c977be4e0107933c0723"  # published beside the archive
GENRES = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]


def movielens_100k(folder: str | None, work: str) -> Tables:
    """Writes MovieLens 100K as Parquet and says where.

    Args:
        folder: holds the published files (`u.data`, `u.item`, `u.user`) or RecBole's (`ml-100k.inter`, …).
            Where None, the files that the package `recbole` carries are taken, else the archive is downloaded
            into `work` and its digest checked.
        work: folder that receives `interactions.parquet`, `items.parquet` and `users.parquet`.

    Returns:
        The tables with their columns' roles: ratings, release year, genres, age group, gender, occupation.

    Raises:
        ConfigError: where no files are found, or the download's digest is not the published one.
    """
    path = pathlib.Path(folder).expanduser() if folder else _recbole_folder() or _download(pathlib.Path(work))
    if (path / "u.data").exists():
        ratings, films, users = _read_grouplens(path)
    elif (path / "ml-100k.inter").exists():
        ratings, films, users = _read_recbole(path)
    else:
        raise ConfigError(
            f"MovieLens 100K was not found in {str(path)!r}: neither `u.data` nor `ml-100k.inter` is there. "
            "Mend `data.folder`, or leave it out."
        )
    target = pathlib.Path(work)
    for name, frame in (("interactions", ratings), ("items", films), ("users", users)):
        with whole_file(target / f"{name}.parquet", binary=True) as stream:
            frame.to_parquet(stream, index=False)
    return Tables(
        interactions=Interactions(path=str(target / "interactions.parquet"), label="rating"),
        items=Items(
            path=str(target / "items.parquet"),
            title="title",
            text=("title", "genres"),
            lists=("genres",),
            numbers=("year",),
        ),
        users=Users(
            path=str(target / "users.parquet"), categories=("gender", "occupation"), numbers=("age",)
        ),
    )


def _recbole_folder() -> pathlib.Path | None:
    spec = importlib.util.find_spec("recbole")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = pathlib.Path(spec.submodule_search_locations[0]) / "dataset_example" / "ml-100k"
    return folder if folder.exists() else None


def _download(work: pathlib.Path) -> pathlib.Path:
    folder = work / "ml-100k"
    if (folder / "u.data").exists():
        return folder
    try:
        with urllib.request.urlopen(URL, timeout=60) as reply:
            archive = reply.read()
    except OSError as error:
        raise ConfigError(
            f"MovieLens 100K could not be downloaded ({error}). Put its files into a folder and name it in "
            "`data.folder`, or install the package `recbole` (without its dependencies), which carries them."
        ) from error
    digest = hashlib.md5(archive).hexdigest()
    if digest != MD5:
        raise ConfigError(
            f"The archive from {URL} has MD5 {digest}, not the published {MD5}. Try again later."
        )
    with zipfile.ZipFile(io.BytesIO(archive)) as packed, whole_folder(folder, replace=True) as staging:
        packed.extractall(staging)
        for file in (staging / "ml-100k").iterdir():
            file.rename(staging / file.name)
        (staging / "ml-100k").rmdir()
    return folder


def _read_recbole(folder: pathlib.Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    def read(ending: str) -> pd.DataFrame:
        frame = pd.read_csv(
            folder / f"ml-100k.{ending}", sep="\t", dtype=str, keep_default_na=False, quoting=3
        )
        return frame.rename(columns=lambda column: column.split(":")[0])

    ratings = (
        read("inter").astype({"rating": "float32", "timestamp": "float64"}).astype({"timestamp": "int64"})
    )
    films = read("item").rename(columns={"movie_title": "title", "release_year": "year", "class": "genres"})
    films["genres"] = films["genres"].str.replace(" ", "|")
    films["year"] = parse_numbers(films["year"])
    users = read("user").drop(columns="zip_code").astype({"age": "float32"})
    return ratings, films, users


def _read_grouplens(folder: pathlib.Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    ratings = pd.read_csv(
        folder / "u.data",
        sep="\t",
        names=["user_id", "item_id", "rating", "timestamp"],
        dtype={"user_id": str, "item_id": str},
    )
    columns = ["item_id", "title", "released", "video", "url", *GENRES]
    films = pd.read_csv(folder / "u.item", sep="|", names=columns, encoding="latin-1", dtype={"item_id": str})
    films["year"] = parse_numbers(films["title"].str.extract(r"\((\d{4})\)\s*$")[0])
    films["title"] = films["title"].str.replace(r"\s*\(\d{4}\)\s*$", "", regex=True)
    films["genres"] = films[GENRES].apply(
        lambda row: "|".join(genre for genre in GENRES if row[genre] == 1), axis=1
    )
    users = pd.read_csv(
        folder / "u.user",
        sep="|",
        names=["user_id", "age", "gender", "occupation", "zip"],
        dtype={"user_id": str},
    ).astype({"age": "float32"})
    return (
        ratings,
        films[["item_id", "title", "year", "genres"]],
        users[["user_id", "age", "gender", "occupation"]],
    )
