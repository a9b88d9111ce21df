"""NDCG of what users chose next, on a bounded sample of validation: what early stopping watches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from tfrec_fusion.metrics.ranks import gain, next_item_ranks, tie_order
from tfrec_fusion.models import windows
from tfrec_fusion.models.hybrid.repeats import Repeats

K = 10
# Rows times items of an epoch's validation, within bounds for the rows; and of a block that is in memory at
# once.
SCORES, MOST_ROWS, LEAST_ROWS = 2**27, 10_000, 1_000
BLOCK, BLOCK_ROWS = 2**24, 1024


@dataclasses.dataclass(frozen=True)
class NextItems:
    """A sample of validation's choices, without those that repeat what their history holds, unless they may.

    Attributes:
        batch: what the model takes as queries, by name `[n, ...]`, and `item_index` int32 `[n]`, what was
            chosen.
        repeats: whether what the history holds may be chosen again.
    """

    batch: Mapping[str, np.ndarray]
    repeats: bool = False

    def __len__(self) -> int:
        return len(self.batch["item_index"]) if self.batch else 0

    @classmethod
    def sample(
        cls, validation: tf.data.Dataset, num_items: int, seed: int = 0, repeats: bool = False
    ) -> NextItems:
        """Draws rows uniformly in one pass; never more than twice the sample is in memory.

        Args:
            validation: batches with `history` and `item_index`, and whatever else the model reads.
            num_items: rows of the catalogue; the larger it is, the fewer rows are drawn, from 10,000 down to
                1,000.
            seed: of the draw.
            repeats: whether choices count that repeat their history.
        """
        most = int(np.clip(SCORES // max(1, num_items), LEAST_ROWS, MOST_ROWS))
        rng, parts, keys = np.random.default_rng(seed), [], []
        limit = 1.0
        for batch in validation.as_numpy_iterator():
            target = batch["item_index"]
            key = rng.random(len(target))
            new = repeats | ~(batch["history"] == target[:, None]).any(1)
            used = new & (target > 0) & (key < limit)
            if used.any():
                parts.append({name: values[used] for name, values in batch.items()})
                keys.append(key[used])
            if sum(map(len, keys)) > 2 * most:
                limit = _lowest(parts, keys, most)
        if sum(map(len, keys)) > most:
            _lowest(parts, keys, most)
        names = parts[0] if parts else ()
        joined = {name: windows.joined([part[name] for part in parts]).numpy() for name in names}
        return cls(joined, repeats)

    def gains(
        self,
        queries: Callable[[dict[str, tf.Tensor]], tf.Tensor],
        vectors: np.ndarray,
        candidates: np.ndarray,
        repeats: Repeats | None = None,
    ) -> np.ndarray:
        """NDCG at 10 of each row's one relevant item, by the rules of `metrics.ranks`: float64 `[rows]`.

        Args:
            queries: rows of the batch → float `[rows, dim]`.
            vectors: float `[N + 1, dim]`, the items'.
            candidates: bool `[N + 1]`, which items compete with the one that was chosen.
            repeats: what is added to the scores of items of the history; None for nothing.
        """
        ties = tie_order(len(vectors))
        step = min(BLOCK_ROWS, max(1, BLOCK // len(vectors)))
        gains = []
        for start in range(0, len(self), step):
            rows = {name: values[start : start + step] for name, values in self.batch.items()}
            asked = queries({name: tf.constant(values) for name, values in rows.items()})
            scores = tf.matmul(asked, vectors, transpose_b=True)
            if repeats is not None:
                scores = repeats(tf.constant(rows["history"])).added_to(scores)
            scores = scores.numpy()
            target = rows["item_index"][:, None]
            own = np.take_along_axis(scores, target, 1)
            scores[:, ~candidates] = -np.inf
            np.put_along_axis(scores, target, own, 1)
            hidden = rows["history"][:, :0] if self.repeats else rows["history"]
            gains.append(gain(next_item_ranks(scores, target[:, 0], hidden, ties), K))
        return np.concatenate([*gains, np.zeros(0)])


def _lowest(parts: list[dict[str, np.ndarray]], keys: list[np.ndarray], most: int) -> float:
    """Keeps the rows of the `most` lowest keys, in place; returns the key below which a row is among them."""
    limit = float(np.partition(np.concatenate(keys), most)[most])
    for position, key in enumerate(keys):
        kept = key < limit
        keys[position] = key[kept]
        parts[position] = {name: values[kept] for name, values in parts[position].items()}
    return limit
