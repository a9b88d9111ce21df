"""Accuracy against diversity and novelty: terms of training, and re-ranking, on the same data and users.

    python -m benchmarks.pareto [--epochs 6] [--seed 1] [--json FILE] [--plot FILE]

MovieLens latest-small without text. Of each user's last ten films the last five are asked for, the five
before them by the rule that chooses a point; the whole catalogue is ranked, once a user, without what they
had rated before. Each way has a weight, and each weight is a point:
NDCG@10, intra-list distance (`1 - cosine` of genres) and novelty in bits (both `metrics.beyond_accuracy`).
Training terms are trained with each weight. MMR and DPP re-rank the 410 best of the model without terms, by
the vectors that are served and by the genres themselves. Models are towers alone, unless `--blend` puts
beside them what is solved, of which the terms change nothing.

The hypervolume of a way is the area that its points and the model without terms cover above a reference: half
of that model's NDCG, and its distance or novelty, both axes in multiples of what the model has. Intervals are
those of a bootstrap over users. The point that is chosen is the most diverse (or novel) one of those whose
NDCG is, on validation, with 95 % confidence no more than `--most-lost` below that of the model without terms.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from benchmarks.quality_data import WORK, latest_small_tables
from benchmarks.quality_models import batches
from pipeline.studies.offline_figures import item_vectors
from tfrec_fusion.config import HISTORY_ENCODERS, RetrievalConfig, SplitConfig
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features.preparing import Prepared, prepare
from tfrec_fusion.layers.reranking import DeterminantalPointProcess, MaximalMarginalRelevance, Reranking
from tfrec_fusion.metrics import accuracy, beyond_accuracy, bootstrap
from tfrec_fusion.models.build import build_two_tower
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.training.fitting import fit

K, CANDIDATES, BATCH, HALF = 10, 410, 256, 5
PLAIN = "no term, no re-ranking"
OBJECTIVES = ("distance", "novelty")
RERANKING = (0.1, 0.2, 0.3, 0.5, 0.7)
COLOURS = ("#3b6fb6", "#d08a2e", "#4c9a6a", "#a05195", "#8a8f98", "#c4554d")


@dataclasses.dataclass(frozen=True)
class Point:
    """A way with one weight.

    Attributes:
        way, weight: what was done, and how much.
        test, validation: `ndcg`, `distance` and `novelty` of each user, float `[users]`.
    """

    way: str
    weight: float
    test: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]


def hypervolume(points: np.ndarray, reference: Sequence[float]) -> float:
    """The area that points cover above a reference, both numbers of a point being the better the higher.

    Exact: from the highest first number to the lowest, each point adds a strip of what it is higher than
    those before it.

    Args:
        points: float `[n, 2]`; one that is not above the reference in both covers nothing.
        reference: the two numbers of the corner.

    Returns:
        At least 0.

    Reference: Zitzler and Thiele, 1998, https://doi.org/10.1007/BFb0056872
    """
    above = np.asarray(points, np.float64).reshape(-1, 2) - np.asarray(reference)
    total, highest = 0.0, 0.0
    for width, height in above[np.argsort(-above[:, 0], kind="stable")]:
        if width > 0 and height > highest:
            total += width * (height - highest)
            highest = height
    return total


def choose(points: Sequence[Point], plain: Point, objective: str, most_lost: float) -> Point:
    """The point with the highest objective of those that are accurate enough, on validation.

    Accurate enough is who loses, with 95 % confidence by a paired bootstrap over users, no more than
    `most_lost` of the plain model's NDCG; the plain model always is.
    """
    base = plain.validation["ndcg"]
    allowed = [plain]
    for point in points:
        difference = point.validation["ndcg"] - base
        low, _ = bootstrap.interval(means(difference[:, None])[:, 0])
        if low >= -most_lost * base.mean():
            allowed.append(point)
    return max(allowed, key=lambda point: np.nanmean(point.validation[objective]))


def means(values: np.ndarray) -> np.ndarray:
    """Means over resampled users: float `[samples, columns]` of `[users, columns]`; NaN counts as no user."""
    order = np.random.default_rng(0).permutation(len(values))
    known = np.isfinite(values)
    sums = bootstrap.group_sums(order, np.concatenate([np.where(known, values, 0), known], 1))
    draws = bootstrap.resample(sums)
    return draws[:, : values.shape[1]] / draws[:, values.shape[1] :]


def volumes(points: Sequence[Point], plain: Point, objective: str) -> tuple[float, np.ndarray]:
    """The hypervolume of a way's points and the plain model in test, and that of each resample of users."""
    both = [plain, *points]
    columns = np.stack([point.test[name] for point in both for name in ("ndcg", objective)], 1)
    scale = np.tile(np.nanmean(columns[:, :2], 0), len(both))
    reference = 0.5, 1.0
    area = hypervolume((np.nanmean(columns, 0) / scale).reshape(-1, 2), reference)
    return area, np.array([hypervolume((row / scale).reshape(-1, 2), reference) for row in means(columns)])


