"""Settings of a whole recommender, under the keys of the pipeline's YAML."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from annotated_types import Interval

from tfrec_fusion.config.enrichment import EnrichmentConfig
from tfrec_fusion.config.models import IndexConfig, RankingConfig, RetrievalConfig, TextConfig, check_training
from tfrec_fusion.config.preparation import Share, SplitConfig, TransformConfig
from tfrec_fusion.config.privacy import check_both, check_texts
from tfrec_fusion.config.reading import ConfigError, Settings


@dataclasses.dataclass(frozen=True)
class DataSettings(Settings):
    """What is said of the tables.

    Attributes:
        interactions, items, users: keys of `Interactions`, `Items` and `Users` without `path`: the columns
            that are named. All others are guessed.
        click_threshold: a label at or above it counts as a click.
        max_reject_share: of the rows of a table, the share that may be unusable.
        graph: edges between items or between users, as in `Tables`.
        user_ids, item_ids: how ids are matched, as in `Tables`; None: guessed.
    """

    interactions: dict[str, Any] = dataclasses.field(default_factory=dict)
    items: dict[str, Any] = dataclasses.field(default_factory=dict)
    users: dict[str, Any] = dataclasses.field(default_factory=dict)
    click_threshold: Annotated[float, Interval()] = 4.0
    max_reject_share: Share = 0.05
    graph: dict[str, Any] | None = None
    user_ids: str | None = None
    item_ids: str | None = None


@dataclasses.dataclass(frozen=True)
class RecommenderConfig(Settings):
    """Everything that decides a recommender. `ranking: null` leaves the ranking model out, `text: null` the
    text encoder. `enrich` has a language model write about the items first."""

    data: DataSettings = DataSettings()
    split: SplitConfig = SplitConfig()
    transform: TransformConfig = TransformConfig()
    text: TextConfig | None = TextConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    ranking: RankingConfig | None = RankingConfig()
    index: IndexConfig = IndexConfig()
    enrich: EnrichmentConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        trained = {"retrieval": self.retrieval, "ranking": self.ranking}
        check_both((name, model.training.privacy) for name, model in trained.items() if model is not None)
        if self.enrich is not None:
            check_texts(self.private, self.enrich.chosen_with, self.enrich.users)
        for model in (self.retrieval, self.ranking):
            if model is not None:
                check_training(model.training, self.text)
                if model.training.strategy in ("multi_worker", "parameter_server"):
                    raise ConfigError(
                        "`training.strategy` must be 'none', 'mirrored' or 'tpu' in one process. Received:"
                        f" {model.training.strategy!r}. Use the pipeline to train on several machines."
                    )

    @property
    def private(self) -> bool:
        """Whether training is differentially private."""
        return self.retrieval.training.privacy is not None

    @property
    def builds_recommender(self) -> bool:
        """Whether both models become one; not where each trains a text encoder of its own."""
        return self.ranking is not None and not (self.text and self.text.trained)
