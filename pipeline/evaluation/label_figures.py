"""Figures of the ranking model's further labels, as functions of sums over users: `auc_of_LABEL`,
`log_loss_of_LABEL`, `rmse_of_LABEL`, `mae_of_LABEL`.

Each is over the test interactions of which the label is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pipeline.evaluation.figures import Figure
from tfrec_fusion.config import LabelKind
from tfrec_fusion.metrics.pointwise import log_losses, placements

FIGURES: dict[LabelKind, tuple[str, ...]] = {"binary": ("auc", "log_loss"), "rating": ("rmse", "mae")}


def figure_names(labels: Mapping[str, LabelKind]) -> list[str]:
    """The figures of some labels."""
    return [f"{name}_of_{label}" for label, kind in labels.items() for name in FIGURES[kind]]


def label_columns(
    label: str, kind: LabelKind, prefix: str, values: np.ndarray, scores: np.ndarray
) -> dict[str, np.ndarray]:
    """What is summed over users.

    Args:
        label: its name.
        kind: its kind.
        prefix: of whose predictions: the candidate (empty) or the last blessed model.
        values: float64 `[rows]`, the label, NaN where it is not known.
        scores: float64 `[rows]`, the predictions.

    Returns:
        Columns by name, float64 `[rows]`; 0 where the label is not known.
    """
    known = ~np.isnan(values)
    columns = {f"known_of_{label}": known.astype(np.float64)}

    def spread(some: np.ndarray) -> np.ndarray:
        every = np.zeros(len(values))
        every[known] = some
        return every

    given, predicted = values[known], scores[known]
    if kind == "rating":
        error = predicted - given
        columns[f"{prefix}squared_of_{label}"] = spread(error**2)
        columns[f"{prefix}absolute_of_{label}"] = spread(np.abs(error))
        return columns
    yes = given > 0
    columns[f"yes_of_{label}"], columns[f"no_of_{label}"] = spread(1.0 * yes), spread(1.0 * ~yes)
    columns[f"{prefix}log_loss_of_{label}"] = spread(log_losses(given, predicted))
    # As for clicks (`ranking._auc_columns`): to first order the AUC moves with the means of both kinds.
    positions = placements(yes, predicted)
    mean = positions[yes].sum() / max(1, yes.sum())
    columns[f"{prefix}placed_yes_of_{label}"] = spread(np.where(yes, positions, 0))
    columns[f"{prefix}placed_no_of_{label}"] = spread(np.where(yes, 0, positions - mean))
    return columns


def label_figures(label: str, kind: LabelKind) -> dict[str, Callable[[str], Figure]]:
    """Each figure of a label by the prefix of whose predictions are judged."""
    known = f"known_of_{label}"
    if kind == "rating":
        return {
            f"rmse_of_{label}": lambda prefix: (
                lambda totals: np.sqrt(totals[f"{prefix}squared_of_{label}"] / totals[known])
            ),
            f"mae_of_{label}": lambda prefix: (
                lambda totals: totals[f"{prefix}absolute_of_{label}"] / totals[known]
            ),
        }
    return {
        f"auc_of_{label}": lambda prefix: (
            lambda totals: (
                totals[f"{prefix}placed_yes_of_{label}"] / totals[f"yes_of_{label}"]
                + totals[f"{prefix}placed_no_of_{label}"] / totals[f"no_of_{label}"]
            )
        ),
        f"log_loss_of_{label}": lambda prefix: (
            lambda totals: totals[f"{prefix}log_loss_of_{label}"] / totals[known]
        ),
    }
