"""Baselines: a checkerboard whose held-out squares must rank first, and small cases worked out by hand."""

import numpy as np
import pytest
import scipy.sparse

from tfrec_fusion.models import baselines

# Even users like even items, odd users odd ones. Index 0 is nobody and nothing.
SIZE = 40
CHECKERBOARD = np.zeros((SIZE + 1, SIZE + 1), np.float32)
for user in range(1, SIZE + 1):
    CHECKERBOARD[user, [item for item in range(1, SIZE + 1) if item % 2 == user % 2 and item != user]] = 1


@pytest.mark.parametrize(
    "baseline",
    [
        baselines.ItemKNN(k=40),
        baselines.EASE(l2=1.0),
        # As many factors as the board has: with more, the conjugate gradients of `implicit` divide by
        # residuals near 0.
        baselines.ALS(dim=2, iterations=10),
        baselines.BPR(dim=8, iterations=300, learning_rate=0.05),
        baselines.ContentKNN(np.stack([np.arange(SIZE + 1) % 2, (np.arange(SIZE + 1) + 1) % 2], 1)),
    ],
    ids=lambda baseline: type(baseline).__name__,
)
def test_held_out_squares_of_a_checkerboard_rank_first(baseline):
    users = np.arange(1, SIZE + 1)
    scores = baseline.fit(scipy.sparse.csr_matrix(CHECKERBOARD)).scores(users)
    assert scores.shape == (SIZE, SIZE + 1)
    assert scores.dtype == np.float32
    scores[CHECKERBOARD[users] > 0] = -np.inf
    scores[:, 0] = -np.inf
    np.testing.assert_array_equal(scores.argmax(1), users)


def test_popularity_counts():
    matrix = baselines.interaction_matrix(np.array([1, 1, 2, 2]), np.array([1, 2, 2, 2]), 3, 4)
    np.testing.assert_array_equal(
        baselines.Popularity().fit(matrix).scores(np.array([2, 0])), [[0, 1, 2, 0]] * 2
    )


def test_item_knn_by_hand():
    # Items 0 and 1 share one of their users: cosine 1 / sqrt(1 * 2) with no shrinkage.
    matrix = scipy.sparse.csr_matrix(np.array([[1, 1, 0], [0, 1, 0]], np.float32))
    scores = baselines.ItemKNN(k=2, shrink=0.0).fit(matrix).scores(np.array([1]))
    np.testing.assert_allclose(scores, [[1 / np.sqrt(2), 0, 0]], atol=1e-6)


def test_ease_solves_its_ridge_regression():
    rng = np.random.default_rng(0)
    matrix = (rng.random((30, 6)) < 0.4).astype(np.float32)
    weights = baselines.EASE(l2=2.0).fit(scipy.sparse.csr_matrix(matrix)).weights
    for item in range(6):
        others = np.delete(np.arange(6), item)
        left = matrix[:, others]
        expected = np.linalg.solve(left.T @ left + 2 * np.eye(5), left.T @ matrix[:, item])
        np.testing.assert_allclose(weights[others, item], expected, rtol=1e-4, atol=1e-5)


def test_users_are_known_by_what_they_chose():
    """As by their rows in training; of ALS, as `implicit` solves a user anew."""
    rng = np.random.default_rng(0)
    chosen = (rng.random((40, 12)) < 0.3) * rng.integers(1, 4, (40, 12))
    chosen[0] = 0
    matrix, new = (scipy.sparse.csr_matrix(rows, dtype=np.float32) for rows in (chosen, chosen[::-1]))
    others = [baselines.Popularity(), baselines.ItemKNN(), baselines.EASE(), baselines.ContentKNN(np.eye(12))]
    for baseline in others:
        np.testing.assert_array_equal(
            baseline.fit(matrix).scores_of(new), baseline.scores(np.arange(40)[::-1])
        )
    als = baselines.ALS(dim=4).fit(matrix)
    implicit = pytest.importorskip("implicit.als").AlternatingLeastSquares(
        factors=4, regularization=als.regularization, alpha=als.alpha, use_gpu=False
    )
    implicit.item_factors, implicit.user_factors = als.item_factors, als.user_factors
    solved = implicit.recalculate_user(np.arange(40), new)
    np.testing.assert_allclose(als.factors_of(new), solved, atol=2e-4)
    np.testing.assert_allclose(als.scores_of(new), solved @ als.item_factors.T, atol=1e-3)
    with pytest.raises(ValueError, match="BPR knows users by their rows"):
        baselines.BPR(iterations=1).fit(matrix).scores_of(new)


def test_errors_name_the_rule():
    with pytest.raises(ValueError, match="must be fitted first"):
        baselines.EASE().scores(np.array([1]))
    with pytest.raises(ValueError, match="at least one"):
        baselines.Popularity().fit(scipy.sparse.csr_matrix((3, 4)))
    with pytest.raises(ValueError, match="one row per item"):
        baselines.ContentKNN(np.ones((3, 2))).fit(scipy.sparse.csr_matrix(np.ones((2, 5))))
