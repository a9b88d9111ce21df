"""Tasks agree with the losses they wrap and, where they can be compared, with TFRS."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tfrec_fusion import losses, tasks

RNG = np.random.default_rng(0)
QUERY, CANDIDATE = (tf.constant(RNG.normal(size=(6, 4)), tf.float32) for _ in range(2))
IDS = tf.constant([1, 2, 1, 4, 5, 6])


@pytest.mark.parametrize("options", [{}, {"temperature": 0.3}, {"hard_negatives": 3}])
def test_retrieval_agrees_with_tfrs(options):
    theirs = dict(options)
    if "hard_negatives" in theirs:
        theirs["num_hard_negatives"] = theirs.pop("hard_negatives")
    reference = tfrs.tasks.Retrieval(remove_accidental_hits=True, **theirs)
    probability = tf.constant([0.3, 0.1, 0.3, 0.2, 0.05, 0.05])
    expected = reference(QUERY, CANDIDATE, candidate_ids=IDS, candidate_sampling_probability=probability)
    loss = tasks.Retrieval(**options)(QUERY, CANDIDATE, candidate_ids=IDS, log_q=tf.math.log(probability))
    # TFRS sums over the batch where we average.
    assert 6 * float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_retrieval_weighs_examples():
    weight = tf.constant([1.0, 0.0, 2.0, 0.0, 0.0, 1.0])
    per_example = losses.in_batch_bpr(QUERY, CANDIDATE, candidate_ids=IDS).numpy()
    loss = tasks.Retrieval("bpr")(QUERY, CANDIDATE, candidate_ids=IDS, sample_weight=weight)
    assert float(loss) == pytest.approx(np.mean(per_example * weight), rel=1e-5)


def test_ranking_keeps_its_metric():
    rating = tasks.Ranking("rating", "stars")
    loss = rating(tf.constant([4.0, 2.0]), tf.constant([3.0, 2.0]))
    assert float(loss) == pytest.approx(0.5)
    assert rating.metric.name == "rmse_stars"
    assert float(rating.metric.result()) == pytest.approx(np.sqrt(0.5))
    binary = tasks.Ranking("binary", "click")
    binary(tf.constant([1.0, 0.0, 1.0, 0.0]), tf.constant([2.0, -1.0, 0.5, -3.0]))
    assert float(binary.metric.result()) == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(binary.activate(tf.constant([0.0])), [0.5])
    np.testing.assert_allclose(rating.activate(tf.constant([3.5])), [3.5])


@pytest.mark.parametrize("task", [tasks.Retrieval("bpr", gather=False), tasks.Ranking("binary", "click")])
def test_configuration_round_trips(task):
    assert type(task).from_config(task.get_config()).get_config() == task.get_config()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'softmax' or 'bpr'"):
        tasks.Retrieval("hinge")
    with pytest.raises(ValueError, match="'rating' or 'binary'"):
        tasks.Ranking("stars")
    with pytest.raises(ValueError, match="regression or a classification"):
        tasks.MultitaskWeighting({"a": "ranking"})
    with pytest.raises(ValueError, match="must name the tasks"):
        tasks.MultitaskWeighting({"a": "regression"}, {"b": 1.0})


def test_multitask_weighting_by_hand():
    kinds = {"rating": "regression", "click": "classification"}
    values = {"rating": tf.constant(2.0), "click": tf.constant(3.0)}
    assert tasks.MultitaskWeighting(kinds, {"rating": 0.5, "click": 2.0})(values).numpy() == pytest.approx(
        7.0
    )
    learned = tasks.MultitaskWeighting(kinds)
    assert learned(values).numpy() == pytest.approx(0.5 * 2 + 3)
    learned.log_variance.assign([np.log(4.0), np.log(9.0)])
    assert learned(values).numpy() == pytest.approx(2 / 8 + np.log(2) + 3 / 9 + np.log(3))
    copy = tasks.MultitaskWeighting.from_config(learned.get_config())
    assert copy(values).numpy() == pytest.approx(4.0)


def test_learned_uncertainty_settles_where_kendall_says():
    # d/ds (exp(-s) L / 2 + s / 2) = 0 where exp(s) = L: a regression's variance is its squared error.
    layer = tasks.MultitaskWeighting({"rating": "regression"})
    optimizer = tf_keras.optimizers.SGD(0.5)
    for _ in range(200):
        with tf.GradientTape() as tape:
            loss = layer({"rating": tf.constant(3.0)})
        optimizer.minimize(loss, layer.trainable_variables, tape=tape)
    assert np.exp(layer.log_variance.numpy()[0]) == pytest.approx(3.0, rel=1e-3)