def judge(ranked: np.ndarray, relevant: list[np.ndarray], data: Prepared, vectors: np.ndarray) -> dict:
    """Each user's figures of lists int `[users, K]` of items from 1 on."""
    shown = np.where(ranked > 0, ranked - 1, -1)
    counts = data.catalogue.counts[1:]
    return {
        "ndcg": accuracy.ranking_metrics(ranked, relevant, (K,))[f"ndcg@{K}"],
        "distance": np.array(
            [
                beyond_accuracy.intra_list_diversity(np.arange(len(items))[None], vectors[items])
                for items in (row[row >= 0] for row in shown)
            ]
        ),
        "novelty": np.array([beyond_accuracy.novelty(row[None], counts) for row in shown]),
    }


def trained(data: Prepared, options: argparse.Namespace, **weights: float) -> TwoTower:
    """A two-tower model of the default settings but for what the options and the weights say."""
    config = RetrievalConfig(negatives=options.negatives, **weights)
    tower = dataclasses.replace(config.tower, history_encoder=options.history_encoder)
    training = dataclasses.replace(config.training, seed=options.seed, epochs=options.epochs)
    solved = {} if options.blend else {"collaborative_dim": 0, "content_dim": 0}
    config = dataclasses.replace(config, tower=tower, training=training, **solved)
    model = build_two_tower(config, data.space, data.catalogue)
    train = batches(data.train, config.training.batch_size, True)
    fit(model, train, batches(data.validation, 512, False), training, progress=False)
    return model


def reranked(
    layer: Reranking, scores: np.ndarray, ranked: np.ndarray, vectors: np.ndarray, weight: float
) -> np.ndarray:
    """int64 `[users, K]`: the best of `ranked` int `[users, candidates]`, -1 where there is no more."""
    there = ranked > 0
    values = np.where(there, np.take_along_axis(scores, np.maximum(ranked, 0), 1), -np.inf)
    parts = []
    for start in range(0, len(ranked), BATCH):
        part = slice(start, start + BATCH)
        picked = layer(
            tf.constant(values[part]), tf.constant(vectors[np.maximum(ranked[part], 0)]), weight, K
        )
        found = np.take_along_axis(ranked[part], np.maximum(picked.numpy(), 0), 1)
        parts.append(np.where(picked.numpy() < 0, -1, found))
    return np.concatenate(parts)


