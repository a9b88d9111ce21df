"""Planted data as it is served: users, text tower, saved models, and the questions that tests put to them."""

import dataclasses

import numpy as np
import tensorflow as tf

from tests.models.planted_models import catalogue, ranking, two_tower
from tfrec_fusion.export import base as export
from tfrec_fusion.export.list_rules import Wishes
from tfrec_fusion.export.ranking import RankingSignatures
from tfrec_fusion.export.recommender import RecommenderSignatures
from tfrec_fusion.export.request import INPUTS
from tfrec_fusion.export.retrieval import RetrievalSignatures, searchable
from tfrec_fusion.index import BruteForce
from tfrec_fusion.layers.text_encoder import TextEncoder
from tfrec_fusion.layers.tokenizers.wordpiece import WordPieceTokenizer
from tfrec_fusion.models.user_profiles import Profiles

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "space", "robot", "love", "paris", "adventure"]
HISTORY = 4


class Transform(tf.Module):
    """Stands for Transform's graph: user ids to indices."""

    def __init__(self, ids):
        super().__init__()
        self.rows = export.Lookup(ids)

    def __call__(self, raw):
        return {"user_index": tf.cast(self.rows(raw["user_id"]), tf.int64)}


def text_tower(dim):
    encoder = TextEncoder(
        {
            "model_type": "bert",
            "vocab_size": len(WORDS),
            "hidden_size": dim,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "max_position_embeddings": 16,
            "initializer_range": 0.5,
        }
    )
    encoder.build(None)
    tokenizer = WordPieceTokenizer(WORDS, max_length=8, pad_to="longest")
    return export.TextTower(tokenizer, encoder, encoder.dim, query_prefix="paris ")


def user_profiles(data):
    """Users and their histories, by the names that requests give."""
    users = np.array([""] + [f"user {number}" for number in range(1, data.space.num_users)], object)
    chosen = [[] for _ in users]
    for user, history in zip(data.test["user_index"], data.test["history"], strict=True):
        chosen[user] = [item for item in history if item]
    items = np.array([item for some in chosen for item in some], np.int32)
    splits = np.concatenate([[0], np.cumsum([len(some) for some in chosen])]).astype(np.int64)
    return Profiles(
        ids=users,
        features={"user_index": np.arange(len(users), dtype=np.int32)},
        history_items=items,
        history_splits=splits,
        history_length=HISTORY,
        seen_items=items,
        seen_splits=splits,
    )


def known_history(profiles, user):
    """int32 `[HISTORY]`, what a user chose, newest last."""
    start, end = profiles.history_splits[user : user + 2]
    return np.pad(profiles.history_items[start:end], (HISTORY - (end - start), 0))


RAW = {
    "user_id": tf.io.FixedLenFeature([], tf.string),
    "item_id": tf.io.FixedLenFeature([], tf.string),
    "history": tf.io.VarLenFeature(tf.string),
    "seen": tf.io.VarLenFeature(tf.string),
}


def serving_arguments(data, profiles):
    tower = text_tower(data.space.text_dim)
    names = np.array(["", *(f"circle {number}" for number in range(1, data.genre.max() + 1))], object)
    items = dataclasses.replace(catalogue(data), names={"genre": names})
    return items, profiles, data.space.item_features, (), tower, Transform(profiles.ids), RAW


def save_models(data, profiles, folder):
    """Saves the recommender and the two models alone, untrained; returns their folders."""
    retrieval, ranker = two_tower(data), ranking(data)
    arguments = serving_arguments(data, profiles)
    index = BruteForce().index(searchable(retrieval, catalogue(data))[1:])
    parts = {
        "recommender": RecommenderSignatures(
            retrieval, *arguments, index=index, ranking=ranker, head="rating", rank_weight=0.25
        ),
        "retrieval": RetrievalSignatures(retrieval, *arguments, index=index),
        "ranking": RankingSignatures(ranker, *arguments),
    }
    for name, part in parts.items():
        export.save(part, str(folder / name))
    return {name: str(folder / name) for name in parts}


def matrix(*values):
    return tf.constant([list(values)], tf.string, shape=[1, len(values)])


def no_wishes():
    """The inputs of `recommend` that are about the list as a whole, at their defaults."""
    return {
        name: matrix() if INPUTS[name].axes else tf.constant(INPUTS[name].default) for name in Wishes._fields
    }


def recommend(
    loaded,
    user="",
    history=(),
    text="",
    k=3,
    exclude=(),
    include_seen=False,
    allow=(),
    categories=(),
    probes=0,
    quotas=(),
    **wishes,
):
    return loaded.signatures["recommend"](
        user_id=tf.constant([user]),
        history=matrix(*history),
        text=tf.constant([text]),
        k=tf.constant(k),
        exclude=matrix(*exclude),
        include_seen=tf.constant(include_seen),
        allow=matrix(*allow),
        categories=matrix(*categories),
        probes=tf.constant(probes),
        **{
            **no_wishes(),
            "quotas": matrix(*quotas),
            **{name: tf.constant(value) for name, value in wishes.items()},
        },
    )


def ids(answer):
    return [item.decode() for item in answer["item_ids"].numpy()[0]]
