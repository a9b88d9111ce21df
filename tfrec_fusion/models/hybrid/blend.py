"""Blend of closed-form models beside a two-tower model's own embeddings, in the same dot product.

A two-tower model learns the order of things: what follows what. Who likes what altogether, what a text is
about and what everybody takes is known better by models that are solved rather than trained, above all where
there is little data. Their scores are dot products too. So their vectors are put beside the towers' and
weighted by what each is worth on validation (`blend_fitting`), and what is served stays one vector a query
and one an item.

- tower: both towers' embeddings.
- factors: EASE (Steck, 2019, https://arxiv.org/abs/1905.03375) in the leading singular vectors `V` of
  who chose what, 1 or, where choices have weights, `losses.confidence` of it. Its
  ridge regression from all items to each is `X (X'X + l)^-1 X' = V g V'` with `g = s^2 / (s^2 + l)`, and its
  zero diagonal divides by one minus the item's own share: the query is `unit(sum_h g V_h)`, the item
  `V_i / (1 - V_i g V_i) / m_i^a`, with `m_i` the item's training interactions over their mean. A regression
  on who chose what predicts shares, while weights are found for logits: of an item that few choose, a share
  tells more (`a` is the damping, 0 where validation finds nothing in it).
- recent: the same factors where newer items of a history count more (`recency`), if that tells more: what is
  wanted now beside what was liked always. An item then has the factors twice, weighed apart.
- content: the principal components of the text vectors, of length 1; the query is the sum of the history's,
  of length 1.
- popularity: the logarithm of one plus the training interactions; 1 in the query.
- offset: what items that training never saw are worth against the others; 1 in the query.

An item that training never saw has its embedding, its factors and its popularity predicted from its text and
features by ridge regression, and weights of its own. The item tower has an embedding for it too, but what
that is worth could not be estimated: the tower learned what text means from the very items that it would be
judged on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.config import Feature
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.contributions import PartScores, summed, whole
from tfrec_fusion.models.design_matrix import SideColumns
from tfrec_fusion.models.hybrid.blend_weights import PARTS, Weights
from tfrec_fusion.models.tower import TEXT

SMALLEST = 1e-12
"""What `tf.math.l2_normalize` takes a squared length for at least."""


class Parts(NamedTuple):
    """An item as each part sees it, not yet weighted: float32 `[..., dim]`, `[..., factors_dim]`,
    `[..., content_dim]`."""

    tower: tf.Tensor
    factors: tf.Tensor
    content: tf.Tensor


class Blend(tf_keras.layers.Layer):
    """Weighs the parts of items and of queries, and puts them into one vector each.

    Nothing here is trained by gradient descent: `blend_fitting.fit_blend` sets the weights. Until then only
    the tower counts, and the other parts are zeros.

    Args:
        catalogue: the items.
        features: item features to predict from, beside text.
        dim: of the towers.
        factors_dim: of the factors; None: as many as the data are worth, none until it is fitted.
        content_dim: of the content part; None: the same. 0 without text.

    Attributes:
        fixed: the widths that were given, None where the data decide.
        recency: float32, of the recent factors: an item of a history before `n` newer ones counts
            `(1 + n) ** -recency`. People forget by a power law (Wixted and Ebbesen, 1991,
            https://doi.org/10.1111/j.1467-9280.1991.tb00175.x); 0 counts all alike.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        features: Sequence[Feature],
        dim: int,
        factors_dim: int | None = None,
        content_dim: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.columns = SideColumns(features)
        self.text_dim = 0 if catalogue.text_vectors is None else catalogue.text_vectors.shape[1]
        self.dim = dim
        self.fixed = (factors_dim, None if content_dim is None else min(content_dim, self.text_dim))
        self.side_dim = self.text_dim + self.columns.width + 1
        rows = len(catalogue)
        # What fitting decides is a variable too, so that a checkpoint holds it.
        self.solved_dims = self._table("solved_dims", np.zeros(3, np.int32))
        self.known = self._table("known", np.asarray(catalogue.counts > 0))
        self.factors = self._wide("factors", [rows])
        self.divisor = self._table("divisor", np.ones(rows, np.float32))
        self.popularity = self._table("popularity", np.zeros(rows, np.float32))
        self.gain = self._wide("gain", [])
        self.recency = self._table("recency", np.float32(0))
        self.predictor = self._wide("predictor", [self.side_dim])
        self.predicts = self._table("predicts", np.asarray(False))
        if self.text_dim:
            self.text_mean = self._table("text_mean", np.zeros(self.text_dim, np.float32))
            self.text_to_content = self._wide("text_to_content", [self.text_dim])
        first = np.eye(len(PARTS), dtype=np.float32)[0]
        # Of users without history, and of the others; with those of a new item's popularity and of
        # the offset.
        self.query_weights = self._table(
            "query_weights", np.tile(np.append(first, np.array([0, 1], np.float32)), (2, 1))
        )
        self.item_weights = self._table("item_weights", first)
        self.new_item_weights = self._table("new_item_weights", first)
        self.new_item_offset = self._table("new_item_offset", np.float32(0))
        # What validation decided, for a fit to more rows: see `Weights`. NaN until it has.
        self.decided = self._table("decided", np.full(len(Weights.empty()), np.nan, np.float32))
        self.resize(self.fixed[0] or 0, self.fixed[1] or 0)

    def resize(self, factors_dim: int, content_dim: int, recent: bool = False) -> None:
        """Makes room for factors and content of these widths, all zeros; `recent`: whether the factors stand
        twice."""
        rows = self.known.shape[0]
        content_dim = min(content_dim, self.text_dim)
        self.solved_dims.assign([factors_dim if recent else 0, factors_dim, content_dim])
        self.factors.assign(np.zeros((rows, factors_dim), np.float32))
        self.gain.assign(np.ones(factors_dim, np.float32))
        self.predictor.assign(np.zeros((self.side_dim, sum(self.predicted_widths)), np.float32))
        if self.text_dim:
            self.text_to_content.assign(np.eye(self.text_dim, content_dim, dtype=np.float32))

    @property
    def recent_dim(self) -> int:
        """Width of the recent factors: that of the factors, or 0 without them."""
        return self._solved_dims()[0]

    @property
    def factors_dim(self) -> int:
        """Width of the factors, 0 before they are solved where the data decide."""
        return self._solved_dims()[1]

    @property
    def content_dim(self) -> int:
        """Width of the content part."""
        return self._solved_dims()[2]

    @property
    def widths(self) -> list[int]:
        """Of the parts. Popularity has two numbers, a known item's and a new one's, so that users may weigh
        them apart."""
        return [self.dim, *self._solved_dims(), 2]

    @property
    def width(self) -> int:
        """Of a vector: all parts and the offset."""
        return sum(self.widths) + 1

    @property
    def predicted_widths(self) -> list[int]:
        """Of what is predicted of new items: embedding, factors, popularity."""
        return [self.dim, self.factors_dim, 1]

    def items(self, values: Mapping[str, tf.Tensor], tower: tf.Tensor) -> tf.Tensor:
        """The vectors of items.

        Args:
            values: `item_index` int32 `[n]` (0: not in the catalogue), the item features by name, and
                `text_vector` float `[n, text_dim]` where there is text.
            tower: float32 `[n, dim]`, the item tower's embeddings.

        Returns:
            float32 `[n, width]`.
        """
        index = values["item_index"]
        known = tf.nn.embedding_lookup(self.known, index)[:, None]
        divisor = tf.nn.embedding_lookup(self.divisor, index)[:, None]
        factors = tf.nn.embedding_lookup(self.factors, index) / divisor
        popularity = tf.nn.embedding_lookup(self.popularity, index)[:, None]
        # What is known of items is wide, and asked of new ones alone.
        new = tf.where(~known[:, 0])
        of_new = self._predicted({name: tf.gather_nd(value, new) for name, value in values.items()})
        of_new[0] = tf.where(self.predicts, of_new[0], tf.gather_nd(tower, new))
        learned = tf.concat([tower, factors, popularity], 1)
        learned = tf.tensor_scatter_nd_update(learned, new, tf.concat(of_new, 1))
        tower, factors, popularity = tf.split(learned, self.predicted_widths, 1)
        popularity *= tf.cast(tf.concat([known, ~known], 1), tf.float32)
        weights = tf.repeat(self._item_weights(known), self.widths, axis=1)
        offset = tf.where(known, 0.0, self.new_item_offset)
        twice = factors[:, : self.recent_dim]
        vectors = tf.concat([tower, twice, factors, self.content(values), popularity], 1) * weights
        return tf.ensure_shape(tf.concat([vectors, offset], 1), [None, self.width])

    def parts(self, items: tf.Tensor, index: tf.Tensor) -> Parts:
        """The parts of items whose vectors are known: what `items` weighted.

        Args:
            items: float32 `[..., width]`.
            index: int32 `[...]`, which they are.
        """
        weights = self._item_weights(tf.nn.embedding_lookup(self.known, index)[..., None])
        tower, _, factors, content, _ = tf.split(items, [*self.widths[:4], 3], -1)
        factors *= tf.nn.embedding_lookup(self.divisor, index)[..., None]
        parts = {"tower": tower, "factors": factors, "content": content}
        return Parts(
            *(
                tf.math.divide_no_nan(part, weights[..., PARTS.index(name), None])
                for name, part in parts.items()
            )
        )

    def query_parts(self, tower: tf.Tensor, chosen: Parts, rows: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """The parts of queries, not yet weighted.

        Args:
            tower: float32 `[batch, dim]`, the query tower's embeddings.
            chosen: the parts of items, `[m, ...]`.
            rows: int32 `[batch, H]`, which of them are in each history.
            mask: bool `[batch, H]`, which of those count.

        Returns:
            float32 `[batch, width]`.
        """
        there = tf.where(mask)
        users_and_rows = tf.stack([there[:, 0], tf.cast(tf.gather_nd(rows, there), tf.int64)], 1)
        shape = tf.cast([tf.shape(rows)[0], tf.shape(chosen.tower)[0]], tf.int64)

        def total(part: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
            counted = tf.SparseTensor(users_and_rows, tf.gather_nd(counted, there), shape)
            return tf.math.l2_normalize(tf.sparse.sparse_dense_matmul(counted, part), 1)

        alike = tf.cast(mask, tf.float32)
        factors = [total(chosen.factors * self.gain, counted) for counted in (self._newest(mask), alike)]
        content = total(chosen.content, alike)
        ones = tf.ones([tf.shape(tower)[0], 3])
        parts = tf.concat([tower, factors[0][:, : self.recent_dim], factors[1], content, ones], 1)
        return tf.ensure_shape(parts, [None, self.width])

    def queries(self, parts: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Weighs the parts of queries, and scales the whole to length 1, which changes no order.

        Args:
            parts: float32 `[batch, width]`, from `query_parts`.
            mask: bool `[batch, H]`.

        Returns:
            float32 `[batch, width]`.
        """
        return tf.math.l2_normalize(parts * self._query_weights(mask), 1)

    def contributions(
        self,
        parts: tf.Tensor,
        chosen: Parts,
        rows: tf.Tensor,
        mask: tf.Tensor,
        candidates: tf.Tensor,
        tower: PartScores,
    ) -> list[PartScores]:
        """What each part adds to `queries · candidates`; the length of the whole query is taken as it is.

        Args:
            parts: float32 `[batch, width]`, what `query_parts` made of `chosen`, `rows` and `mask`.
            chosen, rows, mask: as in `query_parts`.
            candidates: float32 `[batch, n, width]`.
            tower: `queries · candidates` of the towers alone, before the query is weighed.
        """
        weights = self._query_weights(mask)
        weights *= tf.math.rsqrt(
            tf.maximum(tf.reduce_sum((parts * weights) ** 2, 1, keepdims=True), SMALLEST)
        )
        scales = tf.split(weights, [*self.widths[:4], 3], 1)
        items = tf.split(candidates, [*self.widths[:4], 3], 2)
        alike = tf.cast(mask, tf.float32)

        def summands(part: tf.Tensor, counted: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
            added = tf.gather(part, rows) * counted[:, :, None]
            length = tf.reduce_sum(tf.reduce_sum(added, 1) ** 2, 1, keepdims=True)
            return added * (scale * tf.math.rsqrt(tf.maximum(length, SMALLEST)))[:, None]

        # Of popularity, two numbers; of which an item has one.
        rest = scales[4][:, None] * items[4]
        factors = chosen.factors * self.gain
        of_factors, both = summands(factors, alike, scales[2]), items[2]
        if self.recent_dim:
            of_factors = tf.concat([summands(factors, self._newest(mask), scales[1]), of_factors], 2)
            both = tf.concat([items[1], items[2]], 2)
        parts_of = [tower.scaled(scales[0][:, :1]), summed("factors", of_factors, both)]
        if self.content_dim:
            parts_of.append(summed("content", summands(chosen.content, alike, scales[3]), items[3]))
        return [
            *parts_of,
            whole("popularity", tf.reduce_sum(rest[..., :2], 2)),
            whole("offset", rest[..., 2]),
        ]

    @property
    def behaviour_width(self) -> int:
        """How many of a vector's first numbers tell who chooses an item, and not what is known of it."""
        return self.dim + self.recent_dim + self.factors_dim

    def text_queries(self, tower: tf.Tensor) -> tf.Tensor:
        """Queries of the towers' space alone: float32 `[batch, dim]` to `[batch, width]`."""
        return tf.pad(tower, [[0, 0], [0, self.width - self.dim]])

    def start_from(self, old: Blend, rows: np.ndarray, values: Mapping[str, tf.Tensor]) -> None:
        """Takes over what an older blend holds.

        Args:
            old: of the same widths.
            rows: int64 `[N + 1]`, where each item stood in `old`; below 0 for one that it did not know. Such
                an item starts from what its text and features predict.
            values: what `items` takes, of the whole catalogue.

        Raises:
            ValueError: if the widths or the features differ.
        """
        were = (old.factors_dim, old.content_dim)
        given = [mine in (None, was) for mine, was in zip(self.fixed, were, strict=True)]
        if (old.dim, old.side_dim, True) != (self.dim, self.side_dim, all(given)):
            raise ValueError(
                "Both models must have the same configuration and item features. Received: blends of the"
                f" widths {self.widths} and {old.widths}, from {self.side_dim} and {old.side_dim} features."
                " Build the new one like the older one."
            )
        self.resize(*were, recent=old.recent_dim > 0)
        by_item = ("known", "factors", "divisor", "popularity")
        for weight, source in zip(self.weights, old.weights, strict=True):
            if not any(weight is getattr(self, name) for name in by_item):
                weight.assign(source)
        _, factors, popularity = self._predicted(values)
        new, positions = rows < 0, np.maximum(rows, 0)
        predicted = {"factors": factors, "popularity": popularity[:, 0]}
        for name in by_item[1:]:
            kept = getattr(old, name).numpy()[positions]
            start = predicted[name].numpy() if name in predicted else np.ones_like(kept)
            getattr(self, name).assign(np.where(new[:, None] if kept.ndim > 1 else new, start, kept))

    def weigh_alike(self) -> None:
        """Every part of every item and query as it is, for `part_scores`."""
        ones = np.ones(len(PARTS), np.float32)
        for weights in (self.item_weights, self.new_item_weights):
            weights.assign(ones)
        self.query_weights.assign(np.ones_like(self.query_weights))
        self.new_item_offset.assign(0.0)

    def part_scores(self, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Each part's scores, of vectors that are weighed alike: float32 `[rows, n, 5]` of `[rows, width]`,
        `[n, width]`."""
        edges = np.cumsum([0, *self.widths])
        return np.stack([queries[:, a:b] @ items[:, a:b].T for a, b in itertools.pairwise(edges)], -1)

    def learned(self, vectors: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """What is to be predicted of items that are known.

        Args:
            vectors: float32 `[n, width]`, weighed alike.
            counts: their training interactions, in units of which the root is 1.

        Returns:
            float32 `[n, sum(predicted_widths)]`: embedding, factors and, as popularity, the root of the
            interactions, in which unlike in the logarithm it matters most to be right about what is taken
            most.
        """
        tower, _, factors, _ = np.split(vectors, np.cumsum(self.widths[:3]), axis=1)
        return np.concatenate([tower, factors, np.sqrt(counts)[:, None] - 1], 1, dtype=np.float32)

    def as_if_new(self, vectors: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Vectors of known items weighed alike, with what is predicted of them instead of what is
        learned."""
        edges = np.cumsum(self.widths)
        tower, factors, popularity = np.split(predicted, np.cumsum(self.predicted_widths[:2]), axis=1)
        learned = [tower, factors[:, : self.recent_dim], factors]
        rest = vectors[:, edges[3] + 1 :]
        return np.concatenate([*learned, vectors[:, edges[2] : edges[3]], popularity, rest], 1)

    def weigh(self, weights: Weights, items: np.ndarray) -> None:
        """Sets what each part counts.

        Args:
            weights: what validation decided.
            items: float32 `[n, width]`, some items weighed alike, whose root mean square length becomes 1.
        """
        self.decided.assign(weights.to_array())
        self.recency.assign(weights.recency)
        known, unknown, new, offsets = weights.known, weights.unknown, weights.new, weights.offsets
        # Half of a weight goes to the item: what is near by the items' vectors alone, as an inverted file
        # asks, is then near for a query.
        root = np.sqrt(known)
        scale = np.sqrt(np.mean(np.sum((items[:, :-1] * np.repeat(root, self.widths)) ** 2, 1)))
        self.item_weights.assign(root / scale)
        self.new_item_weights.assign(new / root / scale)
        offset = np.sqrt(max(1e-6, *map(abs, offsets)))
        self.new_item_offset.assign(offset / scale)
        popularity = PARTS.index("popularity")
        apart = weights.new_popularity / (new / root)[popularity], root[popularity]
        self.query_weights.assign(
            [
                np.concatenate([parts, [apart[group], offsets[group] / offset]])
                for group, parts in enumerate((unknown / root, root))
            ]
        )

    @property
    def weights_decided(self) -> Weights | None:
        """What validation decided; None before it has."""
        values = self.decided.numpy()
        return None if np.isnan(values).any() else Weights.from_array(values)

    def side(self, values: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """What is known of items, as one vector: text, features (categories as the share each has), and a
        1.

        Returns:
            float32 `[n, side_dim]`.
        """
        parts = [self._centred_text(values)] if self.text_dim else []
        return tf.concat([*parts, *self.columns(values), tf.ones([tf.shape(values["item_index"])[0], 1])], 1)

    def content(self, values: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """float32 `[n, content_dim]`, of length 1; zeros for an item without text."""
        if not self.content_dim:
            return tf.zeros([tf.shape(values["item_index"])[0], 0])
        return tf.math.l2_normalize(tf.matmul(self._centred_text(values), self.text_to_content), 1)

    def _centred_text(self, values: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """float32 `[n, text_dim]`, of length 1; zeros for an item without text."""
        text = tf.cast(values[TEXT], tf.float32)
        there = tf.cast(tf.reduce_any(text != 0, 1, keepdims=True), tf.float32)
        return tf.math.l2_normalize(text - self.text_mean, 1) * there

    def _predicted(self, values: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """Embedding, factors and popularity as text and features tell them: float32 `[n, dim]` each."""
        return tf.split(tf.matmul(self.side(values), self.predictor), self.predicted_widths, 1)

    def _newest(self, mask: tf.Tensor) -> tf.Tensor:
        """How much each item of a history counts in the recent factors, 0 for padding: float32 `[batch, H]`
        of bool `[batch, H]`."""
        there = tf.cast(mask, tf.float32)
        since = tf.math.log1p(tf.cumsum(there, axis=1, reverse=True, exclusive=True))
        return there * tf.exp(-self.recency * since)

    def _query_weights(self, mask: tf.Tensor) -> tf.Tensor:
        """float32 `[batch, width]` for bool `[batch, H]`."""
        weights = tf.nn.embedding_lookup(self.query_weights, tf.cast(tf.reduce_any(mask, 1), tf.int32))
        return tf.repeat(weights, [*self.widths[:4], 1, 1, 1], axis=1)

    def _item_weights(self, known: tf.Tensor) -> tf.Tensor:
        """float32 `[..., 5]` for bool `[..., 1]`."""
        return tf.where(known, self.item_weights, self.new_item_weights)

    def _solved_dims(self) -> list[int]:
        with tf.init_scope():  # also while a graph is traced
            return self.solved_dims.numpy().tolist()

    def _wide(self, name: str, rows: list[int]) -> tf.Variable:
        """A variable whose last dimension fitting decides."""
        # Not of width 0 from the start: several workers broadcast what a variable begins with, and TensorFlow
        # 2.21 ends in a segmentation fault where that is empty.
        initial = np.zeros([*rows, 1], np.float32)
        return tf.Variable(initial, trainable=False, name=name, shape=tf.TensorShape([*rows, None]))

    def _table(self, name: str, values: np.ndarray | np.float32) -> tf.Variable:
        values = np.asarray(values)
        return self.add_weight(
            name,
            values.shape,
            values.dtype,
            initializer=lambda shape, dtype=None, **_: tf.constant(values, dtype),
        )
