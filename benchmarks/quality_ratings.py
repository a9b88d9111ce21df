"""The protocol of `benchmarks.quality` that asks for ratings: MovieLens 100K's own first split of 80,000 and
20,000.

The 20,000 ratings asked for are the published file's first, which is GroupLens's split u1: they are by 459
users, of whom about two fifths of the ratings are asked for. A tenth of the others, drawn once, is
validation. Ours are the defaults, which learn from the rest; Surprise's models, where `make peers` made their
environment, are tuned on validation and then learn from all 80,000. Ours read genres, titles, and users's
age, gender and occupation, which those cannot.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import pandas as pd
import scipy.sparse
import tensorflow as tf

from benchmarks.peak_memory import forget_peak, peak_megabytes
from benchmarks.quality_data import movielens_tables, prepared
from benchmarks.quality_peers import PEERS_PYTHON
from tfrec_fusion.config import Feature, FeatureSpace, RankingConfig
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.metrics import bootstrap
from tfrec_fusion.models.build import build_ranking
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.hybrid.rating_solving import VariationalFactors
from tfrec_fusion.training.fitting import fit

ASKED, USERS_ASKED = 20_000, 459
SHARE, HISTORY = 0.1, 50
VARIANTS = ("network alone", "factors alone", "ranking model")
NAME = "MovieLens 100K, ratings"


@dataclasses.dataclass(frozen=True)
class Ratings:
    """Every rating, and which part it is in.

    Attributes:
        space, catalogue: what models are built of.
        user, item: int32 `[n]`, indices.
        rating: float32 `[n]`.
        users: int32 and float32 `[num_users]` by name, the features of users.
        order: int64 `[n]`, the ratings by time.
        train, validation, test: int64, their rows.
    """

    space: FeatureSpace
    catalogue: Catalogue
    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    users: dict[str, np.ndarray]
    order: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def columns(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What a model is asked with; a history is what a user rated in training, but for the item in
        question."""
        seen: list[list[int]] = [[] for _ in range(self.space.num_users)]
        known = np.zeros(len(self.user), bool)
        known[self.train] = True
        for row in self.order[known[self.order]]:
            seen[self.user[row]].append(self.item[row])
        history = np.zeros((len(rows), HISTORY), np.int32)
        for position, row in enumerate(rows):
            others = [item for item in seen[self.user[row]] if item != self.item[row]][-HISTORY:]
            history[position, HISTORY - len(others) :] = others
        columns = {"user_index": self.user[rows], "item_index": self.item[rows], "history": history}
        of_users = {name: values[self.user[rows]] for name, values in self.users.items()}
        return columns | of_users | {"rating": self.rating[rows]}

    def triples(self, rows: np.ndarray) -> np.ndarray:
        """float64 `[rows, 3]`: user, item, rating."""
        return np.stack([self.user[rows], self.item[rows], self.rating[rows]], 1).astype(np.float64)


def read() -> Ratings:
    """Reads and splits.

    Raises:
        ValueError: if the ratings are not in the published order, on which the split rests.
    """
    tables = movielens_tables()
    data = prepared("movielens_ratings", Tables(tables.interactions, tables.items), "leave_last_out")
    frame = pd.read_parquet(tables.interactions.path)
    if frame["user_id"][:ASKED].nunique() != USERS_ASKED:
        raise ValueError(
            f"The first {ASKED} ratings must be by {USERS_ASKED} users, as in the published file. Received:"
            f" {frame['user_id'][:ASKED].nunique()}. Take the files of GroupLens or of RecBole as they are."
        )
    item_of = {item: row for row, item in enumerate(data.catalogue.ids)}
    ids = sorted(frame["user_id"].unique())
    user_of = {user: row for row, user in enumerate(ids, 1)}
    users = pd.read_parquet(pathlib.Path(tables.interactions.path).with_name("users.parquet"))
    users = users.set_index("user_id").loc[ids]
    features, columns = [], {}
    for name in ("gender", "occupation"):
        codes, words = pd.factorize(users[name])
        features.append(Feature(name, "categorical", len(words) + 1))
        columns[name] = np.append(0, codes + 1).astype(np.int32)
    age = users["age"].astype(float)
    features.append(Feature("age", "number"))
    columns["age"] = np.append(0, (age - age.mean()) / age.std()).astype(np.float32)
    drawn = ASKED + np.random.default_rng(0).permutation(len(frame) - ASKED)
    size = int(SHARE * len(drawn))
    return Ratings(
        dataclasses.replace(
            data.space, num_users=len(ids) + 1, user_features=tuple(features), history_length=HISTORY
        ),
        data.catalogue,
        frame["user_id"].map(user_of).to_numpy(np.int32),
        frame["item_id"].map(item_of).to_numpy(np.int32),
        frame["rating"].to_numpy(np.float32),
        columns,
        np.argsort(frame["timestamp"].to_numpy(np.int64), kind="stable"),
        np.sort(drawn[size:]),
        np.sort(drawn[:size]),
        np.arange(ASKED),
    )