class Questions:
    """A query of each user, and what they chose afterwards.

    Args:
        data: everything but each user's last films.
        after: `userId` and `movieId` of those, in order.
    """

    def __init__(self, data: Prepared, after: pd.DataFrame):
        self.data, self.vectors = data, item_vectors(data)
        last = data.test["item_index"]
        self.columns = {name: tf.constant(values) for name, values in data.test.items()}
        self.seen = [np.append(items, item) for items, item in zip(data.seen, last, strict=True)]
        history = np.concatenate([data.test["history"][:, 1:], last[:, None]], 1)
        self.columns["history"] = tf.constant(history)
        item_of = {item: row for row, item in enumerate(data.catalogue.ids)}
        of_user = after["movieId"].map(item_of).groupby(after["userId"]).agg(list)
        films = of_user.loc[np.unique(of_user.index.to_numpy(str))[data.users]]
        self.relevant = {
            "validation": [np.array(items[:HALF]) for items in films],
            "test": [np.array(items[HALF:]) for items in films],
        }

    def point(self, way: str, weight: float, lists: np.ndarray) -> Point:
        """A way's figures, of its lists int `[users, K]`."""
        found = {part: judge(lists, films, self.data, self.vectors) for part, films in self.relevant.items()}
        values = ", ".join(f"{name} {np.nanmean(one):.4f}" for name, one in found["test"].items())
        print(f"  {way} {weight:g}: {values}", flush=True)
        return Point(way, weight, **found)

    def scores(self, model: TwoTower, items: np.ndarray) -> np.ndarray:
        """float32 `[users, N + 1]`."""
        return model.query_embeddings(self.columns, items=tf.constant(items)).numpy() @ items.T

    def ranked(self, scores: np.ndarray, k: int) -> np.ndarray:
        """The best of what a user has not met, int64 `[users, k]`."""
        allowed = np.arange(scores.shape[1]) > 0
        return accuracy.rank_scores(
            lambda rows: scores[rows], len(scores), scores.shape[1], self.seen, k=k, allowed=allowed
        )


def prepared() -> tuple[Prepared, pd.DataFrame]:
    """The data without each user's last films, and these."""
    tables = latest_small_tables()
    ratings = pd.read_parquet(tables.interactions.path)
    ratings = ratings.assign(time=ratings["timestamp"].astype(int)).sort_values("time", kind="stable")
    after = ratings.groupby("userId").tail(2 * HALF)
    path = WORK / "latest_small" / "before_the_last_ten.parquet"
    ratings.drop(after.index).drop(columns="time").to_parquet(path)
    interactions = dataclasses.replace(tables.interactions, path=str(path))
    tables = Tables(interactions, dataclasses.replace(tables.items, text=()))
    return prepare(tables, SplitConfig(method="leave_last_out")), after


def measure(options: argparse.Namespace) -> list[Point]:
    """Every point, the model without terms first."""
    data, after = prepared()
    questions, points = Questions(data, after), []

    def learned(way: str, weight: float, **weights: float) -> tuple[np.ndarray, np.ndarray]:
        start = time.process_time()
        model = trained(data, options, **weights)
        items = model.candidate_embeddings().numpy()
        scores = questions.scores(model, items)
        points.append(questions.point(way, weight, questions.ranked(scores, K)))
        print(f"    {time.process_time() - start:.0f} s of a processor", flush=True)
        return items, scores

    items, scores = learned(PLAIN, 0.0)
    best = questions.ranked(scores, CANDIDATES)
    genres = np.concatenate([np.zeros_like(questions.vectors[:1]), questions.vectors])
    for name, layer in (("MMR", MaximalMarginalRelevance()), ("DPP", DeterminantalPointProcess())):
        for by, vectors in (("served vectors", items), ("genres", genres)):
            for weight in RERANKING:
                lists = reranked(layer, scores, best, vectors, weight)
                points.append(questions.point(f"{name}, {by}", weight, lists))
    for setting, weights in (
        ("diversity_weight", options.diversity_weights),
        ("popularity_penalty", options.popularity_penalties),
    ):
        for weight in weights:
            learned(f"training, {setting}", weight, **{setting: weight})
    return points


