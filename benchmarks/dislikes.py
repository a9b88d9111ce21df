"""What it is worth to know which films a user disliked: ratings below 3 as choices, left out, as negatives.

    python -m benchmarks.dislikes [--epochs 8] [--weights 0.3 1] [--below 3] [--json FILE]

MovieLens latest-small without text. Of each user the last film rated at least 3 is asked for, after what
they rated before it; of what they rated lower before that, the last is hidden too where there are two. The
retrieval model is fitted as `tfrec_fusion.Recommender` fits it, what is solved beside the towers and the
refit included, to the same rows: with every rating a choice (the default), with those below 3 dislikes
(`interactions.dislikes_below`), and with these negatives (`retrieval.dislike_weight`). The whole catalogue is
ranked without what the user had rated by then. Intervals of differences to the first row are those of a
paired bootstrap over users.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib

import numpy as np
import pandas as pd
import tensorflow as tf

from benchmarks.pareto import means
from benchmarks.quality_data import WORK, latest_small_tables
from tfrec_fusion.config import HISTORY_ENCODERS, RetrievalConfig, SplitConfig
from tfrec_fusion.config.recommender import RecommenderConfig
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.in_memory.fitted import Fitted, fit_models
from tfrec_fusion.metrics import accuracy, bootstrap

FIGURES = ("ndcg@10", "recall@100", "disliked above", "disliked in 100")


@dataclasses.dataclass(frozen=True)
class Questions:
    """Ratings to learn from, and what each user is asked.

    Attributes:
        known: `userId`, `movieId`, `rating`, `timestamp` to learn from.
        users: whom to ask, `[users]`.
        liked: the film that each chose next, `[users]`.
        disliked: a hidden film that each rated lower, `[users]`, `""` for none.
    """

    known: pd.DataFrame
    users: np.ndarray
    liked: np.ndarray
    disliked: np.ndarray


def questions(ratings: pd.DataFrame, below: float) -> Questions:
    """Hides each user's last liked film with what came after it, and one that they disliked before."""
    ratings = ratings.assign(time=ratings["timestamp"].astype(int), stars=ratings["rating"].astype(float))
    ratings = ratings.sort_values(["userId", "time"], kind="stable").reset_index(drop=True)
    liked = ratings[ratings["stars"] >= below].groupby("userId").tail(1)
    known = ratings[ratings.index < ratings["userId"].map(pd.Series(liked.index, liked["userId"])).fillna(-1)]
    low = known[known["stars"] < below].groupby("userId")
    hidden = low.tail(1)[low["stars"].transform("size").loc[low.tail(1).index] > 1]
    users = liked["userId"].to_numpy()
    disliked = hidden.set_index("userId")["movieId"].reindex(users).fillna("")
    return Questions(
        known.drop(hidden.index)[["userId", "movieId", "rating", "timestamp"]],
        users,
        liked["movieId"].to_numpy(),
        disliked.to_numpy(),
    )


def fitted(asked: Questions, below: float | None, weight: float, options: argparse.Namespace) -> Fitted:
    """A retrieval model fitted to what is known."""
    tables = latest_small_tables()
    path = WORK / "latest_small" / "before_the_last_liked.parquet"
    asked.known.to_parquet(path)
    interactions = dataclasses.replace(
        tables.interactions, path=str(path), label="rating", dislikes_below=below
    )
    tables = Tables(interactions, dataclasses.replace(tables.items, text=()))
    solved = {"collaborative_dim": 0, "content_dim": 0} if options.towers_alone else {}
    retrieval = RetrievalConfig(dislike_weight=weight, negatives=options.negatives, **solved)
    tower = dataclasses.replace(retrieval.tower, history_encoder=options.history_encoder)
    training = dataclasses.replace(retrieval.training, seed=options.seed, epochs=options.epochs)
    config = RecommenderConfig(
        split=SplitConfig(method="leave_last_out"),
        text=None,
        retrieval=dataclasses.replace(retrieval, tower=tower, training=training),
        ranking=None,
    )
    return fit_models(tables, config)


