"""Precision, recall and F1 per class, as a classification report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def classification_report(
    labels: np.ndarray, predictions: np.ndarray, names: Sequence[str] | None = None
) -> dict[str, dict[str, float]]:
    """Judges a classifier class by class.

    Precision is the share of a class's predictions that are right, recall the share of its members that are
    found, F1 their harmonic mean; a share of nothing is 0. `macro` averages over classes, `weighted` by how
    many members each has.

    Args:
        labels: integer `[examples]`, classes from 0.
        predictions: integer `[examples]`, the class predicted.
        names: name of each class; None takes the numbers. Classes that never occur count as well.

    Returns:
        Per class, and for `macro` and `weighted`: `precision`, `recall`, `f1` and `support` (members); for
            `accuracy` the
        share that is right, as `f1`.

    Raises:
        ValueError: if the lengths differ or a class has no name.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or not len(labels):
        raise ValueError(
            f"`labels` and `predictions` must be of one length above 0. Received: {labels.shape} and "
            f"{predictions.shape}. Give one of each per example."
        )
    count = int(max(labels.max(), predictions.max())) + 1
    names = [str(number) for number in range(count)] if names is None else list(names)
    if count > len(names):
        raise ValueError(
            f"`names` must name every class. Received: {len(names)} names for class {count - 1}. Name it."
        )
    hits = np.bincount(labels[labels == predictions], minlength=len(names)).astype(float)
    support = np.bincount(labels, minlength=len(names))
    precision = _share(hits, np.bincount(predictions, minlength=len(names)))
    recall = _share(hits, support)
    values = {
        "precision": precision,
        "recall": recall,
        "f1": _share(2 * precision * recall, precision + recall),
    }
    report = {
        name: {
            **{kind: float(value[position]) for kind, value in values.items()},
            "support": int(support[position]),
        }
        for position, name in enumerate(names)
    }
    total = int(support.sum())
    report["macro"] = {**{kind: float(value.mean()) for kind, value in values.items()}, "support": total}
    weighted = {kind: float(value @ support / total) for kind, value in values.items()}
    report["weighted"] = {**weighted, "support": total}
    report["accuracy"] = {"f1": float(hits.sum() / total), "support": total}
    return report


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
