"""Without text and corrections, the two-tower model is a plain TFRS model: step for step the same."""

import dataclasses

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tests.models.planted_models import RETRIEVAL, batches, two_tower
from tfrec_fusion.datasets.synthetic import planted


class PlainTFRS(tfrs.Model):
    """The tutorial's model: two towers and `tfrs.tasks.Retrieval`."""

    def __init__(self, item_tower, query_tower):
        super().__init__()
        self.item_tower, self.query_tower = item_tower, query_tower
        mean = tf_keras.losses.CategoricalCrossentropy(from_logits=True)
        self.task = tfrs.tasks.Retrieval(loss=mean, remove_accidental_hits=True)

    def compute_loss(self, inputs, training=False):
        history = self.item_tower.lookup(inputs["history"])
        query = self.query_tower(inputs, history, inputs["history"] > 0)[:, -1]
        candidate = self.item_tower.lookup(inputs["item_index"])
        return self.task(query, candidate, candidate_ids=inputs["item_index"], compute_metrics=False)


def test_text_off_trains_step_for_step_like_plain_tfrs():
    data = planted(num_users=40, circles=3, text=False)
    plain = dataclasses.replace(
        RETRIEVAL, negatives=0, logq=False, all_positions=False, normalize=False, temperature=1.0
    )
    options = {"user_id": True, "id_dropout": 0.0, "history_encoder": "mean"}
    ours, reference = two_tower(data, plain, **options), two_tower(data, plain, **options)
    theirs = PlainTFRS(reference.item_tower, reference.query_tower)
    for model in (ours, theirs):
        model.compile(optimizer=tf_keras.optimizers.Adam(0.01))
    first_weights = [weight.numpy() for weight in ours.trainable_weights]
    for step, batch in enumerate(batches(data.train, 16).take(10)):
        ours.loss_mean.reset_state()
        loss, expected = ours.train_step(batch)["loss"], theirs.train_step(batch)["loss"]
        np.testing.assert_allclose(loss, expected, rtol=1e-4, err_msg=f"step {step}")
    for weight, expected in zip(ours.trainable_weights, reference.trainable_weights, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-2, atol=1e-4, err_msg=weight.name)
    assert any(
        np.abs(now - then).max() > 0.01 for now, then in zip(ours.get_weights(), first_weights, strict=False)
    )
    assert tf.reduce_all([tf.reduce_all(tf.math.is_finite(weight)) for weight in ours.trainable_weights])
