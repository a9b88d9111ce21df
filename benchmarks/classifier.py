"""What the classifier and texts of users are worth: three tables, each with intervals.

    python -m benchmarks.classifier [--parts tags items reviews] [--users 150] [--seeds 1] [--json FILE]

`tags`: MovieLens latest-small, what a user wrote as tags on a film, put together to one text, and the star
class of that user's rating of the film (up to 3 low, up to 4 middle, above high). `items`: every rating of
`--users` users and the film's title, genres and plot. Both divided by time; the classifier beside the most
frequent class and a logistic regression on the same vectors, and with `dim: 0`, without ids.

`reviews`: planted ratings by an aspect that each user cares for and names in every text, about seven texts a
user. The ranking model with `data.interactions.text` and without, by RMSE on the newest tenth, with a paired
bootstrap over users.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import pathlib
import tempfile
import time
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.quality_data import SHARED, latest_small_tables
from tfrec_fusion.config import RankingConfig, SplitConfig, TextConfig, TowerConfig, TrainingConfig
from tfrec_fusion.config.classifier import ClassifierConfig
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.features.preparing import prepare
from tfrec_fusion.in_memory.classifying import fit_classifier
from tfrec_fusion.metrics.bootstrap import group_sums, interval, resample
from tfrec_fusion.training.batches import batches
from tfrec_fusion.training.recipes import TrainingData, train_ranking

PARTS = ("tags", "items", "reviews")
RANKING = RankingConfig(
    tower=TowerConfig(dim=16), training=TrainingConfig(epochs=30, batch_size=128, patience=5)
)


def star_class(stars: pd.Series) -> pd.Series:
    """The class of each rating."""
    return pd.cut(stars.astype(float), [0, 3, 4, 5], labels=["low", "middle", "high"]).astype(str)


def tagged(folder: pathlib.Path) -> Tables:
    """What users wrote about films as tags, and how they rated these."""
    tables = latest_small_tables()
    with gzip.open(SHARED / "movielens-latest-small" / "tags.csv.gz", "rt", encoding="utf-8") as stream:
        tags = pd.read_csv(stream, dtype=str)
    tags["timestamp"] = tags["timestamp"].astype(int)
    texts = tags.groupby(["userId", "movieId"]).agg(text=("tag", ", ".join), timestamp=("timestamp", "max"))
    ratings = pd.read_parquet(tables.interactions.path)[["userId", "movieId", "rating"]]
    frame = texts.reset_index().merge(ratings, on=["userId", "movieId"])
    frame.assign(stars=star_class(frame["rating"])).to_parquet(folder / "tagged.parquet")
    interactions = Interactions(str(folder / "tagged.parquet"), "userId", "movieId", "timestamp", text="text")
    return dataclasses.replace(tables, interactions=interactions)


def rated(folder: pathlib.Path, users: int) -> Tables:
    """Ratings of some users, with their star class."""
    tables = latest_small_tables()
    ratings = pd.read_parquet(tables.interactions.path)
    kept = np.random.default_rng(0).permutation(ratings["userId"].unique())[:users]
    ratings = ratings[ratings["userId"].isin(kept)]
    ratings.assign(stars=star_class(ratings["rating"])).to_parquet(folder / "rated.parquet")
    interactions = Interactions(str(folder / "rated.parquet"), "userId", "movieId", "timestamp")
    return dataclasses.replace(tables, interactions=interactions)


def classified(tables: Tables, reads: str, text: TextConfig, seed: int) -> list[dict[str, Any]]:
    """The classifier with ids and without, beside its baselines."""
    rows = []
    for name, dim in (("classifier", 16), ("without ids", 0)):
        training = TrainingConfig(epochs=30, batch_size=128, learning_rate=3e-3, refit=False, seed=seed)
        config = ClassifierConfig("stars", reads, dim=dim, training=training)  # type: ignore[arg-type]
        start = time.perf_counter()
        found = fit_classifier(tables, config, SplitConfig(), text).judgement
        seconds = time.perf_counter() - start
        gains = {other: values["gain"] for other, values in found.baselines.items()}
        known = {"seed": seed, "seconds": seconds, "rows": found.rows, "gains": gains}
        rows.append({"model": name, **found.figures, **known})
    for other, values in found.baselines.items():
        rows.append({"model": other, "seed": seed, **{key: values[key] for key in found.figures}})
    return rows


def planted_reviews(folder: pathlib.Path, seed: int, text: str | None, number: int = 6000) -> Tables:
    """Users who care for one aspect each, which their texts name, and items that are good in half of them.

    A rating is 5 or 1 as the item is in the user's aspect, and in a tenth of the rows the other; the text
    says which aspect it was, and how.
    """
    rng = np.random.default_rng(seed)
    aspects, users, items = ["battery", "screen", "sound", "price", "weight", "camera"], 900, 60
    cares = rng.integers(len(aspects), size=users)
    good = rng.random((items, len(aspects))) < 0.5
    rows = []
    for row in range(number):
        user, item = rng.integers(users), rng.integers(items)
        liked = good[item, cares[user]] ^ (rng.random() < 0.1)
        words = f"the {aspects[cares[user]]} is {'wonderful' if liked else 'awful'}"
        rows.append((f"u{user}", f"i{item}", row, 5.0 if liked else 1.0, words))
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "stars", "review"])
    frame.drop_duplicates(["user", "item"]).to_parquet(folder / "reviews.parquet")
    names = [f"i{item}" for item in range(items)]
    pd.DataFrame({"item": names, "title": names}).to_parquet(folder / "things.parquet")
    return Tables(
        Interactions(str(folder / "reviews.parquet"), "user", "item", "time", "stars", text=text),
        Items(str(folder / "things.parquet"), "item", title="title", text=("title",)),
    )


def read_or_not(folder: pathlib.Path, seed: int) -> dict[str, Any]:
    """RMSE of the ranking model with texts and without, and the difference with its interval."""
    errors, owners = [], np.zeros(0, np.int64)
    for text in (None, "review"):
        data = prepare(planted_reviews(folder, seed, text), text=TextConfig(encoder="subwords"))
        parts = {"train": data.train, "validation": data.validation}
        training = TrainingData(
            data.space,
            data.catalogue,
            lambda split, size, shuffle, parts=parts: batches(parts[split], size, shuffle),
            data.labels,
            TextConfig(encoder="subwords"),
        )
        config = dataclasses.replace(RANKING, training=dataclasses.replace(RANKING.training, seed=seed))
        predicted = train_ranking(training, config).model(data.test)["rating"].numpy()
        errors.append((predicted - data.test["rating"]) ** 2)
        owners = data.users
    drawn = resample(group_sums(owners, np.stack([*errors, np.ones(len(owners))], 1)))
    means = np.sqrt(drawn[:, :2] / drawn[:, 2:])
    low, high = interval(means[:, 1] - means[:, 0])
    without, reading = (float(np.sqrt(error.mean())) for error in errors)
    return {"seed": seed, "rows": len(owners), "without": without, "with": reading, "interval": [low, high]}


def show(row: dict[str, Any]) -> None:
    """Prints a row of one of the tables."""
    if "with" in row:
        low, high = row["interval"]
        gain = f"{row['with'] - row['without']:+.4f} [{low:+.4f}, {high:+.4f}]"
        words = (
            f"seed {row['seed']}: RMSE {row['without']:.4f} without texts, {row['with']:.4f} with ({gain})"
        )
        print(f"  {words}, {row['rows']} rows", flush=True)
        return
    gains = "; ".join(
        f"over {other} {gain:+.4f} [{low:+.4f}, {high:+.4f}]"
        for other, (gain, low, high) in row.get("gains", {}).items()
    )
    figures = (
        f"accuracy {row['accuracy']:.4f}  macro F1 {row['macro_f1']:.4f}  log loss {row['log_loss']:.4f}"
    )
    print(f"  {row['model']:<12} {figures}  {gains}", flush=True)
    if "rows" in row:
        print(f"  {'':<12} {row['rows']}, {row['seconds']:.0f} s", flush=True)


def main() -> None:
    """Runs the parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--users", type=int, default=150, help="whose ratings `items` reads")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--encoder", default=TextConfig().encoder)
    parser.add_argument("--json", type=pathlib.Path)
    given = parser.parse_args()
    text, found = TextConfig(encoder=given.encoder), {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for part in given.parts:
            print(f"\n{part}", flush=True)
            found[part] = []
            for seed in range(1, given.seeds + 1):
                if part == "reviews":
                    rows = [read_or_not(folder, seed)]
                else:
                    tables = tagged(folder) if part == "tags" else rated(folder, given.users)
                    rows = classified(tables, "written" if part == "tags" else "items", text, seed)
                found[part] += rows
                for row in rows:
                    show(row)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
