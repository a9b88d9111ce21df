"""Readers of a source into the three tables, and what is done to tables before a pipeline."""

from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

__all__ = [
    "Csv",
    "Edges",
    "Event",
    "EventColumns",
    "Graph",
    "Interactions",
    "Items",
    "Join",
    "Media",
    "Planted",
    "SplitExample",
    "Tables",
    "Users",
    "movielens_100k",
    "planted",
    "read_events",
    "split_user",
    "temporal_cutoffs",
]

if TYPE_CHECKING:
    from tfrec_fusion.datasets.csv_format import Csv
    from tfrec_fusion.datasets.edges import Edges, Graph
    from tfrec_fusion.datasets.events import EventColumns, read_events
    from tfrec_fusion.datasets.media import Media
    from tfrec_fusion.datasets.movielens import movielens_100k
    from tfrec_fusion.datasets.splits import Event, SplitExample, split_user, temporal_cutoffs
    from tfrec_fusion.datasets.synthetic import Planted, planted
    from tfrec_fusion.datasets.tables import Interactions, Items, Join, Tables, Users
else:
    __getattr__, __dir__ = lazy_names(__name__)