def ours(data: Ratings, seed: int) -> tuple[dict[str, np.ndarray], float, float]:
    """Predictions of the default ranking model and of its halves, its seconds, and its peak memory in MB."""
    config = RankingConfig()
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, seed=seed))

    def batches(rows: np.ndarray, size: int, shuffle: bool = False) -> tf.data.Dataset:
        stream = tf.data.Dataset.from_tensor_slices(data.columns(rows))
        return (stream.shuffle(len(rows), seed=seed) if shuffle else stream).batch(size)

    forget_peak()
    start = time.perf_counter()
    mean = float(data.rating[data.train].mean())
    model = build_ranking(config, data.space, data.catalogue, {"rating": "rating"}, {"rating": mean})
    train = batches(data.train, config.training.batch_size, shuffle=True)
    fit(model, train, batches(data.validation, 4096), config.training, progress=False)
    seconds, memory = time.perf_counter() - start, peak_megabytes()
    results, weight = {}, float(model.rating_factors.weight.numpy())
    for name, share in zip(VARIANTS, (0.0, 1.0, weight), strict=True):
        model.rating_factors.weight.assign(share)
        answers = [model(batch)["rating"].numpy() for batch in batches(data.test, 4096)]
        results[name] = np.clip(np.concatenate(answers), 1, 5)
    return results, seconds, memory


def from_ratings_alone(data: Ratings) -> tuple[np.ndarray, float, float]:
    """Predictions of the factors by themselves, which know nothing but ratings; seconds, and peak memory in
    MB."""
    forget_peak()
    start = time.perf_counter()
    shape = (data.space.num_users, data.space.num_items)
    pairs = (data.user[data.train], data.item[data.train])
    matrix = scipy.sparse.csr_matrix((data.rating[data.train], pairs), shape=shape)
    nothing = np.zeros((shape[1], 0)), scipy.sparse.csr_matrix((shape[0], 0))
    solution = VariationalFactors(RankingConfig().rating_dim).fit(matrix, *nothing)
    results = np.clip(solution.predict(data.user[data.test], data.item[data.test]), 1, 5)
    return results, time.perf_counter() - start, peak_megabytes()


def peers(data: Ratings) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
    """Predictions of Surprise's models, and what is to be said of each."""
    with tempfile.TemporaryDirectory() as folder:
        question, answer = pathlib.Path(folder, "question.npz"), pathlib.Path(folder, "answer.npz")
        parts = {"train": data.train, "validation": data.validation, "test": data.test}
        np.savez(question, **{name: data.triples(rows) for name, rows in parts.items()})
        script = pathlib.Path(__file__).with_name("surprise_peers.py")
        subprocess.run([str(PEERS_PYTHON), str(script), str(question), str(answer)], check=True)
        answers = np.load(answer)
        notes = json.loads(str(answers["notes"]))
        return {name: answers[name] for name in notes}, notes


def measure(seeds: list[int]) -> dict:
    """Every model's errors, and the interval of the difference to the best peer."""
    data = read()
    truth, table, predictions = data.rating[data.test], {}, {}
    if PEERS_PYTHON.exists():
        answers, notes = peers(data)
        for name, values in answers.items():
            table[name] = notes[name] | errors(values, truth)
            predictions[name] = values
    results, seconds, memory = from_ratings_alone(data)
    details = {"settings": "", "seconds": seconds, "megabytes": memory}
    table["factors alone, from ratings alone"] = details | errors(results, truth)
    runs = [ours(data, seed) for seed in seeds]
    for name in VARIANTS:
        rows = [errors(results[name], truth) for results, _, _ in runs]
        table[name] = {
            "settings": "",
            "seconds": float(np.mean([seconds for _, seconds, _ in runs])),
            "megabytes": float(np.max([memory for _, _, memory in runs])),
        }
        for figure in ("rmse", "mae"):
            values = [row[figure] for row in rows]
            table[name][figure] = float(np.mean(values))
            if len(values) > 1:
                table[name][f"{figure} error"] = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    result = {"ratings": len(truth), "users": len(np.unique(data.user[data.test])), "models": table}
    if predictions:
        best = min(predictions, key=lambda name: table[name]["rmse"])
        squares = np.mean([(results["ranking model"] - truth) ** 2 for results, _, _ in runs], 0)
        _, user = np.unique(data.user[data.test], return_inverse=True)
        sums = np.stack([squares, (predictions[best] - truth) ** 2, np.ones(len(truth))], 1)
        draws = bootstrap.resample(bootstrap.group_sums(user, sums))
        roots = np.sqrt(draws[:, :2] / draws[:, 2:])
        low, high = bootstrap.interval(roots[:, 0] - roots[:, 1])
        difference = float(np.sqrt(squares.mean()) - table[best]["rmse"])
        result["rmse against the best peer"] = {
            "best peer": best,
            "difference": difference,
            "interval": [low, high],
        }
    return result


def errors(predictions: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Root mean square and mean absolute error."""
    apart = predictions - truth
    return {"rmse": float(np.sqrt(np.mean(apart**2))), "mae": float(np.mean(np.abs(apart)))}


def show(result: dict) -> None:
    """The table."""
    print(f"\n{NAME}: {result['ratings']:,} by {result['users']} users")
    print("| model | RMSE | MAE | seconds | MB | settings |\n|---|---|---|---|---|---|")
    for name, row in result["models"].items():
        cells = [
            f"{row[figure]:.4f}" + (f" ± {row[f'{figure} error']:.4f}" if f"{figure} error" in row else "")
            for figure in ("rmse", "mae")
        ]
        print(
            f"| {name} | {' | '.join(cells)} | {row['seconds']:.0f} | {row['megabytes']:.0f} |"
            f" {row['settings']} |"
        )
    if versus := result.get("rmse against the best peer"):
        low, high = versus["interval"]
        print(
            f"ranking model − {versus['best peer']}: {versus['difference']:+.4f} [{low:+.4f}, {high:+.4f}]",
            flush=True,
        )
