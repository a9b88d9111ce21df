"""Settings of the classifier: which label a text gets."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from annotated_types import Interval

from tfrec_fusion.config.models import RankingConfig, TextConfig, TrainingConfig
from tfrec_fusion.config.reading import ConfigError, Settings

__all__ = ["ClassifierConfig", "check_beside", "reads_written"]

Demand = Literal["beat", "match", "show"]
DEMANDS: dict[str, Demand] = {"majority": "beat", "logistic": "match"}


@dataclasses.dataclass(frozen=True)
class ClassifierConfig(Settings):
    """A model of the class of an interaction, from user, item and a text (`models.BertRecommender`).

    Attributes:
        label: column of the interactions that holds the classes, words or numbers; in an empty cell nobody
            knows.
        text: what is read: `written`, what the user wrote (`data.interactions.text`), or `items`, the items'
            own texts.
        classes: those to be told apart, in this order; rows of others are left out. Empty: all there are.
        min_rows: rows of training that each class needs.
        max_classes: more are taken for a mistake.
        dim: of the embeddings of users and items; 0 reads the text alone.
        hidden: widths of ReLU layers.
        dropout: on what goes into them.
        training: how it is trained, on ready-made text vectors.
        baselines: of the most frequent class, `majority`, and of a logistic regression on the same vectors,
            `logistic`: whether the accuracy must be significantly above theirs (`beat`), not significantly
            below (`match`), or is shown beside it (`show`). Those not named: `majority: beat`, `logistic:
            match`.
    """

    label: str
    text: Literal["written", "items"] = "written"
    classes: tuple[str, ...] = ()
    min_rows: Annotated[int, Interval(ge=1)] = 5
    max_classes: Annotated[int, Interval(ge=2, le=10_000)] = 50
    dim: Annotated[int, Interval(ge=0, le=4096)] = 16
    hidden: tuple[Annotated[int, Interval(ge=1, le=16_384)], ...] = (64,)
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2
    training: TrainingConfig = TrainingConfig(epochs=30, batch_size=128, learning_rate=3e-3, refit=False)
    baselines: dict[str, Demand] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.baselines if name not in DEMANDS]
        if unknown:
            raise ConfigError(
                f"`classifier.baselines` must be of {', '.join(DEMANDS)}. Received: {', '.join(unknown)}."
            )
        object.__setattr__(self, "baselines", {**DEMANDS, **self.baselines})
        # As cells are read: without white space around them.
        object.__setattr__(self, "classes", tuple(name.strip() for name in self.classes))
        if len(self.classes) == 1 or len(set(self.classes)) < len(self.classes):
            raise ConfigError(
                "`classifier.classes` must name at least two classes, each once. Received:"
                f" {', '.join(self.classes)}. Name others, or leave them out to take those of training."
            )
        if self.training.privacy is not None or self.training.strategy != "none":
            raise ConfigError(
                "`classifier.training` must be without `privacy`, with `strategy: none`. Received:"
                f" strategy={self.training.strategy!r}, privacy={self.training.privacy}. Leave them out."
            )


def check_beside(config: ClassifierConfig | None, text: TextConfig | None, private: bool) -> None:
    """Refuses a classifier beside settings that it cannot be with.

    Args:
        config: of the classifier; None without.
        text: the encoder.
        private: whether the other models' training is private.

    Raises:
        ConfigError: without an encoder, or with private training.
    """
    if config is not None and (text is None or private):
        seen = "`training.privacy`" if text else "`text: none`"
        raise ConfigError(
            "`classifier` needs a text encoder, and training without `privacy`. Received:"
            f" {seen}. Leave one of them out."
        )


def reads_written(ranking: RankingConfig | None, config: ClassifierConfig | None) -> bool:
    """Whether a model reads what users wrote, where tables hold such texts."""
    return ranking is not None or (config is not None and config.text == "written")
