"""Steps that train, refit and put models together: a `RecommenderTrainer` with one callback each."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfx.dsl.components.base.base_node import BaseNode

from pipeline.components.trainer import RecommenderTrainer
from pipeline.components.vertex_trainer import VertexTrainer
from pipeline.config.pipeline_config import PipelineConfig, code_digest
from pipeline.config.places import Places
from pipeline.config.trainer_settings import (
    RankingSettings,
    RecommenderSettings,
    RetrievalSettings,
    to_config,
)
from tfrec_fusion.config import own_sources
from tfrec_fusion.config.pretrained import start_sources

EXPORT = (
    "pipeline/callbacks/run_data.py",
    "pipeline/callbacks/training.py",
    "pipeline/config/trainer_settings.py",
    "pipeline/data/catalogue_reading.py",
    "pipeline/data/schemas.py",
    "tfrec_fusion/config",
    "tfrec_fusion/features",
    "tfrec_fusion/export",
    "tfrec_fusion/index",
    "tfrec_fusion/layers",
    "tfrec_fusion/losses.py",
    "tfrec_fusion/models",
    "tfrec_fusion/tasks.py",
    "tfrec_fusion/training",
)


def trainer_of(config: PipelineConfig, places: Places, **arguments: Any) -> RecommenderTrainer:
    """A Trainer that trains where its container is, or in a custom job of its own."""
    if places.vertex and places.vertex.training:
        return VertexTrainer(vertex=places.vertex, pipeline=config.name, **arguments)
    return RecommenderTrainer(**arguments)


def _data(
    interactions: BaseNode, items: BaseNode, examples: BaseNode, vectors: BaseNode | None
) -> dict[str, Any]:
    """What every Trainer reads."""
    return {
        "examples": interactions.outputs["transformed_examples"],
        "transform_graph": interactions.outputs["transform_graph"],
        "items": items.outputs["transformed_examples"],
        "items_transform_graph": items.outputs["transform_graph"],
        "users": examples.outputs["users"],
        "text_vectors": vectors.outputs["text_vectors"] if vectors else None,
    }


def train(
    config: PipelineConfig,
    places: Places,
    kind: str,
    interactions: BaseNode,
    items: BaseNode,
    examples: BaseNode,
    vectors: BaseNode | None,
) -> RecommenderTrainer:
    """One of the two models."""
    return trainer_of(
        config,
        places,
        run_fn=f"pipeline.callbacks.training.run_{kind}",
        custom_config=to_config(model_settings(config, kind, places)),
        **_data(interactions, items, examples, vectors),
    ).with_id(f"{kind.title()}Trainer")


def refits(config: PipelineConfig, kind: str, places: Places) -> bool:
    """Whether what is pushed is the judged model refitted to all rows. Not on Vertex AI: there a candidate is
    measured against what was pushed, which must not know the rows that it is judged by."""
    return getattr(config, kind).training.refits and not places.vertex


def refit(
    config: PipelineConfig,
    places: Places,
    kind: str,
    interactions: BaseNode,
    items: BaseNode,
    examples: BaseNode,
    vectors: BaseNode | None,
    judged: BaseNode,
    evaluator: BaseNode,
) -> RecommenderTrainer:
    """The judged model fitted to all rows, where it was blessed; the judged model itself where not."""
    settings = model_settings(config, kind, places, "pipeline/callbacks/refitting.py")
    parts = {f"{kind}_run": judged.outputs["model_run"], f"{kind}_blessing": evaluator.outputs["blessing"]}
    return trainer_of(
        config,
        places,
        run_fn=f"pipeline.callbacks.refitting.refit_{kind}",
        custom_config=to_config(settings),
        **_data(interactions, items, examples, vectors),
        candidate=judged.outputs["model"],
        **parts,
    ).with_id(f"{kind.title()}Refit")


def build_recommender(
    config: PipelineConfig,
    places: Places,
    interactions: BaseNode,
    items: BaseNode,
    examples: BaseNode,
    vectors: BaseNode | None,
    parts: dict,
) -> RecommenderTrainer:
    """Both models, if they are blessed, in one that does it all."""
    assert config.ranking is not None  # `builds_recommender`
    settings = RecommenderSettings(
        **common_settings(config, "retrieval", places, "pipeline/callbacks/recommender_builder.py"),
        own_layers=own_code(config, "retrieval", "ranking"),
        retrieval=config.retrieval,
        ranking=config.ranking,
    )
    return trainer_of(
        config,
        places,
        run_fn="pipeline.callbacks.recommender_builder.run_recommender",
        custom_config=to_config(settings),
        **_data(interactions, items, examples, vectors),
        **parts,
    ).with_id("RecommenderBuilder")


def common_settings(config: PipelineConfig, kind: str, places: Places, *code: str) -> dict[str, Any]:
    """`TrainerSettings` of one of the kinds: all that decides its result, and nothing else, so that it is
    made again exactly when it must be.

    Args:
        config: the run.
        kind: `retrieval` or `ranking`, whose histories are read.
        places: where things are kept.
        code: source files behind the callback, beside those of all trainers.
    """
    split = config.split
    return {
        "tables": places.tables,
        "text": config.text,
        "history_length": split.history_length,
        "held_out_history": split.history_length if kind == "ranking" else split.held_out_history,
        "repeats": kind != "ranking" and split.repeats,
        "index": config.index,
        "checkpoints": places.checkpoints,
        "code": code_digest(*EXPORT, *code),
    }


def model_settings(
    config: PipelineConfig, kind: str, places: Places, *code: str
) -> RetrievalSettings | RankingSettings:
    """Settings of one of the trainers; `code` as in `common_settings`."""
    common = common_settings(config, kind, places, *code) | {"own_layers": own_code(config, kind)}
    if kind == "retrieval":
        return RetrievalSettings(**common, model=config.retrieval)
    assert config.ranking is not None  # it is one of `kinds`
    return RankingSettings(**common, model=config.ranking)


def own_code(config: PipelineConfig, *kinds: str) -> dict[str, str]:
    """Digests of own layers' modules, where the models have any, and of what retrieval starts from."""
    sources: dict[str, str] = {}
    for kind in kinds:
        sources |= own_sources(dataclasses.asdict(getattr(config, kind)))
    return sources | (start_sources(config.retrieval.warm_start) if "retrieval" in kinds else {})
