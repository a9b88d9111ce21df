"""A ranking model's prediction as a sum: where it starts, biases, factors, and the network's part by source.

A rating is a sum as it stands; where it would leave the scale, the part `range` brings it back. A probability
is the logistic function of a sum `x`. Along the straight line from 0 (even odds) to `x` each summand adds its
share of `logistic(x) - 1/2`: integrated gradients again, and exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from tfrec_fusion.models.contributions import (
    POINTS,
    PartScores,
    along_line,
    integrated_gradients,
    on_line,
    weights,
    whole,
)
from tfrec_fusion.models.query_sources import QuerySources
from tfrec_fusion.models.ranking import Ranking

WRITTEN = ("item_feature", "reviews")
PARTS = ("start", "user", "item", "network", "factors", "range")


class Terms(NamedTuple):
    """A label's prediction, the terms that it is a sum of, by the names of `PARTS`, and what its network's
    output counts in it: float32 `[n]` each."""

    prediction: tf.Tensor
    parts: dict[str, tf.Tensor]
    network_counts: tf.Tensor


class RankingExplanation:
    """Takes a ranking model's predictions apart.

    Args:
        model: trained.
        inputs: of `batch` queries as `Ranking.score_vectors` takes them, and the candidates' `item_index`
            int32 `[batch * n]`, features by name and `text_vector`, those of a query side by side.
        item: float `[batch * n, any]`, the candidates' vectors (`Ranking.item_vectors`).
        history: float `[batch, H, any]`, those of the history's items.
        points: of the quadrature.
        unsourced: see `integrated_gradients`.
    """

    def __init__(
        self,
        model: Ranking,
        inputs: Mapping[str, tf.Tensor],
        item: tf.Tensor,
        history: tf.Tensor,
        points: int = POINTS,
        unsourced: int = 0,
    ):
        self.model, self.inputs, self.item = model, inputs, item
        self.points, self.unsourced = points, unsourced
        self.history = history[..., : model.item_tower.dim]
        self.batch = tf.shape(inputs["user_index"])[0]
        self.number = tf.size(inputs["item_index"]) // tf.maximum(self.batch, 1)
        self.owner = tf.repeat(tf.range(self.batch), self.number)

    def explain(self, label: tf.Tensor, average: tf.Tensor) -> tuple[tf.Tensor, list[PartScores]]:
        """The predictions of a label, float32 `[batch, n]`, and what they are sums of.

        Args:
            label: float32 `[labels]`, 1 for the label and 0 for the others.
            average: float32 `[dim]`, the mean of the items' vectors by the item tower.
        """
        logits = self.model.logits_of(self.inputs, self.item, self.history, self.owner)
        predictions = self.model.predictions(self.inputs, self.item, logits, self.owner)
        found = [self.terms(name, logits[name], predictions[name]) for name in self.model.labels]

        def chosen(values: list[tf.Tensor]) -> tf.Tensor:
            total = tf.linalg.matvec(tf.stack(values, 1), label)
            return tf.reshape(total, [self.batch, self.number])

        parts = {name: chosen([terms.parts[name] for terms in found]) for name in PARTS}
        counts = chosen([terms.network_counts for terms in found])
        network = self.network(label, average).scaled(counts)
        network = PartScores("network", parts["network"], network.base, network.history, network.others)
        return chosen([terms.prediction for terms in found]), [
            network if name == "network" else whole(name, parts[name]) for name in PARTS
        ]

    def terms(self, name: str, logits: tf.Tensor, prediction: tf.Tensor) -> Terms:
        """The terms of one label's predictions; `logits` are the network's (`Ranking.logits_of`)."""
        model, place = self.model, list(self.model.labels).index(name)
        user = tf.gather(self.inputs["user_index"], self.owner)
        item = model.item_tower.known_index(self.inputs["item_index"])
        parts = {
            "start": tf.fill(tf.shape(user), model.output_layer.bias[place]),
            "user": tf.cast(model.user_bias(user)[:, place], tf.float32),
            "item": tf.cast(model.item_bias(item)[:, place], tf.float32),
            "factors": tf.zeros(tf.shape(user)),
        }
        parts["network"] = logits - sum(parts.values())
        counts = tf.ones_like(logits)
        if model.labels[name] == "binary":
            counts = tf.math.divide_no_nan(tf.sigmoid(logits) - 0.5, logits)
            counts = tf.where(logits == 0.0, 0.25, counts)
            parts = {part: values * counts for part, values in parts.items()}
            parts["start"] += 0.5
        elif name == model.rated and model.rating_factors is not None:
            solved, share = model.rating_factors, model.rating_factors.weight
            counts *= 1.0 - share
            vectors = tf.cast(self.item[:, model.solved_from :], tf.float32)
            users = tf.nn.embedding_lookup(solved.users, user)
            parts = {part: values * counts for part, values in parts.items()}
            parts["start"] += share * solved.mean
            parts["user"] += share * users[:, -1]
            parts["item"] += share * vectors[:, -1]
            parts["factors"] = share * tf.reduce_sum(users[:, :-1] * vectors[:, :-1], 1)
        within = prediction - sum(parts.values())
        parts["range"] = within if model.labels[name] == "rating" else tf.zeros_like(within)
        return Terms(prediction, parts, counts)

    def network(self, label: tf.Tensor, average: tf.Tensor) -> PartScores:
        """The network's output, without biases, by source."""
        model, inputs = self.model, self.inputs
        mask = inputs["history"] > 0
        sources = QuerySources(model.query_tower, inputs, self.history, mask, average, self.points)
        names, values, baselines = self.item_sources()
        weight = tf.repeat(weights(self.points)[None], tf.size(self.owner), 0)
        items: dict[str, list[tf.Tensor]] = {}
        # What the candidate sees of a history depends on both, and so each candidate has a history.
        attends = model.attention is not None
        seen, start = (tf.gather(line, self.owner) for line in (self.history, sources.baselines[0]))
        seen_by_each = tf.gather(mask, self.owner)

        def output(
            queries: tf.Tensor, lines: list[tf.Tensor], histories: list[tf.Tensor], each: int = 1
        ) -> tf.Tensor:
            """The label's, float32 `[any]`; `each` rows an item, side by side."""
            masked = [(line, tf.repeat(seen_by_each, each, 0)) for line in histories]
            found = self.crossed(queries, names, lines, masked)
            return tf.linalg.matvec(model.label_outputs(found) - model.output_layer.bias, label)

        def towards(queries: tf.Tensor) -> tf.Tensor:
            shape = tf.concat([[self.batch, self.number], tf.shape(queries)[1:]], 0)
            rows = tf.reshape(tf.broadcast_to(queries[:, None], shape), [-1, queries.shape[-1]])
            lines = [
                on_line(value, baseline, self.points)
                for value, baseline in zip(values, baselines, strict=True)
            ]
            histories = [on_line(seen, start, self.points)] if attends else []
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([rows, *lines, *histories])
                outputs = output(rows, lines, histories, self.points)
            of_queries, *of_items = tape.gradient(
                outputs, [rows, *lines, *histories], unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            if attends:
                gradient = tf.cast(of_items.pop(), tf.float32) * tf.reshape(weight, [-1, 1, 1])
                of_history = along_line(gradient, seen, start, self.points)
                items["history"] = [tf.reshape(of_history, tf.concat([shape[:2], tf.shape(mask)[1:]], 0))]
            even = tf.reshape(weight, [-1, 1])
            items["contributions"] = [
                tf.reshape(
                    along_line(tf.cast(gradient, tf.float32) * even, value, baseline, self.points), shape[:2]
                )
                for gradient, value, baseline in zip(of_items, values, baselines, strict=True)
            ]
            return tf.reshape(tf.cast(of_queries, tf.float32), shape)

        found = integrated_gradients(
            lambda lines: tf.cast(sources.encode(lines, self.points), tf.float32),
            sources.values,
            sources.baselines,
            towards,
            points=self.points,
            unsourced=self.unsourced,
        )
        queries = tf.gather(sources.encode(sources.baselines), self.owner)
        base = tf.reshape(output(queries, baselines, [start] * attends), [self.batch, self.number])
        others = dict(zip(sources.names, found[1:], strict=True))
        for name, contribution in zip(names, items["contributions"], strict=True):
            # A user's id speaks in the query tower and in factors of its own.
            others[name] = others[name] + contribution if name in others else contribution
        return PartScores(
            "network", tf.zeros_like(base), base, sum(items.get("history", []), found[0]), others
        )

    def item_sources(self) -> tuple[list[tuple[str, str]], list[tf.Tensor], list[tf.Tensor]]:
        """What the network reads beside the query tower's vector, float `[batch * n, dim]` each: the user's
        factors, the item's, and its modalities; and the baselines: of somebody unknown, of an item of which
        nothing is known."""
        model, inputs = self.model, self.inputs
        tower = model.item_tower
        user = tf.gather(inputs["user_index"], self.owner)
        item = tower.known_index(inputs["item_index"])
        modalities = tower.modalities(inputs)
        missing = tower.modality_dropout.missing
        names = [("user", ""), ("item", ""), ("item", "")]
        values = [model.user_factors(user), model.item_factors(item), modalities["id"]]
        baselines = [
            model.user_factors(tf.zeros_like(user)),
            model.item_factors(tf.zeros_like(item)),
            tf.broadcast_to(missing["id"], tf.shape(modalities["id"])),
        ]
        if tower.features:
            known, unknown = tower.side_features.parts(inputs), tower.side_features.of_unknown(inputs)
            names += [("item_feature", feature.shown) for feature in tower.features]
            values, baselines = [*values, *known], [*baselines, *unknown]
        for feature in tower.media:
            names.append(("item_feature", feature.shown))
            values.append(modalities[feature.name])
            baselines.append(tf.broadcast_to(missing[feature.name], tf.shape(modalities[feature.name])))
        if tower.has_text:
            names.append(("item_text", ""))
            values.append(modalities["text"])
            baselines.append(tf.broadcast_to(missing["text"], tf.shape(modalities["text"])))
        if model.reviews is not None:
            written = self.item[:, tower.dim : model.solved_from]
            names, values = [*names, WRITTEN], [*values, written]
            baselines.append(tf.zeros_like(written))
        return (
            names,
            values,
            [tf.cast(line, value.dtype) for line, value in zip(baselines, values, strict=True)],
        )

    def crossed(
        self,
        queries: tf.Tensor,
        names: list[tuple[str, str]],
        lines: list[tf.Tensor],
        seen: list[tuple[tf.Tensor, tf.Tensor]],
    ) -> tf.Tensor:
        """The head's output where `lines` are what `item_sources` lists, float `[any, hidden]`; `seen` holds
        the history and its mask of each row, where the candidate attends to it."""
        model = self.model
        user, item, own = lines[:3]
        written = [] if model.reviews is None else [lines[-1]]
        if written:
            names, lines = names[:-1], lines[:-1]
        modalities = {"id": own}
        features = [line for (kind, _), line in zip(names, lines, strict=True) if kind == "item_feature"]
        tower = model.item_tower
        first = len(tower.features)
        if tower.features:
            modalities["features"] = tf.add_n(features[:first])
        modalities |= {
            feature.name: line for feature, line in zip(tower.media, features[first:], strict=True)
        }
        if model.item_tower.has_text:
            modalities["text"] = lines[-1]
        # How much is known of an item is what it is, however much of the item is there on the way.
        activity = model.item_tower.activity_of(tf.reshape(self.inputs["item_index"], [-1]))
        if activity is not None:
            activity = tf.repeat(activity, tf.shape(own)[0] // tf.maximum(tf.size(activity), 1))
        encoded = model.item_tower.encode(modalities, training=False, activity=activity)
        fields = [tf.cast(queries, encoded.dtype), encoded, user, item]
        fields += [tf.cast(line, encoded.dtype) for line in written]
        if model.attention is not None:
            fields += [model.attention(encoded, history, mask) for history, mask in seen]
        return model.head(tf.stack(fields, 1), training=False)
