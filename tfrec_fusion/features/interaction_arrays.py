"""Interactions by split, and users, as the arrays that models take, in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.config import SplitConfig, TextConfig
from tfrec_fusion.datasets.impressions import chosen_sign, exposure_of, is_click
from tfrec_fusion.datasets.splits import Event, split_users
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features.columns import (
    USER_VOCABULARY,
    RawFeature,
    context_features,
    label_feature,
    pair_features,
    user_features,
)
from tfrec_fusion.features.graph import interaction_inputs
from tfrec_fusion.features.padding import arrays, end_to_end, left_padded, objects
from tfrec_fusion.features.reviews import Reviews, reviews_of
from tfrec_fusion.features.statistics import Fitted, Statistics, encoded, learn, sparse, vocabulary_of
from tfrec_fusion.models.user_profiles import Profiles
from tfrec_fusion.naming import USER_REVIEWS

__all__ = ["RequestTransform", "SplitRows"]

Columns = dict[str, np.ndarray]


class RequestTransform(tf.Module):
    """Raw features of requests and Examples as the inputs of a model (`graph.interaction_inputs`).

    Args:
        tables: the columns.
        vocabulary_size: as in `TransformConfig`.
        statistics: what was learned from training.
    """

    def __init__(self, tables: Tables, vocabulary_size: int, statistics: Statistics):
        super().__init__()
        self.tables, self.vocabulary_size, self.statistics = tables, vocabulary_size, statistics
        self.learned = Fitted(statistics)

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return interaction_inputs(inputs, self.tables, self.vocabulary_size, self.learned)


class SplitRows:
    """Interactions by split, and what is known of their users.

    Args:
        tables: settled.
        users: rows of the users' table by id.
        events: each user's interactions, in order.
        split: how they are divided.
        click_threshold, test_from: as in `prepare`.
        text: which encoder reads what users wrote.
        vectors: folder that keeps its vectors.
    """

    def __init__(
        self,
        tables: Tables,
        users: dict[str, dict[str, Any]],
        events: dict[str, list[Event]],
        split: SplitConfig,
        click_threshold: float,
        test_from: int | None = None,
        text: TextConfig | None = None,
        vectors: str | None = None,
    ):
        self.tables, self.events, self.split, self.click_threshold = tables, events, split, click_threshold
        self.users = list(dict.fromkeys((*events, *users)))
        self.row = {user: row for row, user in enumerate(self.users)}
        self.side = {feature: objects(users.get(user, {}).get(feature.name) for user in self.users)
                     for feature in user_features(tables)}  # fmt: skip
        self.examples = split_users(events, split, test_from)
        self.reviews = reviews_of(events, self.examples, tables, split, text, vectors)
        if self.reviews is not None:
            own = next(feature for feature in self.side if feature.name == USER_REVIEWS)
            self.side[own] = objects(self.reviews.of_user(user) for user in self.users)

    def raw(self, part: str) -> dict[RawFeature, np.ndarray]:
        """The values of user and context features, one an interaction of a split."""
        rows = np.array([self.row[user] for user, _ in self.examples[part]], np.int64)
        columns = {feature: values[rows] for feature, values in self.side.items()}
        for position, feature in enumerate(context_features(self.tables)):
            values = (example.event.context[position] or None for _, example in self.examples[part])
            columns[feature] = objects(values)
        return columns if self.reviews is None else columns | self._of_their_moment(part, self.reviews)

    def _of_their_moment(self, part: str, reviews: Reviews) -> dict[RawFeature, np.ndarray]:
        """What each interaction of a split may know of texts."""
        own = [feature for feature in self.side if feature.name == USER_REVIEWS]
        examples = self.examples[part]
        columns = {feature: objects(reviews.of_user(user, example.known_until) for user, example in examples)
                   for feature in own}  # fmt: skip
        return columns | {
            feature: objects(
                reviews.of_item(example.event.item, example.known_until) for _, example in examples
            )
            for feature in pair_features(self.tables)
        }

    def learn(self, size: int, known: Mapping[str, Sequence[bytes]] | None = None) -> Statistics:
        """Of training: users by how often they chose, values of features by how often they stand there."""
        columns = self.raw("train")
        result = learn(
            list(columns), {feature.name: values for feature, values in columns.items()}, size, known
        )
        users = vocabulary_of(user for user, _ in self.examples["train"])
        return dataclasses.replace(result, vocabularies={**result.vocabularies, USER_VOCABULARY: users})

    def encode(self, part: str, item_index: Mapping[str, int], transform: RequestTransform) -> Columns:
        """A split as models take it."""
        examples, tables = self.examples[part], self.tables
        events = [example.event for _, example in examples]
        inputs: dict[str, Any] = {feature.name: sparse(values, feature)
                                  for feature, values in self.raw(part).items()}  # fmt: skip
        inputs["user_id"] = tf.constant([encoded(user) for user, _ in examples], tf.string)
        clicks = [is_click(event, self.click_threshold) for event in events]
        inputs["click"] = tf.constant(clicks, tf.float32)
        if tables.interactions.label:
            labels = [np.nan if event.label is None else event.label for event in events]
            inputs["label"] = tf.constant(labels, tf.float32)
        for place, label in enumerate(tables.further_labels):
            given = [event.labels[place] for event in events]
            values = [np.nan if value is None else value for value in given]
            inputs[label_feature(label)] = tf.constant(values, tf.float32)
        if tables.weighted:
            inputs["weight"] = tf.constant([max(event.weight, 0.0) for event in events], tf.float32)
        if tables.shows:
            inputs["chosen"] = tf.constant([chosen_sign(event) for event in events], tf.float32)
            inputs["exposure"] = tf.constant([exposure_of(event, tables) for event in events], tf.float32)
        columns = arrays(transform(inputs))
        width = self.split.history_length if part == "train" else self.split.held_out_history
        histories = [[item_index[item] for item in example.history] for _, example in examples]
        columns["history"] = left_padded(histories, width)
        columns["item_index"] = np.array([item_index[event.item] for event in events], np.int32)
        if tables.weighted and part == "train":
            weights = [example.history_weights for _, example in examples]
            columns["history_weight"] = left_padded(weights, width, np.float32)
        return columns

    def profiles(self, item_index: Mapping[str, int], transform: RequestTransform) -> Profiles:
        """Every user with their latest history, and a first row for unknown ones."""
        ids = ["", *self.users]
        inputs: dict[str, Any] = {feature.name: sparse([None, *values], feature)
                                  for feature, values in self.side.items()}  # fmt: skip
        inputs["user_id"] = tf.constant([encoded(user) for user in ids], tf.string)
        length = self.split.held_out_history
        chosen = [[], *([item_index[event.item] for event in self.events.get(user, ()) if event.chosen]
                        for user in self.users)]  # fmt: skip
        history, history_splits = end_to_end([items[-length:] for items in chosen])
        met = [[], *([item_index[event.item] for event in self.events.get(user, ()) if event.weight != 0]
                     for user in self.users)]  # fmt: skip
        seen, seen_splits = end_to_end([list(dict.fromkeys(items)) for items in met])
        return Profiles(
            np.array(ids, object),
            arrays(transform(inputs)),
            history,
            history_splits,
            length,
            seen,
            seen_splits,
        )
