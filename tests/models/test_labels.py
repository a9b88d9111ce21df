"""Several labels in one ranking model: what they share, how their losses are weighed, conversions."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.models.planted_models import RANKING, ranking, tensors
from tfrec_fusion.config import ConfigError, RankingConfig, TrainingConfig, loss_weights
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.models.label_gradients import freed_of_conflicts, last_matrix
from tfrec_fusion.training.fitting import build_optimizer

DATA = planted(num_users=40, circles=4)
LABELS = {"click": "binary", "rating": "rating", "again": "binary"}
TRAIN = {**DATA.train, "again": (DATA.train["rating"] > 4).astype(np.float32)}
BATCH = tensors({name: column[:32] for name, column in TRAIN.items()})
SHARING = ("shared_bottom", "mmoe", "ple", "cross_stitch")


TOWER = dataclasses.replace(RANKING.tower, dropout=0.0, id_dropout=0.0)


def made(**changes):
    return ranking(DATA, labels=LABELS, tower=TOWER, **changes)


@pytest.mark.parametrize("sharing", SHARING)
def test_each_label_has_an_output_and_a_gradient(sharing):
    model = made(sharing=sharing)
    outputs = model(BATCH)
    assert {name: value.shape for name, value in outputs.items()} == {name: (32,) for name in LABELS}
    with tf.GradientTape(persistent=True) as tape:
        losses = model.label_losses(BATCH)
    for loss in losses.values():
        assert float(tf.norm(tape.gradient(loss, last_matrix(model.head)))) > 0
    if sharing != "shared_bottom":
        reached = tape.gradient(losses["again"], model.experts.trainable_variables)
        assert any(gradient is not None and float(tf.norm(gradient)) > 0 for gradient in reached)


def test_experts_give_each_label_its_own_vector():
    model = made(sharing="ple")
    crossed = tf.random.stateless_normal([5, model.head.hidden[-1]], [1, 2])
    kernel, bias = model.output_layer.get_weights()
    mixed = model.experts(crossed)
    expected = np.stack([mixed[name].numpy() @ kernel[:, at] for at, name in enumerate(LABELS)], 1) + bias
    np.testing.assert_allclose(model.label_outputs(crossed), expected, rtol=1e-4, atol=1e-5)


def test_fixed_weights_weigh_and_validation_adds_up_by_them():
    assert made().fixed_weights == {"click": 0.1, "rating": 1.0, "again": 0.1}
    assert loss_weights(RankingConfig(), ["click", "rating"]) == {"click": 1.0, "rating": 1.0}
    assert loss_weights(RankingConfig(), ["click", "again"]) == {"click": 1.0, "again": 0.1}
    bought = RankingConfig(conversions=("bought",))
    assert loss_weights(bought, ["click", "bought", "again"]) == {"click": 1.0, "bought": 1.0, "again": 0.1}
    model = made(label_weights={"again": 0.25, "rating": 0.0, "click": 1.0})
    losses = {name: float(loss) for name, loss in model.label_losses(BATCH).items()}
    expected = losses["click"] + 0.25 * losses["again"]
    assert float(model.compute_loss(BATCH)) == pytest.approx(expected, rel=1e-5)
    assert float(model.compute_loss(BATCH, training=True)) == pytest.approx(expected, rel=1e-5)
    learned = made(weighting="uncertainty")
    learned.balance.log_variance.assign([1.0, 2.0, 3.0])
    parts = learned.label_losses(BATCH)
    assert float(learned.compute_loss(BATCH)) == pytest.approx(sum(map(float, parts.values())), rel=1e-5)
    assert float(learned.compute_loss(BATCH, training=True)) == pytest.approx(
        float(learned.balance(parts)), rel=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["uncertainty", "gradnorm", "pcgrad"])
def test_a_step_lowers_the_losses(weighting):
    model = made(weighting=weighting, sharing="mmoe")
    model.compile(build_optimizer(TrainingConfig(learning_rate=1e-2)))
    step = tf.function(model.train_step, autograph=False)
    before = float(model.compute_loss(BATCH))
    for _ in range(8):
        step(BATCH)
    assert float(model.compute_loss(BATCH)) < 0.9 * before
    if weighting == "gradnorm":
        current = model.balance.current.numpy()
        assert current.sum() == pytest.approx(3, rel=1e-4)
        assert np.ptp(current) > 0.01
    if weighting == "uncertainty":
        assert np.abs(model.balance.log_variance.numpy()).min() > 0


def test_conflicts_leave_the_shared_gradients_alone_of_what_is_in_accord():
    """Two losses of one shared and two own variables, by hand."""
    shared, mine, yours = tf.Variable([1.0, 2.0]), tf.Variable([1.0]), tf.Variable([1.0])
    ways = tf.constant([[1.0, 0.0], [-1.0, 1.0]])
    with tf.GradientTape(persistent=True) as tape:
        losses = {
            "a": (tf.reduce_sum(ways[0] * shared) + 3 * mine[0], 1.0),
            "b": (tf.reduce_sum(ways[1] * shared) + 4 * yours[0], 1.0),
        }
        total = losses["a"][0] + losses["b"][0]
    variables = [shared, mine, yours]
    found = freed_of_conflicts(tape, losses, variables, tape.gradient(total, variables), [])
    for gradient, expected in zip(found, [[0.5, 1.5], [3.0], [4.0]], strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    left = freed_of_conflicts(tape, losses, variables, tape.gradient(total, variables), [shared])
    np.testing.assert_allclose(left[0], [0.0, 1.0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_weights": {"click": 0, "rating": 0, "again": 0}}, "must sum to more than 0"),
        ({"label_weights": {"rating": 0}, "weighting": "gradnorm"}, "be above 0 with `weighting: gradnorm`"),
        ({"label_weights": {"bought": 2}}, r"must name labels \(click, rating, again\). Received: bought"),
        ({"conversions": ("bought",)}, "`ranking.conversions` must name labels"),
        ({"conversions": ("rating",)}, "must name binary labels other than `click`"),
        ({"conversions": ("click",)}, "must name binary labels other than `click`"),
    ],
)
def test_settings_that_fit_no_label_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        ranking(DATA, labels=LABELS, **changes)


def test_weightings_that_do_not_go_with_others_are_refused():
    with pytest.raises(ConfigError, match="must be 'none' with `weighting: pcgrad`"):
        RankingConfig(weighting="pcgrad", training=TrainingConfig(strategy="mirrored"))
    with pytest.raises(ConfigError, match="Received: 'mixed_float16'"):
        RankingConfig(weighting="gradnorm", training=TrainingConfig(precision="mixed_float16"))
    with pytest.raises(ConfigError, match="must be left out with `weighting: uncertainty`"):
        RankingConfig(weighting="uncertainty", label_weights={"click": 2.0})
