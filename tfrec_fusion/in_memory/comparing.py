"""An earlier model beside a newer one on the newest interactions, which neither was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.features.preparing import Prepared
from tfrec_fusion.metrics.bootstrap import group_sums, interval, resample
from tfrec_fusion.metrics.pointwise import log_losses
from tfrec_fusion.metrics.ranks import per_user_figures
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.hybrid.repeats import with_repeats
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.models.two_tower import TwoTower

__all__ = ["Comparison", "compare", "compare_ranking", "ranks_of", "rows_before"]

ROWS = 1024  # judged at once
LOWER_IS_BETTER = ("rmse", "log_loss")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Both models on the newest interactions.

    Attributes:
        users: how many there are.
        before, after: the figure of the earlier and of the new model.
        low, high: ends of the 95 % interval of the difference, from a bootstrap over users.
        figure: `ndcg@k`, a mean over users; `rmse` or `log_loss`, over interactions, where less is better.
    """

    users: int
    before: float
    after: float
    low: float
    high: float
    figure: str

    def reasons(self, max_drop: float | None) -> list[str]:
        """Why the new model must not take the earlier one's place; empty where it may: unless it is worse by
        more than `max_drop` with the whole interval."""
        if not self.users:
            return [
                f"nobody in the newest window can be judged by {self.figure}: all of it repeats what users"
                " chose before"
            ]
        higher = self.figure not in LOWER_IS_BETTER
        kindest = self.high if higher else -self.low
        if max_drop is None or not kindest < -max_drop:
            return []
        return [
            f"{self.figure} on the newest window is {self.after:.4f}, before {self.before:.4f}:"
            f" {'lower' if higher else 'higher'} by more than {max_drop:g} (95 % interval of the difference"
            f" {self.low:+.4f} to {self.high:+.4f})"
        ]


def compare(
    old: TwoTower, new: TwoTower, data: Prepared, item_rows: np.ndarray, user_rows: np.ndarray, k: int = 10
) -> Comparison:
    """NDCG of both on the test interactions, items that a user chose before left out.

    Args:
        old, new: the models.
        data: as the new model takes it.
        item_rows, user_rows: where each of its items and users stood in the old one; -1 where it did not.
        k: the cutoff.
    """
    asked = _asked(data)
    before = rows_before(old, asked, item_rows, user_rows)
    ranks = [
        ranks_of(new, asked, asked, data.seen, np.arange(len(item_rows)))[0],
        ranks_of(old, before, asked, data.seen, item_rows)[0],
    ]
    usable = np.isfinite(ranks[0]) | np.isfinite(ranks[1])
    target, owners = asked["item_index"][usable], data.users[usable]
    if not len(target):
        return Comparison(0, np.nan, np.nan, np.nan, np.nan, f"ndcg@{k}")
    values = [per_user_figures(owners, rank[usable], [k], target)[f"ndcg@{k}"] for rank in ranks]
    difference = values[0] - values[1]
    counts = np.arange(len(difference))
    sums = group_sums(counts, np.stack([difference, np.ones(len(difference))], 1))
    drawn = resample(sums)
    low, high = interval(drawn[:, 0] / np.maximum(drawn[:, 1], 1e-9))
    return Comparison(
        len(difference), float(values[1].mean()), float(values[0].mean()), low, high, f"ndcg@{k}"
    )


