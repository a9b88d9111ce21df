"""Baselines of a run, fitted on its training interactions, and the ranks that they give to held-out items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import scipy.sparse
import tensorflow as tf

from pipeline.data.catalogue_reading import split_files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.features.padding import left_padded
from tfrec_fusion.losses import confidence
from tfrec_fusion.metrics.ranks import target_ranks, tie_order
from tfrec_fusion.models import baselines
from tfrec_fusion.models.hybrid.repeats import Repeats, baseline_weights
from tfrec_fusion.training import progress

SCORES = 2**23  # numbers that a block of scores holds at most
REPEAT = "repeat"
COUNTING = "als"  # the baseline that reads how much each interaction counts


def training_pairs(uri: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """User and item ids (bytes) of all training interactions, and how much each counts, batch by batch."""
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in ("user_id", "item_id")}
    spec["weight"] = tf.io.FixedLenFeature([], tf.float32, default_value=1.0)
    spec["chosen"] = tf.io.FixedLenFeature([], tf.float32, default_value=1.0)
    data = tf.data.TFRecordDataset(split_files(uri, "train"), compression_type="GZIP").batch(8192)
    for batch in data.map(lambda records: tf.io.parse_example(records, spec)):
        chosen = batch["chosen"].numpy() > 0
        counts = confidence(batch["weight"]).numpy()
        yield batch["user_id"].numpy()[chosen], batch["item_id"].numpy()[chosen], counts[chosen]


class TrainingPairs:
    """Which user chose which item in training, as numbers: 12 bytes an interaction, and the ids of users.

    Args:
        batches: user ids and item ids, arrays of bytes of equal length, and how much each interaction counts,
            float32.
        rows: item id → row of the catalogue.

    Attributes:
        rows_of: user id → row, from 0, in the order of ids.
        users, items: int32 `[interactions]`.
        counts: float32 `[interactions]`.
    """

    def __init__(self, batches: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], rows: dict[bytes, int]):
        results: dict[bytes, int] = {}
        users, items, counts = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
        for given, chosen, counted in batches:
            counts.append(counted)
            users.append(np.array([results.setdefault(user, len(results)) for user in given], np.int32))
            items.append(np.array([rows[item] for item in chosen], np.int32))
        ids = sorted(results)
        self.rows_of = {user: row for row, user in enumerate(ids)}
        position = np.empty(len(ids), np.int32)
        position[[results[user] for user in ids]] = np.arange(len(ids), dtype=np.int32)
        self.users, self.items = position[np.concatenate(users)], np.concatenate(items)
        self.counts = np.concatenate(counts)


class Baselines:
    """Baselines fitted on training interactions.

    Args:
        names: of `popularity`, `repeat`, `als`, `content_knn`.
        pairs: the interactions.
        num_items: rows of the catalogue, row 0 included.
        text_vectors: float `[num_items, dim]`; needed by `content_knn`.
        repeats: whether items that a user chose before may be recommended.

    Raises:
        ConfigError: where a baseline's library is missing.
    """

    def __init__(
        self,
        names: Iterable[str],
        pairs: TrainingPairs,
        num_items: int,
        text_vectors: np.ndarray | None,
        repeats: bool = False,
    ) -> None:
        self.repeats = repeats
        self.rows_of = pairs.rows_of
        size = len(self.rows_of) + 1, num_items
        seen = baselines.interaction_matrix(pairs.users + 1, pairs.items, *size)
        self.counted = baselines.interaction_matrix(pairs.users + 1, pairs.items, *size, pairs.counts)
        self.popularity = np.bincount(pairs.items, minlength=num_items).astype(np.float32)
        self.ties = tie_order(num_items)
        makers: dict[str, Callable[[], baselines.Baseline]] = {
            "popularity": baselines.Popularity,
            REPEAT: baselines.Popularity,  # behind what a user chose before
            "als": baselines.ALS,
            "content_knn": lambda: baselines.ContentKNN(np.asarray(text_vectors)),
        }
        self.fitted = {}
        self.factors: dict[bytes, np.ndarray] = {}  # of ALS, of the users that were asked about
        for name in names:
            progress.report(f"fits {name}")
            try:
                # Plays, hours or pieces are what ALS is made for; the others ask which user chose which item.
                self.fitted[name] = makers[name]().fit(self.counted if name == COUNTING else seen)
            except ImportError as error:
                raise ConfigError(f"{error} Or leave it out: `evaluation.baselines.{name}: off`.") from error

    def ranks(
        self,
        user_ids: list[bytes],
        target: np.ndarray,
        seen: list[np.ndarray],
        histories: list[np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Where the targets stand.

        Users are known by all that they chose before the split, as they are to the models. Those who chose
        nothing are given the most popular items. Equal scores are ordered as `tfrec_fusion.metrics.ranks`
        states.

        Args:
            user_ids: a string per example.
            target: item rows; 0 for an unknown item.
            seen: item rows of each user, what was chosen before the split: the same whenever a user is asked
                about.
            histories: item rows of each user in the order of the choices, the latest ones, with repeats;
                needed by `repeat`.

        Returns:
            Name → float32 `[examples]`, from 1; NaN where the target is unknown or was seen, unless repeats
            may be recommended.
        """
        usable = np.array(
            [
                item > 0 and (self.repeats or item not in seen_items)
                for item, seen_items in zip(target, seen, strict=True)
            ]
        )
        step = max(1, SCORES // len(self.ties))
        blocks = [slice(start, start + step) for start in range(0, len(target), step)]
        results = {}
        for name in self.fitted:
            read = [] if histories is None else histories
            found = [
                self._ranks(name, user_ids[block], target[block], seen[block], read[block])
                for block in blocks
            ]
            results[name] = np.where(usable, np.concatenate(found), np.nan).astype(np.float32)
        return results

    def _ranks(
        self,
        name: str,
        user_ids: list[bytes],
        target: np.ndarray,
        seen: list[np.ndarray],
        histories: list[np.ndarray],
    ) -> np.ndarray:
        # Of a user, what was chosen before the split is the same in all examples.
        _, first, inverse = np.unique(np.array(user_ids, object), return_index=True, return_inverse=True)
        scores = np.array(self._scores(name, [user_ids[row] for row in first], [seen[row] for row in first]))
        if name == REPEAT:
            lists = [histories[row].tolist() for row in first]
            read = left_padded(lists, max(1, *map(len, lists)))
            again = Repeats(baseline_weights())(tf.constant(read))
            scores = again.added_to(tf.constant(np.log1p(scores), tf.float32)).numpy()
        scores[:, 0] = -np.inf
        scores = scores[inverse]
        for row, seen_items in enumerate(() if self.repeats else seen):
            scores[row, seen_items] = -np.inf
        return target_ranks(scores, target, self.ties)

    def _scores(self, name: str, user_ids: list[bytes], seen: list[np.ndarray]) -> np.ndarray:
        """float32 `[users, N + 1]`."""
        baseline = self.fitted[name]
        if isinstance(baseline, baselines.ALS):
            # Solved once: a user's examples lie far from each other, in the order of their items.
            new = [row for row, user in enumerate(user_ids) if user not in self.factors]
            if new:
                own = [user_ids[row] for row in new]
                known = self._known([seen[row] for row in new])
                known = known.maximum(self.counted[[self.rows_of.get(user, -1) + 1 for user in own]])
                self.factors.update(zip(own, baseline.factors_of(known).astype(np.float32), strict=True))
            scores = np.stack([self.factors[user] for user in user_ids]) @ baseline.item_factors.T
        else:
            scores = baseline.scores_of(self._known(seen))
        scores[[row for row, items in enumerate(seen) if not len(items)]] = self.popularity
        return scores

    def _known(self, seen: list[np.ndarray]) -> scipy.sparse.csr_matrix:
        """Which items are in which list: float32 `[users, N + 1]`, 1 where one is."""
        rows = np.repeat(np.arange(len(seen)), [len(items) for items in seen])
        items = np.concatenate([*seen, np.zeros(0, np.int64)]).astype(np.int64)
        return baselines.interaction_matrix(rows, items, len(seen), len(self.ties))
