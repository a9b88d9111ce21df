"""The benchmark of explanations, on scores that are sums by construction."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.explanations import STEPS, Case, curves
from benchmarks.quadrature import measure
from tfrec_fusion.models.contributions import PartScores

WEIGHTS = {f"i{number}": float(number) for number in range(10)}


def scores(histories, items):
    return np.array([sum(WEIGHTS[item] for item in history) for history in histories])


def test_the_order_of_the_weights_falls_fastest():
    history = list(WEIGHTS)
    right, wrong = list(range(9, -1, -1)), list(range(10))
    orders = {"explain": right, "random 0": wrong, "random 1": right}
    falls = curves(
        scores, [Case(history, "x", orders), Case(history[:8], "x", {**orders, "explain": right[2:]})]
    )
    assert falls["explain"].shape == (2, STEPS + 1)
    np.testing.assert_allclose(falls["explain"][0], np.cumsum([0, 9, 8, 7, 6, 5]))
    np.testing.assert_allclose(falls["explain"][1], np.cumsum([0, 7, 6, 5, 4, 3]))
    np.testing.assert_allclose(falls["random"][0, 1], (0 + 9) / 2)
    assert (falls["explain"][0] >= falls["random"][0]).all()


def test_the_completeness_error_is_a_share_of_what_is_taken_apart():
    """Of 4 and -2 beyond the base, sources account for 3 and -2; of 2 and 0 in another batch, for all."""

    def explain(batch):
        moved = batch["moved"]
        return PartScores(
            "tower",
            scores=moved + 5.0,
            base=tf.fill(tf.shape(moved), 5.0),
            history=batch["by_item"][:, :, None],
            others={("user", ""): batch["by_user"]},
        )

    rows = [
        {"moved": [[4.0, -2.0]], "by_item": [[2.0, -2.0]], "by_user": [[1.0, 0.0]]},
        {"moved": [[2.0, 0.0]], "by_item": [[0.0, 1.0]], "by_user": [[2.0, -1.0]]},
    ]
    batches = [{name: tf.constant(values) for name, values in row.items()} for row in rows]
    share, seconds = measure(explain, [{**batch, "candidates": batch["moved"]} for batch in batches])
    assert share == pytest.approx(1 / 8) and seconds > 0
