"""Models and data that the training benchmarks share: ours, plain TFRS, and BERT run in the naive way."""

from __future__ import annotations

import dataclasses

import numpy as np

import tfrec_fusion  # noqa: F401  (selects Keras 2 before TensorFlow is imported)

import tensorflow as tf  # isort: skip
import tensorflow_recommenders as tfrs  # isort: skip
import tf_keras  # isort: skip

from benchmarks.quality_data import item_texts, movielens_tables
from tfrec_fusion.config import FeatureSpace, RetrievalConfig, TowerConfig, TrainingConfig
from tfrec_fusion.features.preparing import Prepared
from tfrec_fusion.layers.text_encoder import TextEncoder
from tfrec_fusion.layers.tokenizers.base import catalogue_tokens
from tfrec_fusion.layers.tokenizers.loading import load_tokenizer
from tfrec_fusion.models.build import build_two_tower
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.training.fitting import build_optimizer

ENCODER = "all-MiniLM-L6-v2"
LENGTH = 64
BATCH = 256
HISTORY = 50
# The tutorial's shape: a user's id and history, one positive an example, in-batch negatives.
PLAIN = RetrievalConfig(
    tower=TowerConfig(dim=64, user_id=True, history_encoder="mean", id_dropout=0.0, dropout=0.0),
    training=TrainingConfig(batch_size=BATCH, learning_rate=1e-3),
    temperature=1.0,
    negatives=0,
    logq=False,
    normalize=False,
    all_positions=False,
)


def million(text_dim: int | None = 384, interactions: int = 1_000_000, num_items: int = 20_000) -> Prepared:
    """A synthetic catalogue, and interactions drawn by a power law; nothing to learn, only work."""
    rng = np.random.default_rng(0)
    num_users = 50_000
    popularity = 1 / np.arange(1, num_items + 1) ** 0.8
    cumulated = np.cumsum(popularity / popularity.sum())

    def draw(*shape: int) -> np.ndarray:
        return (np.searchsorted(cumulated, rng.random(shape)) + 1).clip(1, num_items).astype(np.int32)

    train = {
        "user_index": rng.integers(1, num_users, interactions).astype(np.int32),
        "history": draw(interactions, HISTORY),
        "item_index": draw(interactions),
    }
    vectors = rng.normal(size=(num_items + 1, text_dim)).astype(np.float16) if text_dim else None
    catalogue = Catalogue(
        ids=np.arange(num_items + 1).astype(str).astype(object),
        titles=np.arange(num_items + 1).astype(str).astype(object),
        features={},
        text_vectors=vectors,
        counts=np.bincount(train["item_index"], minlength=num_items + 1).astype(np.int64),
    )
    space = FeatureSpace(num_users, num_items + 1, text_dim=text_dim, history_length=HISTORY)
    return Prepared(space, catalogue, train, {}, {}, np.zeros(0, np.int64), [])


def two_tower(data: Prepared, config: RetrievalConfig, text: bool) -> TwoTower:
    """The model of a configuration, with or without text, ready for `train_step`."""
    space, catalogue = data.space, data.catalogue
    if not text:
        space = dataclasses.replace(space, text_dim=None)
        catalogue = dataclasses.replace(catalogue, text_vectors=None)
    model = build_two_tower(config, space, catalogue)
    model.compile(optimizer=build_optimizer(config.training), jit_compile=config.training.jit_compile)
    return model


class PlainTFRS(tfrs.Model):
    """The two-tower model of TFRS's tutorials, with the same towers as `PLAIN` without text."""

    def __init__(self, data: Prepared):
        super().__init__()
        twin = two_tower(data, PLAIN, text=False)
        self.item_tower, self.query_tower = twin.item_tower, twin.query_tower
        self.task = tfrs.tasks.Retrieval(remove_accidental_hits=True)
        self.compile(optimizer=tf_keras.optimizers.Adam(1e-3))

    def compute_loss(self, inputs, training=False):
        history = self.item_tower.lookup(inputs["history"])
        query = self.query_tower(inputs, history, inputs["history"] > 0, last_only=True)
        candidate = self.item_tower.lookup(inputs["item_index"])
        return self.task(query, candidate, candidate_ids=inputs["item_index"], compute_metrics=False)


class NaiveText(PlainTFRS):
    """The same with BERT run on the text of each example, padded to the full length: frozen, or fine-tuned
    whole."""

    def __init__(self, data: Prepared, tokens: dict[str, np.ndarray], stage: str):
        super().__init__(data)
        self.tokens = {name: tf.constant(values) for name, values in tokens.items()}
        self.encoder = TextEncoder.from_pretrained(ENCODER, stage=stage)
        self.projection = tf_keras.layers.Dense(PLAIN.tower.dim)

    def compute_loss(self, inputs, training=False):
        history = self.item_tower.lookup(inputs["history"])
        query = self.query_tower(inputs, history, inputs["history"] > 0, last_only=True)
        index = inputs["item_index"]
        text = self.encoder({name: tf.gather(values, index) for name, values in self.tokens.items()})
        candidate = self.item_tower.lookup(index) + self.projection(text)
        return self.task(query, candidate, candidate_ids=index, compute_metrics=False)


def titles_as_tokens() -> dict[str, np.ndarray]:
    """The tokens of MovieLens 100K's texts, row 0 empty, padded to `LENGTH`."""
    texts = ["", *item_texts(movielens_tables())]
    tokens = catalogue_tokens(load_tokenizer(ENCODER, max_length=LENGTH), texts)
    return {name: values.numpy() for name, values in tokens.items()}
