"""Planted cases for the gate: users whose held-out items a candidate and the last blessed model rank as
planted."""

import numpy as np
import tensorflow as tf

from pipeline.evaluation.retrieval import TOP, rank_feature
from pipeline.evaluation.slices import PREFIX

CASES = ("better", "worse", "worse for cold items")
USERS, COLD = 400, 0.3


def plant(case: str, seed: int) -> list[dict]:
    """One held-out item a user: whether it is cold, and its rank by the candidate and by the last blessed
    model.

    A model finds (ranks among the first ten) an item with a certain probability, and what it finds of users
    whom both serve well or badly is correlated: half of the draws are shared.
    """
    rng = np.random.default_rng(seed)
    cold = rng.random(USERS) < COLD
    before = np.where(cold, 0.35, 0.40)
    after = {
        "better": before + 0.15,
        "worse": before - 0.15,
        "worse for cold items": np.where(cold, 0.05, 0.45),
    }[case]
    shared, use = rng.random(USERS), rng.random(USERS) < 0.5
    rows = []
    for user in range(USERS):
        ranks = {}
        for model, chance in (("candidate", after), ("blessed", before)):
            draw = shared[user] if use[user] else rng.random()
            result = draw < chance[user]
            ranks[model] = float(rng.integers(1, 11) if result else rng.integers(11, 500))
        rows.append(
            {
                "user": f"u{user}",
                "cold": bool(cold[user]),
                "popularity": float(rng.integers(1, 500)),
                **ranks,
            }
        )
    return rows


def serialised(row: dict) -> bytes:
    """A row as the Evaluator's Example."""
    words = {"user_id": row["user"], PREFIX + "item_activity": "cold" if row["cold"] else "common"}
    numbers = {
        "candidate": row["candidate"],
        "blessed": row["blessed"],
        rank_feature("popularity"): row["popularity"],
        "click": 1.0,
    }
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
        for name, value in words.items()
    } | {
        name: tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        for name, value in numbers.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


class Planted(tf.Module):
    """Answers as a retrieval model does, with the ranks that the Examples bring under its name."""

    def __init__(self, name: str):
        super().__init__()
        self.field = name

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")], autograph=False)
    def evaluate(self, examples):
        parsed = tf.io.parse_example(examples, {self.field: tf.io.FixedLenFeature([], tf.float32)})
        rank = parsed[self.field]
        ones = tf.ones_like(rank)
        top = tf.tile(tf.range(1, TOP + 1)[None], [tf.size(rank), 1])
        return {
            "rank": rank,
            "top": top,
            "novelty": ones,
            "diversity": ones,
            "unexpected": ones,
            "catalogue_size": tf.fill(tf.shape(rank), 500),
        }


def save(name: str, folder: str) -> None:
    """Writes a `Planted` model."""
    model = Planted(name)
    tf.saved_model.save(model, folder, signatures={"serving_default": model.evaluate})
