"""Ridge regression of what is learned of items on what is known of them, by folds."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec_fusion.models.hybrid.blend import Blend
from tfrec_fusion.models.hybrid.blend_rows import CHUNK
from tfrec_fusion.models.hybrid.blend_solving import FoldedRidge
from tfrec_fusion.models.two_tower import TwoTower

FOLDS = 5


class SideRegression:
    """What is learned of items, from what is known of them.

    Args:
        model: what learned it.
        blend: the model's, its tables filled.
        known: sorted indices of the items to learn from.
        rng: of the folds.
    """

    def __init__(self, model: TwoTower, blend: Blend, known: np.ndarray, rng: np.random.Generator):
        self.model, self.blend, self.known = model, blend, known
        self.folds = rng.permutation(len(known)) % FOLDS
        self.ridge = FoldedRidge(FOLDS, self.blend.side_dim, sum(self.blend.predicted_widths))
        shares = model.counts / model.counts[known].mean()
        for start in range(0, len(known), CHUNK):
            rows = known[start : start + CHUNK]
            vectors = model.candidate_embeddings(tf.constant(rows, tf.int32)).numpy()
            learned = self.blend.learned(vectors, shares[rows])
            self.ridge.add(self.folds[start : start + CHUNK], self._side(rows), learned)

    def use(self, ridge: float) -> None:
        """Predicts of new items by what was learned from all known ones."""
        self.blend.predictor.assign(self.ridge.solve(ridge).astype(np.float32))
        self.blend.predicts.assign(True)

    def unseen(self, items: np.ndarray, vectors: np.ndarray, ridge: float) -> np.ndarray:
        """Vectors of known items as if they were new, predicted from the others.

        Args:
            items: `[n]`.
            vectors: float32 `[n, width]`, theirs, weighed alike.
            ridge: of the regression.
        """
        predicted = np.zeros((len(items), sum(self.blend.predicted_widths)), np.float32)
        folds = self.folds[np.searchsorted(self.known, items)]
        solved = np.stack([self.ridge.solve(ridge, without=fold) for fold in range(FOLDS)]).astype(np.float32)
        for start in range(0, len(items), CHUNK):
            side, fold = self._side(items[start : start + CHUNK]), folds[start : start + CHUNK]
            for one in np.unique(fold):
                predicted[start + np.flatnonzero(fold == one)] = side[fold == one] @ solved[one]
        return self.blend.as_if_new(vectors, predicted)

    def _side(self, items: np.ndarray) -> np.ndarray:
        return self.blend.side(self.model.item_tower.values(tf.constant(items, tf.int32))).numpy()
