"""The two-tower model of TFRS's tutorial as a peer in `benchmarks.quality`: ids alone, in-batch softmax,
Adagrad."""

from __future__ import annotations

import numpy as np
import scipy.sparse

import tfrec_fusion  # noqa: F401  # selects Keras 2, which TFRS needs

import tensorflow as tf  # isort: skip
import tensorflow_recommenders as tfrs  # isort: skip
import tf_keras

from tfrec_fusion.models.baselines import Baseline

DIM, BATCH = 64, 1024


class TFRSTwoTower(Baseline):
    """https://www.tensorflow.org/recommenders/examples/basic_retrieval, in batches that fit small data.

    Args:
        learning_rate: of Adagrad.
        epochs: passes over the interactions.
        seed: of start and order.
    """

    def __init__(self, learning_rate: float, epochs: int, seed: int = 1):
        self.learning_rate, self.epochs, self.seed = learning_rate, epochs, seed

    def _fit(self, interactions: scipy.sparse.csr_matrix) -> None:
        tf_keras.utils.set_random_seed(self.seed)
        pairs = interactions.tocoo()
        model = _Towers(interactions.shape, DIM)
        model.compile(optimizer=tf_keras.optimizers.Adagrad(self.learning_rate))
        data = tf.data.Dataset.from_tensor_slices(
            {"user": pairs.row.astype(np.int32), "item": pairs.col.astype(np.int32)}
        )
        data = data.shuffle(pairs.nnz, seed=self.seed).batch(BATCH)
        model.fit(data, epochs=self.epochs, verbose=0)
        self.user_vectors, self.item_vectors = (
            tower.get_weights()[0] for tower in (model.users, model.items)
        )

    def _scores(self, users: np.ndarray) -> np.ndarray:
        return self.user_vectors[users] @ self.item_vectors.T


class _Towers(tfrs.Model):
    def __init__(self, shape: tuple[int, int], dim: int):
        super().__init__()
        self.users, self.items = (tf_keras.layers.Embedding(size, dim) for size in shape)
        self.task = tfrs.tasks.Retrieval()

    def compute_loss(self, features, training=False):
        return self.task(self.users(features["user"]), self.items(features["item"]), compute_metrics=False)
