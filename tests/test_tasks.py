"""Tasks agree with the losses they wrap and, where they can be compared, with TFRS."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

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
