"""Settings and inputs of the trainers' callbacks: what travels in a Trainer's `custom_config`.

Each callback has a dataclass of its own. `to_config` makes the mapping that TFX carries as JSON and that
decides whether a result is reused; `read_settings` makes the dataclass of it again on the other side.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeVar

from tfrec_fusion.config import (
    ConfigError,
    IndexConfig,
    RankingConfig,
    RetrievalConfig,
    TextConfig,
    from_dict,
)
from tfrec_fusion.config.reading import Settings
from tfrec_fusion.datasets.tables import Tables

AnySettings = TypeVar("AnySettings", bound=Settings)
INPUTS = "inputs"


@dataclasses.dataclass(frozen=True)
class TrainerSettings(Settings):
    """What every trainer needs to know of a run.

    Attributes:
        tables: the columns of the tables.
        text: the text tower; None without.
        history_length: items of a history in an example of training.
        held_out_history: the same in validation, test and serving.
        index: how the catalogue is searched.
        checkpoints: folder for what lets a killed training go on.
        code: a digest of the code behind the callback.
        own_layers: module → digest of its source, of layers that the models take by import path; and folder →
            digest of what it holds, where the retrieval model starts from one.
        repeats: whether items of a user's history may be recommended again.
    """

    tables: Tables
    text: TextConfig | None
    history_length: int
    held_out_history: int
    index: IndexConfig
    checkpoints: str
    code: str
    own_layers: dict[str, str] = dataclasses.field(default_factory=dict)
    repeats: bool = False


@dataclasses.dataclass(frozen=True)
class RetrievalSettings(TrainerSettings):
    """Of the retrieval model's trainer."""

    model: RetrievalConfig = RetrievalConfig()
    kind: Literal["retrieval"] = "retrieval"


@dataclasses.dataclass(frozen=True)
class RankingSettings(TrainerSettings):
    """Of the ranking model's trainer."""

    model: RankingConfig = RankingConfig()
    kind: Literal["ranking"] = "ranking"


@dataclasses.dataclass(frozen=True)
class RecommenderSettings(TrainerSettings):
    """Of the builder that puts both models into one."""

    retrieval: RetrievalConfig = RetrievalConfig()
    ranking: RankingConfig = RankingConfig()


@dataclasses.dataclass(frozen=True)
class BaselineSettings(TrainerSettings):
    """Of the builder of a baseline that fills in.

    Attributes:
        baselines: their names.
        k: cutoff of the figures that they are compared by.
        serving: the folder of the retrieval model's versions.
    """

    baselines: tuple[str, ...] = ()
    k: int = 10
    serving: str = ""


@dataclasses.dataclass(frozen=True)
class IndexUpdateSettings(Settings):
    """Of the builder that serves a trained model over the items as they are now.

    Attributes:
        index: how the new catalogue is searched.
        text_cache: folder that keeps text vectors between runs.
        max_removed_share: of the catalogue, how much may leave.
        min_text_share: of the new items, how many must have a text.
    """

    index: IndexConfig
    text_cache: str
    max_removed_share: float
    min_text_share: float


@dataclasses.dataclass(frozen=True)
class Inputs(Settings):
    """Folders of a callback's input artifacts; empty where the component has none."""

    examples: str
    items: str
    items_transform_graph: str
    users: str
    transform_graph: str
    text_vectors: str = ""
    raw_interactions: str = ""
    retrieval_evaluation: str = ""
    retrieval_serving: str = ""
    retrieval_blessing: str = ""
    ranking_blessing: str = ""
    retrieval_run: str = ""
    ranking_run: str = ""
    recommender_run: str = ""
    candidate: str = ""
    retrieval_refit: str = ""
    ranking_refit: str = ""
    new_items: str = ""


def to_config(settings: Settings, inputs: Inputs | None = None) -> dict[str, Any]:
    """Settings as plain values, with the inputs' folders beside them where these are given."""
    plain = dataclasses.asdict(settings)  # type: ignore[call-overload]
    return plain if inputs is None else {**plain, INPUTS: dataclasses.asdict(inputs)}


def read_settings(cls: type[AnySettings], config: dict[str, Any]) -> tuple[AnySettings, Inputs]:
    """What `to_config` made, as a trainer's executor hands it on: the settings, and the inputs' folders."""
    settings = {name: value for name, value in config.items() if name != INPUTS}
    return from_dict(cls, settings), from_dict(Inputs, config[INPUTS], INPUTS)


def read_trained(config: dict[str, Any], kind: Literal["retrieval", "ranking"], folder: str) -> Any:
    """The settings that a trainer wrote beside its weights: `RetrievalSettings` or `RankingSettings`.

    Args:
        config: the file's content.
        kind: the model that must have been trained.
        folder: where the file was, for messages.

    Raises:
        ConfigError: for a run of another model, or of an earlier release.
    """
    if config.get("kind") != kind:
        raise ConfigError(
            f"A run of the {kind} model is needed here. Received: one of the {config.get('kind')} model"
            f" ({folder}), which has no index. Give the retrieval trainer's `model_run` as `retrieval_run`."
        )
    try:
        return read_settings(RetrievalSettings if kind == "retrieval" else RankingSettings, config)[0]
    except ConfigError as error:
        raise ConfigError(
            f"The {kind} model must come with the settings of this release. Received: a run of another one"
            f" ({folder}): {error} Train again with `tfrec run`."
        ) from error
