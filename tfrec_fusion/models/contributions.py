"""Scores as sums: what each part of a model adds to a score, and what of it comes from where.

Parts that are sums over a history are taken apart exactly. What a network says is taken apart by integrated
gradients: along the straight line from a baseline `x'` to the input `x`, the gradient's mean times `x - x'`.
Summed, that is `f(x) - f(x')` but for the error of the quadrature, which is kept and shown.

Reference: Sundararajan et al., 2017, https://arxiv.org/abs/1703.01365
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

POINTS = 5
"""Points of the quadrature on a line, all between its ends: see docs/explanation/explanations.md for what
fewer and more of them leave over."""


@dataclasses.dataclass(frozen=True)
class PartScores:
    """What one part of a model adds to the scores of some items.

    `scores = base + sum(history) + sum(of others) + sum(words)`, but for the error of integrated gradients.

    Attributes:
        name: of the part.
        scores: float32 `[batch, n]`.
        base: float32 `[batch, n]`, what no source accounts for: popularity, or what a network says of an
            average history. None for 0.
        history: float32 `[batch, n, H]`, by item of the history; None for none.
        others: (kind, name) of a further source → float32 `[batch, n]`. Kinds are `user`, `feature` (of the
            user and the context), and of the candidate itself `item`, `item_feature` and `item_text`.
        words: float32 `[batch, n, T]`, by word of the request; None for none.
    """

    name: str
    scores: tf.Tensor
    base: tf.Tensor | None = None
    history: tf.Tensor | None = None
    others: Mapping[tuple[str, str], tf.Tensor] = dataclasses.field(default_factory=dict)
    words: tf.Tensor | None = None

    def scaled(self, by: tf.Tensor, name: str | None = None) -> PartScores:
        """All of it times float32 `[batch, 1]` or `[batch, n]`."""
        by = tf.broadcast_to(by, tf.shape(self.scores))
        return PartScores(
            self.name if name is None else name,
            self.scores * by,
            None if self.base is None else self.base * by,
            None if self.history is None else self.history * by[:, :, None],
            {source: values * by for source, values in self.others.items()},
            None if self.words is None else self.words * by[:, :, None],
        )

    def padded(self, further: tf.Tensor) -> PartScores:
        """The same of a history with `further` items before those that the part looks at."""
        if self.history is None:
            return self
        return dataclasses.replace(self, history=tf.pad(self.history, [[0, 0], [0, 0], [further, 0]]))

    def of_first(self, n: tf.Tensor) -> PartScores:
        """The same of the first `n` candidates."""
        kept = {
            name: None if values is None else values[:, :n]
            for name, values in (
                ("scores", self.scores),
                ("base", self.base),
                ("history", self.history),
                ("words", self.words),
            )
        }
        others = {source: values[:, :n] for source, values in self.others.items()}
        return PartScores(self.name, others=others, **kept)


@dataclasses.dataclass(frozen=True)
class ExplainedQueries:
    """Queries of a model, and what their scores are sums of.

    Attributes:
        embeddings: float32 `[batch, width]`, what `query_embeddings` makes.
        contributions: candidates, float32 `[batch, n, width]`, and how many of them, at the end, are
            `unsourced` (see `integrated_gradients`; of networks alone), to the parts of
            `embeddings · candidates`.
    """

    embeddings: tf.Tensor
    contributions: Callable[[tf.Tensor, int], list[PartScores]]


def whole(name: str, scores: tf.Tensor) -> PartScores:
    """A part without sources: all of it is its base."""
    return PartScores(name, scores, base=scores)


def summed(name: str, summands: tf.Tensor, items: tf.Tensor) -> PartScores:
    """A part whose query is a sum over the history, which is taken apart exactly.

    Args:
        name: of the part.
        summands: float32 `[batch, H, dim]`, what each item of a history adds to the query, 0 for padding.
        items: float32 `[batch, n, dim]`, the candidates.
    """
    history = tf.matmul(items, summands, transpose_b=True)
    scores = tf.linalg.matvec(items, tf.reduce_sum(summands, 1))
    return PartScores(name, scores, history=history)


def integrated_gradients(
    function: Callable[[list[tf.Tensor]], tf.Tensor],
    inputs: Sequence[tf.Tensor],
    baselines: Sequence[tf.Tensor],
    towards: Callable[[tf.Tensor], tf.Tensor],
    points: int = POINTS,
    one_by_one: bool = False,
    unsourced: int = 0,
) -> list[tf.Tensor]:
    """Takes functions of `function(inputs)` apart by input.

    A query is evaluated once for all its candidates; the gradient alone is taken for each.

    Args:
        function: the inputs on `on_line`s to float `[batch * points, dim]`, where a line has `points`.
        inputs: float `[batch, ..., width]` each.
        baselines: of the same shapes.
        towards: float32 `[batch, points, dim]`, what `function` returned, to the gradients of the candidates'
            scores there: float32 `[batch, n, points, dim]`.
        points: of the quadrature.
        one_by_one: takes gradients for one candidate after the other: less memory and a smaller graph, and
            for small functions slower.
        unsourced: candidates at the end of which only the scores are asked for: their contributions are 0.

    Returns:
        Contributions of each input, float32 `[batch, n, ...]`, summed over its `width`.
    """
    lines = [on_line(value, baseline, points) for value, baseline in zip(inputs, baselines, strict=True)]
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(lines)
        outputs = tf.cast(function(lines), tf.float32)
    found = tf.reshape(outputs, [-1, points, outputs.shape[-1]])
    directions = towards(found) * weights(points)[:, None]
    directions = tf.transpose(directions[:, : tf.shape(directions)[1] - unsourced], [1, 0, 2, 3])

    def of_one(direction: tf.Tensor) -> list[tf.Tensor]:
        """For one candidate of every query, float32 `[batch, points, dim]`."""
        gradients = tape.gradient(
            outputs,
            lines,
            output_gradients=tf.reshape(direction, tf.shape(outputs)),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return [
            along_line(gradient, value, baseline, points)
            for gradient, value, baseline in zip(gradients, inputs, baselines, strict=True)
        ]

    if one_by_one:
        parts = tf.map_fn(of_one, directions, fn_output_signature=[tf.float32] * len(lines))
    else:
        parts = tf.vectorized_map(of_one, directions)
    parts = [tf.transpose(part, [1, 0, *range(2, part.shape.rank)]) for part in parts]
    padding = [[[0, 0], [0, unsourced], *[[0, 0]] * (part.shape.rank - 2)] for part in parts]
    return [tf.pad(*both) for both in zip(parts, padding, strict=True)]


def on_line(value: tf.Tensor, baseline: tf.Tensor, points: int = POINTS) -> tf.Tensor:
    """The points of `[batch, ...]` on the line from a baseline to a value: `[batch * points, ...]`."""
    places = _quadrature(points)[0]
    along = tf.reshape(tf.constant(places, value.dtype), [1, points, *[1] * (value.shape.rank - 1)])
    line = baseline[:, None] + along * (value - baseline)[:, None]
    return tf.reshape(line, tf.concat([[-1], tf.shape(value)[1:]], 0))


def along_line(
    gradients: tf.Tensor, value: tf.Tensor, baseline: tf.Tensor, points: int = POINTS
) -> tf.Tensor:
    """What gradients on a line, `[batch * points, ..., width]` and weighted already, make of the way from a
    baseline to a value: float32 `[batch, ...]`."""
    shape = tf.concat([[-1, points], tf.shape(value)[1:]], 0)
    total = tf.reduce_sum(tf.cast(tf.reshape(gradients, shape), tf.float32), 1)
    return tf.reduce_sum(total * tf.cast(value - baseline, tf.float32), -1)


def weights(points: int = POINTS) -> tf.Tensor:
    """The weight of each point: float32 `[points]`."""
    return tf.constant(_quadrature(points)[1], tf.float32)


def repeated(values: tf.Tensor, points: int = POINTS) -> tf.Tensor:
    """Each row of `[batch, ...]` for all points of its line: `[batch * points, ...]`."""
    return tf.repeat(values, points, 0)


def constant_towards(directions: tf.Tensor, points: int = POINTS) -> tf.Tensor:
    """Gradients of dot products with `directions` float32 `[batch, n, dim]`, which are the same at each
    point."""
    return tf.repeat(directions[:, :, None], points, 2)


def _quadrature(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss and Legendre's points and weights on [0, 1]. The ends are no points: a gradient there costs as
    much as elsewhere, and Lobatto's rule, which takes it, needs one point more for the same degree."""
    places, found = np.polynomial.legendre.leggauss(points)
    return (places + 1) / 2, found / 2