def judge(model: Fitted, asked: Questions) -> dict[str, np.ndarray]:
    """Each user's figures, float `[users]`; NaN of users with nothing to judge by."""
    profiles, catalogue = model.known.profiles, model.catalogue
    row_of = {user: row for row, user in enumerate(profiles.ids)}
    item_of = {item: row for row, item in enumerate(catalogue.ids)}
    rows = np.array([row_of.get(user, 0) for user in asked.users])
    history = np.zeros((len(rows), profiles.history_length), np.int32)
    for place, row in enumerate(rows):
        items = profiles.history_items[profiles.history_splits[row] : profiles.history_splits[row + 1]]
        history[place, len(history[place]) - len(items) :] = items
    batch = {name: tf.constant(values[rows]) for name, values in profiles.features.items()}
    items = model.retrieval.candidate_embeddings()
    queries = model.retrieval.query_embeddings({**batch, "history": tf.constant(history)}, items=items)
    scores = queries.numpy() @ items.numpy().T
    rated = asked.known["movieId"].map(item_of).to_numpy()
    of_user = asked.known.groupby("userId").indices
    met = [rated[of_user[user]] if user in of_user else np.zeros(0, int) for user in asked.users]
    ranked = accuracy.rank_scores(
        lambda part: scores[part], len(scores), scores.shape[1], met, allowed=np.arange(scores.shape[1]) > 0
    )
    liked = np.array([item_of[item] for item in asked.liked])
    figures = accuracy.ranking_metrics(ranked, list(liked[:, None]), (10, 100))
    low = np.array([item_of.get(item, 0) for item in asked.disliked])
    every = np.arange(len(scores))
    above = np.where(low > 0, scores[every, low] > scores[every, liked], np.nan)
    listed = np.where(low > 0, (ranked == low[:, None]).any(1), np.nan)
    values = figures["ndcg@10"], figures["recall@100"], above, listed
    return dict(zip(FIGURES, values, strict=True))


def summary(results: dict[str, dict[str, np.ndarray]]) -> dict[str, dict]:
    """Means by row and figure, and the interval of the difference to the first row."""
    first = next(iter(results.values()))
    table: dict[str, dict] = {}
    for name, row in results.items():
        table[name] = {figure: {"mean": float(np.nanmean(row[figure]))} for figure in FIGURES}
        if row is not first:
            for figure in FIGURES:
                draws = means((row[figure] - first[figure])[:, None])[:, 0]
                table[name][figure]["interval"] = bootstrap.interval(draws)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.3, 1.0])
    default = RetrievalConfig()
    parser.add_argument("--negatives", type=int, default=default.negatives)
    parser.add_argument("--history-encoder", choices=HISTORY_ENCODERS, default=default.tower.history_encoder)
    parser.add_argument("--towers-alone", action="store_true", help="without what is solved beside them")
    parser.add_argument("--below", type=float, default=3.0)
    parser.add_argument("--json", help="file that receives all figures")
    options = parser.parse_args()
    ratings = pd.read_parquet(latest_small_tables().interactions.path)
    asked = questions(ratings, options.below)
    print(f"{len(asked.users)} users, {(asked.disliked != '').sum()} of them with a hidden disliked film")
    variants = {"every rating is a choice": (None, 0.0), "dislikes left out": (options.below, 0.0)}
    variants |= {
        f"dislikes as negatives, weight {weight:g}": (options.below, weight) for weight in options.weights
    }
    results = {}
    for name, (below, weight) in variants.items():
        results[name] = judge(fitted(asked, below, weight, options), asked)
        print(
            name,
            {figure: round(float(np.nanmean(results[name][figure])), 4) for figure in FIGURES},
            flush=True,
        )
    table = summary(results)
    print(f"\n| | {' | '.join(FIGURES)} |\n|---|{'---|' * len(FIGURES)}")
    for name, row in table.items():
        cells = []
        for figure in FIGURES:
            ends = row[figure].get("interval")
            cells.append(
                f"{row[figure]['mean']:.4f}" + (f" [{ends[0]:+.4f}, {ends[1]:+.4f}]" if ends else "")
            )
        print(f"| {name} | {' | '.join(cells)} |")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(table, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