def summary(points: Sequence[Point], most_lost: float) -> dict:
    """Figures of every point, and of each way its hypervolume and the chosen point, for each objective."""
    plain, result = points[0], {"points": [], "ways": []}
    for point in points:
        figures = {name: float(np.nanmean(values)) for name, values in point.test.items()}
        result["points"].append({"way": point.way, "weight": point.weight} | figures)
    ways = list(dict.fromkeys(point.way for point in points[1:]))
    for objective in OBJECTIVES:
        found = {way: volumes([one for one in points if one.way == way], plain, objective) for way in ways}
        highest = max(found, key=lambda way: found[way][0])
        for way, (area, draws) in found.items():
            chosen = choose([one for one in points if one.way == way], plain, objective, most_lost)
            result["ways"].append(
                {
                    "objective": objective,
                    "way": way,
                    "hypervolume": area,
                    "interval": bootstrap.interval(draws),
                    "to the highest": bootstrap.interval(draws - found[highest][1]),
                    "chosen": 0.0 if chosen is plain else chosen.weight,
                    "ndcg": float(np.nanmean(chosen.test["ndcg"])),
                    objective: float(np.nanmean(chosen.test[objective])),
                }
            )
    return result


def show(result: dict) -> None:
    """Both tables."""
    print("\n| way | weight | NDCG@10 | distance | novelty |\n|---|---|---|---|---|")
    for row in result["points"]:
        print(
            f"| {row['way']} | {row['weight']:g} | {row['ndcg']:.4f} | {row['distance']:.3f} |"
            f" {row['novelty']:.2f} |"
        )
    print("\n| beside NDCG | way | hypervolume | to the highest | chosen weight | NDCG@10 | value |")
    print("|---|---|---|---|---|---|---|")
    for row in result["ways"]:
        (low, high), (least, most) = row["interval"], row["to the highest"]
        print(
            f"| {row['objective']} | {row['way']} | {row['hypervolume']:.3f} [{low:.3f}, {high:.3f}] |"
            f" [{least:+.3f}, {most:+.3f}] | {row['chosen']:g} | {row['ndcg']:.4f} |"
            f" {row[row['objective']]:.3f} |"
        )


def plot(result: dict, path: str) -> None:
    """Both fronts."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4))
    plain, ways = result["points"][0], list(dict.fromkeys(row["way"] for row in result["points"][1:]))
    for panel, objective in zip(panels, OBJECTIVES, strict=True):
        for way, colour in zip(ways, COLOURS, strict=True):
            rows = [plain, *(row for row in result["points"] if row["way"] == way)]
            style = {"color": colour, "linewidth": 1.2, "markersize": 4}
            marker = "o-" if way.startswith("training") else "s--"
            values = [row[objective] for row in rows], [row["ndcg"] for row in rows]
            panel.plot(*values, marker, label=way, **style)
        panel.plot(plain[objective], plain["ndcg"], "k*", markersize=10, label=PLAIN)
        panel.set_xlabel(
            {"distance": "intra-list distance by genres", "novelty": "novelty (bits)"}[objective]
        )
        panel.set_ylabel("NDCG@10")
        panel.spines[["top", "right"]].set_visible(False)
    panels[1].legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=6)
    default = RetrievalConfig()
    parser.add_argument("--negatives", type=int, default=default.negatives)
    parser.add_argument("--history-encoder", choices=HISTORY_ENCODERS, default=default.tower.history_encoder)
    parser.add_argument("--blend", action="store_true", help="with what is solved beside the towers")
    parser.add_argument("--diversity-weights", type=float, nargs="+", default=[0.3, 1, 2, 4, 8])
    parser.add_argument("--popularity-penalties", type=float, nargs="+", default=[0.2, 0.5, 1, 2, 4])
    parser.add_argument(
        "--most-lost", type=float, default=0.1, help="share of NDCG, by the rule's confidence"
    )
    parser.add_argument("--json", help="file that receives all figures")
    parser.add_argument("--plot", help="PNG file that receives both fronts")
    options = parser.parse_args()
    result = summary(measure(options), options.most_lost)
    show(result)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result, indent=2), encoding="utf-8")
    if options.plot:
        plot(result, options.plot)


if __name__ == "__main__":
    main()
