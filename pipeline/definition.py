"""The pipeline: one short function a component, wired in `create_pipeline`.

Callbacks are dotted strings, so that a component's code is found wherever the package is installed. TFX's cache sees
those strings and not the code behind them, so each component also gets a digest of the code that it runs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib

from google.protobuf import text_format
from tfx import v1 as tfx
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.proto import pusher_pb2, transform_pb2

from pipeline import features
from pipeline.components.artifacts import TextVectors  # noqa: F401  (registers the type)
from pipeline.components.evaluation_examples import EvaluationExamples
from pipeline.components.example_gen import TablesExampleGen
from pipeline.components.example_validator import StrictExampleValidator
from pipeline.components.pusher import AtomicPusher
from pipeline.components.resolver import LatestOtherBlessedModelStrategy
from pipeline.components.serving_validator import ServingValidator
from pipeline.components.text_embeddings import TextEmbeddings
from pipeline.components.trainer import RecommenderTrainer
from pipeline.config import PipelineConfig, code_digest, tables_of, to_json
from pipeline.evaluation.gates import check_names, ranking_eval_config, retrieval_eval_config
from pipeline.evaluation.slices import check_slices
from tfrec_fusion.datasets.tables import Tables, source_digest

LAYERS = ("tfrec_fusion/config.py", "tfrec_fusion/layers")
EXPORT = (
    *(
        f"tfrec_fusion/{name}.py"
        for name in ("config", "export", "export_ranking", "losses", "saving", "tasks", "training")
    ),
    "tfrec_fusion/layers",
    "tfrec_fusion/models",
    "tfrec_fusion/index",
    "pipeline/trainer.py",
    "pipeline/catalogue.py",
)


def create_pipeline(config: PipelineConfig, local: bool = True) -> tfx.dsl.Pipeline:
    """Wires all components.

    Args:
        config: the run.
        local: whether it runs here; elsewhere TFX's own resolver takes the place of ours, which other orchestrators
            cannot run.

    Raises:
        ConfigError: if the tables are not there or a threshold names an unknown figure.
    """
    tables = tables_of(config)
    examples = example_gen(config, tables)
    interactions, items = examples.outputs["interactions"], examples.outputs["items"]
    checked = check(
        "Interactions",
        interactions,
        write_schema(config, "interactions", features.interactions_schema(tables)),
    )
    min_text_share = config.transform.min_text_share if config.text else 0.0
    checked_items = check(
        "Items", items, write_schema(config, "items", features.items_schema(tables, min_text_share))
    )
    transformed = transform(config, tables, "Interactions", interactions, checked[1])
    transformed_items = transform(config, tables, "Items", items, checked_items[1])
    for first, then in ((checked, transformed), (checked_items, transformed_items)):
        then.add_upstream_node(first[2])
    components = [examples, *checked, *checked_items, transformed, transformed_items]
    vectors = None
    if config.text:
        vectors = text_embeddings(config, transformed_items)
        components.append(vectors)
    plain = None
    if "text_none" in config.baselines:
        without = dataclasses.replace(config, text=None)
        plain = train(without, tables, "retrieval", transformed, transformed_items, examples, None)
        plain = plain.with_id("PlainRetrievalTrainer")
        components.append(plain)
    judged = evaluation_examples(config, tables, examples, transformed_items, vectors, plain)
    components.append(judged)
    parts = {}
    for kind in ("retrieval", "ranking"):
        trainer = train(config, tables, kind, transformed, transformed_items, examples, vectors)
        resolver = blessed_model(kind, trainer, local)
        evaluator = evaluate(config, tables, kind, judged, trainer, resolver)
        validator = validate_serving(config, kind, trainer, examples)
        pusher = push(config, kind, trainer, evaluator, validator)
        components += [trainer, resolver, evaluator, validator, pusher]
        parts |= {
            f"{kind}_run": trainer.outputs["model_run"],
            f"{kind}_blessing": evaluator.outputs["blessing"],
        }
    if config.builds_recommender:
        builder = build_recommender(config, tables, transformed, transformed_items, examples, vectors, parts)
        validator = validate_serving(config, "recommender", builder, examples)
        components += [builder, validator, push(config, "recommender", builder, None, validator)]
    return tfx.dsl.Pipeline(
        pipeline_name=config.name,
        pipeline_root=str(config.home / "artifacts"),
        components=components,
        enable_cache=True,
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(config.home / "metadata.sqlite")
        ),
        beam_pipeline_args=["--runner=DirectRunner", "--direct_running_mode=in_memory"],
    )


def example_gen(config: PipelineConfig, tables: Tables) -> TablesExampleGen:
    """Tables to Examples."""
    split = dataclasses.asdict(config.split) | {"click_threshold": config.data.click_threshold}
    return TablesExampleGen(
        tables=to_json(tables),
        split=json.dumps(split, sort_keys=True),
        max_reject_share=config.data.max_reject_share,
        reject_folder=str(config.home / "rejects"),
        source_digest=source_digest(tables),
        code=code_digest(
            "pipeline/components/example_gen.py",
            "pipeline/components/table_reading.py",
            "tfrec_fusion/datasets",
        ),
    )


def write_schema(config: PipelineConfig, name: str, schema) -> str:
    """Writes a curated schema where ImportSchemaGen finds it; the name changes with the content, as the cache needs."""
    text = text_format.MessageToString(schema)
    path = config.home / "schemas" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.pbtxt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def check(name: str, examples, schema_file: str) -> tuple:
    """Statistics, schema, and the validator that stops the run on anomalies."""
    statistics = tfx.components.StatisticsGen(examples=examples).with_id(f"{name}Statistics")
    schema = tfx.components.ImportSchemaGen(schema_file=schema_file).with_id(f"{name}Schema")
    validator = StrictExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    ).with_id(f"{name}Validator")
    return statistics, schema, validator


def transform(
    config: PipelineConfig, tables: Tables, name: str, examples, schema
) -> tfx.components.Transform:
    """Vocabularies, normalising and, for items, tokenising."""
    items = name == "Items"
    analyze, all_splits = (["all"], ["all"]) if items else (["train"], ["train", "validation", "test"])
    settings = {
        "tables": to_json(tables),
        "vocabulary_size": config.transform.vocabulary_size,
        "code": code_digest(
            "pipeline/preprocessing.py", "pipeline/features.py", "tfrec_fusion/layers/*token*.py"
        ),
    }
    if items and config.text:
        settings["text"] = dataclasses.asdict(config.text.pretrained())
    return tfx.components.Transform(
        examples=examples,
        schema=schema.outputs["schema"],
        preprocessing_fn=f"pipeline.preprocessing.{name.lower()}_preprocessing_fn",
        splits_config=transform_pb2.SplitsConfig(analyze=analyze, transform=all_splits),
        custom_config=settings,
        disable_statistics=True,
        disable_analyzer_cache=True,
    ).with_id(f"{name}Transform")


def text_embeddings(config: PipelineConfig, items) -> TextEmbeddings:
    """One vector an item, kept between runs."""
    return TextEmbeddings(
        items=items.outputs["transformed_examples"],
        text=to_json(config.text.pretrained()),
        cache=str(config.home / "text_vectors"),
        code=code_digest("pipeline/components/text_embeddings.py", "pipeline/text_vectors.py", *LAYERS),
    )


def train(
    config: PipelineConfig, tables, kind: str, interactions, items, examples, vectors
) -> RecommenderTrainer:
    """One of the two models."""
    return RecommenderTrainer(
        run_fn=f"pipeline.trainer.run_{kind}",
        custom_config=model_settings(config, kind, tables),
        examples=interactions.outputs["transformed_examples"],
        transform_graph=interactions.outputs["transform_graph"],
        items=items.outputs["transformed_examples"],
        items_transform_graph=items.outputs["transform_graph"],
        users=examples.outputs["users"],
        text_vectors=vectors.outputs["text_vectors"] if vectors else None,
    ).with_id(f"{kind.title()}Trainer")


def build_recommender(
    config: PipelineConfig, tables, interactions, items, examples, vectors, parts: dict
) -> RecommenderTrainer:
    """Both models, if they are blessed, in one that does it all."""
    settings = model_settings(config, "retrieval", tables)
    settings["models"] = {
        kind: dataclasses.asdict(getattr(config, kind)) for kind in ("retrieval", "ranking")
    }
    settings["code"] = code_digest(*EXPORT, "tfrec_fusion/recommender.py", "pipeline/recommender.py")
    return RecommenderTrainer(
        run_fn="pipeline.recommender.run_recommender",
        custom_config=settings,
        examples=interactions.outputs["transformed_examples"],
        transform_graph=interactions.outputs["transform_graph"],
        items=items.outputs["transformed_examples"],
        items_transform_graph=items.outputs["transform_graph"],
        users=examples.outputs["users"],
        text_vectors=vectors.outputs["text_vectors"] if vectors else None,
        **parts,
    ).with_id("RecommenderBuilder")


def model_settings(config: PipelineConfig, kind: str, tables: Tables) -> dict:
    """`custom_config` for one of the trainers: all that decides the model, and nothing else, so that it is trained
    again exactly when it must be."""
    return {
        "model": dataclasses.asdict(getattr(config, kind)),
        "tables": to_json(tables),
        "text": dataclasses.asdict(config.text) if config.text else None,
        "history_length": config.split.history_length,
        "index": dataclasses.asdict(config.index),
        "checkpoints": str(config.home / "checkpoints"),
        "code": code_digest(*EXPORT),
    }


def blessed_model(kind: str, trainer: RecommenderTrainer, local: bool) -> tfx.dsl.Resolver:
    """The model to measure the candidate against: the last blessed one of its kind."""
    artifacts = tfx.types.standard_artifacts
    blessings = tfx.dsl.Channel(
        type=artifacts.ModelBlessing, producer_component_id=f"{kind.title()}Evaluator", output_key="blessing"
    )
    if local:
        # All models are asked for, and the blessings say which are of this kind: a query for the trainer's models
        # beside the trainer's own output makes TFX 1.21 lose one of the two.
        resolver = tfx.dsl.Resolver(
            strategy_class=LatestOtherBlessedModelStrategy,
            candidate=trainer.outputs["model"],
            model=tfx.dsl.Channel(type=artifacts.Model),
            model_blessing=blessings,
        )
    else:
        models = tfx.dsl.Channel(type=artifacts.Model, producer_component_id=trainer.id, output_key="model")
        resolver = tfx.dsl.Resolver(
            strategy_class=LatestBlessedModelStrategy, model=models, model_blessing=blessings
        )
    return resolver.with_id(f"{kind.title()}Baseline")


def evaluation_examples(
    config: PipelineConfig, tables: Tables, examples, items, vectors, plain
) -> EvaluationExamples:
    """Test interactions with slices, and with the ranks of baselines fitted in this run."""
    check_slices(config.evaluation.slices, tables)
    check_names(config.evaluation, config.baselines, tables.interactions.label is not None)
    settings = {
        "tables": dataclasses.asdict(tables),
        "baselines": config.baselines,
        "slices": config.evaluation.slices,
        "slice_values": config.evaluation.slice_values,
        "rare_item": config.split.rare_item,
        "has_label": tables.interactions.label is not None,
    }
    return EvaluationExamples(
        settings=json.dumps(settings, sort_keys=True),
        code=code_digest(
            "pipeline/components/evaluation_examples.py",
            "pipeline/evaluation/slices.py",
            "tfrec_fusion/models/baselines.py",
        ),
        interactions=examples.outputs["interactions"],
        raw_items=examples.outputs["items"],
        items=items.outputs["transformed_examples"],
        items_transform_graph=items.outputs["transform_graph"],
        text_vectors=vectors.outputs["text_vectors"] if vectors else None,
        plain_model=plain.outputs["model"] if plain else None,
    )


def evaluate(config: PipelineConfig, tables: Tables, kind: str, judged, trainer, resolver):
    """TFMA over the test split, and the blessing."""
    has_rating = tables.interactions.label is not None
    if kind == "retrieval":
        eval_config = retrieval_eval_config(config.evaluation, config.baselines)
    else:
        eval_config = ranking_eval_config(config.evaluation, has_rating)
    return tfx.components.Evaluator(
        examples=judged.outputs["examples"],
        example_splits=["test" if kind == "retrieval" or has_rating else "ranking"],
        model=trainer.outputs["model"],
        baseline_model=resolver.outputs["model"],
        schema=judged.outputs["schema"],
        eval_config=eval_config,
    ).with_id(f"{kind.title()}Evaluator")


def validate_serving(config: PipelineConfig, kind: str, trainer, examples) -> ServingValidator:
    """The candidate answers over HTTP before it is pushed."""
    return ServingValidator(
        model=trainer.outputs["model"],
        items=examples.outputs["items"],
        users=examples.outputs["users"],
        kind=kind,
        queries=json.dumps(config.serving.queries if config.text else ()),
        code=code_digest("pipeline/components/serving_validator.py", "tfrec_fusion/serving"),
    ).with_id(f"{kind.title()}ServingValidator")


def push(config: PipelineConfig, kind: str, trainer, evaluator, validator) -> AtomicPusher:
    """Blessed twice, the model becomes a version in the server's folder; without an evaluator, its parts were judged."""
    base = pathlib.Path(config.push_folder) / kind
    return AtomicPusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"] if evaluator else None,
        infra_blessing=validator.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(base))
        ),
    ).with_id(f"{kind.title()}Pusher")
