"""Signs and weights of events for models: chosen, shown or disliked, and how much that counts."""

from __future__ import annotations

from tfrec_fusion.datasets.splits import Event
from tfrec_fusion.datasets.tables import Tables

__all__ = ["chosen_sign", "exposure_of", "is_click"]


def is_click(event: Event, threshold: float) -> bool:
    """Whether the ranking model learns it as a yes: it was chosen, with a label of at least the threshold
    where there is one."""
    return event.chosen and (event.label is None or event.label >= threshold)


def chosen_sign(event: Event) -> float:
    """1 of a choice, 0 of what was shown and not chosen, -1 of what was disliked."""
    return 1.0 if event.chosen else -1.0 if event.weight < 0 else 0.0


def exposure_of(event: Event, tables: Tables) -> float:
    """How much it counts for the ranking: of a choice the inverse of the probability that its position was
    seen, else 1."""
    table = tables.impressions or tables.interactions
    return table.exposure(event.position) if event.chosen else 1.0
