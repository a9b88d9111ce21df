"""The benchmark of explanations, on scores that are sums by construction."""

import numpy as np

from benchmarks.explanations import STEPS, Case, curves

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
