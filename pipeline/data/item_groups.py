"""Items by how often they were chosen in training: the groups of training and report."""

from __future__ import annotations

GROUPS = (
    (0, "never chosen in training"),
    (1, "chosen 1 to 4 times"),
    (5, "chosen 5 to 19 times"),
    (20, "chosen 20 times or more"),
)
"""The least number of choices, and a name."""
FUSION_WEIGHTS = "fusion_weights.json"
"""Of a trainer's `model_run`: group → number of items, and mean weight of each modality."""


def group_of(count: int) -> str:
    """The group of an item that was chosen so often."""
    return next(name for least, name in reversed(GROUPS) if count >= least)
