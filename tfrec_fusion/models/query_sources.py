"""Inputs of a query tower laid out for integrated gradients: history, user, and features one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from tfrec_fusion.models.contributions import (
    POINTS,
    PartScores,
    constant_towards,
    integrated_gradients,
    repeated,
)
from tfrec_fusion.models.tower import QueryTower


class QuerySources:
    """A query tower's inputs, each with its baseline.

    The baseline of an item of the history is the catalogue's average item, of the user one who is not known,
    of a feature the value that stands for "unknown" (of a number its mean).

    Args:
        tower: the query tower.
        inputs: as its `call` takes them.
        history: float `[batch, H, dim]`, vectors of the history's items.
        mask: bool `[batch, H]`.
        average: float `[dim]`, the mean of the items' vectors.
        points: of the quadrature.
    """

    def __init__(
        self,
        tower: QueryTower,
        inputs: Mapping[str, tf.Tensor],
        history: tf.Tensor,
        mask: tf.Tensor,
        average: tf.Tensor,
        points: int = POINTS,
    ):
        self.tower, self.mask, self.points = tower, mask, points
        self.names: list[tuple[str, str]] = []
        self.values = [history]
        self.baselines = [tf.broadcast_to(tf.cast(average, history.dtype), tf.shape(history))]
        if tower.user_embedding is not None:
            user = tower.modalities(inputs)["user"]
            nobody = tf.broadcast_to(tower.modality_dropout.missing["user"], tf.shape(user))
            self._add(("user", ""), user, tf.cast(nobody, user.dtype))
        if tower.features:
            known, unknown = tower.side_features.parts(inputs), tower.side_features.of_unknown(inputs)
            for feature, value, baseline in zip(tower.features, known, unknown, strict=True):
                self._add(("feature", feature.shown), value, baseline)

    def _add(self, name: tuple[str, str], value: tf.Tensor, baseline: tf.Tensor) -> None:
        self.names.append(name)
        self.values.append(value)
        self.baselines.append(baseline)

    def encode(self, values: Sequence[tf.Tensor], each: int = 1) -> tf.Tensor:
        """The tower's embeddings of other values in the inputs' places, `each` of them side by side for
        each query: float `[any, dim]`."""
        history, *others = values
        modalities = {}
        features = [value for (kind, _), value in zip(self.names, others, strict=True) if kind == "feature"]
        if self.tower.user_embedding is not None:
            modalities["user"] = others[0]
        if features:
            modalities["features"] = tf.add_n(features)
        mask = repeated(self.mask, each)
        return self.tower.encode(modalities, history, mask, training=False, last_only=True)

    def ends(self, finish: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """The embeddings of the inputs and of their baselines, `finish`ed: float32 `[batch, 2, dim]`."""
        pairs = zip(self.values, self.baselines, strict=True)
        both = [tf.reshape(tf.stack(pair, 1), tf.concat([[-1], tf.shape(pair[0])[1:]], 0)) for pair in pairs]
        found = finish(self.encode(both, 2))
        return tf.reshape(found, [-1, 2, found.shape[-1]])

    def part(
        self,
        name: str,
        directions: tf.Tensor,
        finish: Callable[[tf.Tensor], tf.Tensor],
        ends: tf.Tensor,
        unsourced: int = 0,
    ) -> PartScores:
        """`directions · finish(embedding)` by source.

        Args:
            name: of the part.
            directions: float32 `[batch, n, dim]`.
            finish: what is done to the tower's embedding.
            ends: what `ends` returned.
            unsourced: see `integrated_gradients`.
        """
        found = integrated_gradients(
            lambda values: finish(self.encode(values, self.points)),
            self.values,
            self.baselines,
            lambda outputs: constant_towards(directions, self.points),
            points=self.points,
            unsourced=unsourced,
        )
        scores, base = (tf.linalg.matvec(directions, ends[:, place]) for place in (0, 1))
        others = dict(zip(self.names, found[1:], strict=True))
        return PartScores(name, scores, base, found[0], others)
