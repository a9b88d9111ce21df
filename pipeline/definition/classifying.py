"""The classifier's steps: trained and judged, asked over HTTP, pushed."""

from __future__ import annotations

import json

from tfx.dsl.components.base.base_node import BaseNode
from tfx.proto import pusher_pb2

from pipeline.components.classifier_trainer import ClassifierTrainer
from pipeline.components.pusher import AtomicPusher
from pipeline.components.serving_validator import ServingValidator
from pipeline.config.pipeline_config import PipelineConfig, code_digest, to_json
from pipeline.config.places import Places
from tfrec_fusion.config import ConfigError

CODE = (
    "pipeline/components/classifier_trainer.py",
    "tfrec_fusion/config",
    "tfrec_fusion/datasets",
    "tfrec_fusion/export",
    "tfrec_fusion/features",
    "tfrec_fusion/in_memory/classifying.py",
    "tfrec_fusion/layers",
    "tfrec_fusion/metrics",
    "tfrec_fusion/models/bert_recommender.py",
    "tfrec_fusion/training",
)


def classifier_steps(config: PipelineConfig, places: Places, examples: BaseNode) -> list[BaseNode]:
    """The steps, where there is a classifier.

    Args:
        config, places: of the run.
        examples: of all tables, whose first users and items the model is asked about.

    Raises:
        ConfigError: on Vertex AI.
    """
    if config.classifier is None or config.text is None:
        return []
    if places.vertex:
        raise ConfigError(
            "`classifier` is trained on this machine, where the encoder's vectors are kept. Received: a run"
            " on Vertex AI. Leave it out there."
        )
    trainer = ClassifierTrainer(
        tables=to_json(places.tables),
        classifier=to_json(config.classifier),
        split=to_json(config.split),
        text=to_json(config.text.pretrained()),
        cache=places.text_vectors,
        source_digest=places.source,
        code=code_digest(*CODE),
    )
    validator = ServingValidator(
        model=trainer.outputs["model"],
        items=examples.outputs["items"],
        users=examples.outputs["users"],
        kind="classifier",
        queries=json.dumps(config.serving.queries),
        code=code_digest("pipeline/components/serving_validator.py", "tfrec_fusion/serving"),
    ).with_id("ClassifierServingValidator")
    folder = pusher_pb2.PushDestination.Filesystem(base_directory=f"{places.serving}/classifier")
    pusher = AtomicPusher(
        model=trainer.outputs["model"],
        model_blessing=trainer.outputs["blessing"],
        infra_blessing=validator.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(filesystem=folder),
    ).with_id("ClassifierPusher")
    return [trainer, validator, pusher]