def compare_ranking(
    old: Ranking, new: Ranking, data: Prepared, item_rows: np.ndarray, user_rows: np.ndarray
) -> Comparison:
    """Errors of both on the test interactions: the root mean squared error of ratings, where there are any;
    else the log loss of choices and as many items that are drawn uniformly, as in training.

    Args:
        old, new, data, item_rows, user_rows: as in `compare`.
    """
    rated, asked = new.rated, _asked(data)
    owners = data.users
    if rated is None:
        drawn = np.random.default_rng(0).integers(1, len(item_rows), len(owners), np.int32)
        asked = {name: np.concatenate([values, values]) for name, values in asked.items()}
        asked["item_index"] = np.concatenate([asked["item_index"][: len(owners)], drawn])
        asked["click"] = np.repeat(np.array([1, 0], np.float32), len(owners))
        owners = np.concatenate([owners, owners])
    label = rated or "click"
    usable = ~np.isnan(asked[label])
    asked, owners = {name: values[usable] for name, values in asked.items()}, owners[usable]
    if not len(owners):
        return Comparison(0, np.nan, np.nan, np.nan, np.nan, "rmse")
    before = rows_before(old, asked, item_rows, user_rows)
    before["item_index"] = np.maximum(item_rows, 0)[asked["item_index"]].astype(np.int32)
    errors = []
    for model, columns in ((new, asked), (old, before)):
        predicted = np.concatenate([values[label].numpy() for values in _parts(model, columns)])
        if rated is None:
            errors.append(log_losses(asked[label], predicted))
        else:
            errors.append((predicted - asked[label]).astype(np.float64) ** 2)
    owners = np.unique(owners, return_inverse=True)[1].reshape(-1)
    sums = group_sums(owners, np.stack([*errors, np.ones(len(owners))], 1))
    finish = np.sqrt if rated else np.asarray
    drawn = resample(sums)
    means = [finish(drawn[:, column] / np.maximum(drawn[:, 2], 1e-9)) for column in (0, 1)]
    low, high = interval(means[0] - means[1])
    after, earlier = (float(finish(values.mean())) for values in errors)
    figure = "rmse" if rated else "log_loss"
    return Comparison(int(owners.max()) + 1, earlier, after, low, high, figure)


def rows_before(
    old: Model, columns: Mapping[str, np.ndarray], item_rows: np.ndarray, user_rows: np.ndarray
) -> dict[str, np.ndarray]:
    """A query's columns as an earlier model takes them: users and histories by its rows, and values of
    features that it does not know as unknown ones. `item_index` stays as it is."""
    items, users = np.maximum(item_rows, 0), np.maximum(user_rows, 0)
    before = {**columns, "user_index": users[columns["user_index"]].astype(np.int32),
              "history": items[columns["history"]].astype(np.int32)}  # fmt: skip
    # A history that is shorter for want of an item is padded on the left again.
    order = np.argsort(before["history"] > 0, axis=1, kind="stable")
    before["history"] = np.take_along_axis(before["history"], order, 1)
    for feature in old.query_features:
        if feature.kind in ("categorical", "categories"):
            values = before[feature.name]
            before[feature.name] = np.where(values < feature.size, values, 0).astype(values.dtype)
    return before


def ranks_of(
    model: TwoTower,
    columns: Mapping[str, np.ndarray],
    asked: Mapping[str, np.ndarray],
    seen: Sequence[np.ndarray],
    rows: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The rank of each target among all items of the new catalogue that its user did not choose before, or
    among all where the model knows repeats; of equal scores the middle one, rounded up; and its score.
    Infinite where the model does not know the item or it was seen.

    Args:
        model: asked.
        columns: its inputs.
        asked: `item_index` int32 `[n]`, the targets, and `history` int32 `[n, H]`, by the new catalogue.
        seen: per row the items chosen before, likewise.
        rows: of each item of the new catalogue its row in the model; -1 where it has none.

    Returns:
        float64 `[n]` both: ranks from 1, and scores.
    """
    vectors = model.candidate_embeddings(tf.constant(np.maximum(rows, 0), tf.int32)).numpy()
    targets = asked["item_index"]
    ranks, found = np.full(len(targets), np.inf), np.full(len(targets), -np.inf)
    for start in range(0, len(targets), ROWS):
        part = slice(start, start + ROWS)
        queries = model.query_embeddings(
            {name: tf.constant(values[part]) for name, values in columns.items()}
        )
        scores = with_repeats(model.repeats, asked["history"][part], queries.numpy() @ vectors.T)
        scores[:, rows < 1] = -np.inf
        for row, items in enumerate(seen[part] if model.repeats is None else ()):
            scores[row, items] = -np.inf
        own = scores[np.arange(len(scores)), targets[part]]
        above = (scores > own[:, None]).sum(1)
        level = (scores == own[:, None]).sum(1)
        ranks[part] = np.where(np.isfinite(own), above + np.ceil((level + 1) / 2), np.inf)
        found[part] = own
    return ranks, found


def _asked(data: Prepared) -> dict[str, np.ndarray]:
    return {name: values for name, values in data.test.items() if name not in ("chosen", "exposure")}


def _parts(model: Ranking, columns: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    count = len(columns["item_index"])
    return [
        model({name: tf.constant(values[start : start + ROWS]) for name, values in columns.items()})
        for start in range(0, count, ROWS)
    ]
