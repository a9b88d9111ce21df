"""The pipeline: one short function a component, wired in `create_pipeline`.

Callbacks are dotted strings, so that a component's code is found wherever the package is installed. TFX's
cache sees those strings and not the code behind them, so each component also gets a digest of the code that
it runs.
"""

from __future__ import annotations

import dataclasses
import json

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode
from tfx.proto import pusher_pb2, transform_pb2
from tfx.types.channel import BaseChannel

from pipeline.components.artifacts import TextVectors  # noqa: F401  (registers the type)
from pipeline.components.evaluation_examples import EvaluationExamples
from pipeline.components.evaluator import RecommenderEvaluator
from pipeline.components.example_validator import StrictExampleValidator
from pipeline.components.pushed_baseline import PushedBaseline
from pipeline.components.pusher import AtomicPusher
from pipeline.components.resolver import LatestOtherBlessedModelStrategy
from pipeline.components.serving_validator import ServingValidator
from pipeline.components.text_embeddings import TextEmbeddings
from pipeline.components.trainer import RecommenderTrainer
from pipeline.components.vertex_pusher import EndpointPusher
from pipeline.config.pipeline_config import IN_PROCESS, PipelineConfig, code_digest, to_json
from pipeline.config.places import Places, local_places, schema_name
from pipeline.config.trainer_settings import BaselineSettings, to_config
from pipeline.data import schemas
from pipeline.definition.classifying import classifier_steps
from pipeline.definition.reading import example_gen, text_enrichment
from pipeline.definition.trainers import build_recommender, common_settings, refit, refits, train
from pipeline.evaluation.gates import check_names, ranking_eval_config, retrieval_eval_config
from pipeline.evaluation.slices import check_slices
from tfrec_fusion.config.privacy import check_catalogue
from tfrec_fusion.datasets.tables import Tables

LAYERS = ("tfrec_fusion/config", "tfrec_fusion/layers")


def create_pipeline(config: PipelineConfig, places: Places | None = None) -> tfx.dsl.Pipeline:
    """Wires all components.

    Args:
        config: the run.
        places: where things are kept; None: in the configuration's home, on this machine.

    Raises:
        ConfigError: if the tables are not there or a threshold names an unknown figure.
    """
    places = places or local_places(config)
    tables = places.tables
    check_catalogue(config.private, tables.items.path == tables.interactions.path or tables.items.distinct)
    written = text_enrichment(config, places, places.tables, places.source) if config.enrich else None
    examples = example_gen(config, places, written)
    interactions, items, users = (examples.outputs[name] for name in ("interactions", "items", "users"))
    checked, (transformed, transformed_items) = check_and_transform(config, places, interactions, items)
    read = (transformed, transformed_items, examples)
    components = [*([written] if written else []), examples, *checked, transformed, transformed_items]
    vectors = None
    if config.text:
        vectors = text_embeddings(config, places, transformed_items)
        components.append(vectors)
    plain = None
    if "text_none" in config.baselines:
        without = dataclasses.replace(config, text=None, retrieval=config.retrieval.without_text())
        plain = train(without, places, "retrieval", *read, None)
        plain = plain.with_id("PlainRetrievalTrainer")
        components.append(plain)
    judged = evaluation_examples(config, tables, examples, transformed_items, vectors, plain)
    components.append(judged)
    parts: dict[str, BaseChannel] = {}
    for kind in config.kinds:
        nodes, outputs = train_and_push(config, places, kind, read, vectors, judged)
        components += nodes
        parts |= outputs
    if config.builds_recommender:
        builder = build_recommender(config, places, *read, vectors, parts)
        validator = validate_serving(config, "recommender", builder, items, users)
        components += [builder, validator, push(config, places, "recommender", builder, None, validator)]
    components += classifier_steps(config, places, examples)
    return tfx.dsl.Pipeline(
        pipeline_name=config.name,
        pipeline_root=places.artifacts,
        components=components,
        enable_cache=places.vertex is None or places.vertex.cache,
        metadata_connection_config=None
        if places.vertex
        else tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(config.home / "metadata.sqlite")
        ),
        beam_pipeline_args=list(places.beam),
    )


def check_and_transform(
    config: PipelineConfig, places: Places, interactions: BaseChannel, items: BaseChannel
) -> tuple[list[BaseNode], list[BaseNode]]:
    """What checks interactions and items, and what transforms them once they are checked."""
    tables = places.tables
    min_text_share = config.transform.min_text_share if config.text else 0.0
    made = {
        "Interactions": (interactions, schemas.interactions_schema(tables)),
        "Items": (items, schemas.items_schema(tables, min_text_share)),
    }
    checks: list[BaseNode] = []
    transforms: list[BaseNode] = []
    for name, (examples, schema) in made.items():
        checked = check(name, examples, write_schema(places, name.lower(), schema))
        transformed = transform(config, tables, name, examples, checked[1])
        transformed.add_upstream_node(checked[2])
        checks += checked
        transforms.append(transformed)
    return checks, transforms


def train_and_push(
    config: PipelineConfig,
    places: Places,
    kind: str,
    read: tuple[BaseNode, BaseNode, BaseNode],
    vectors: BaseNode | None,
    judged: BaseNode,
) -> tuple[list[BaseNode], dict[str, BaseChannel]]:
    """From training to the push of a model, and what the recommender is built from.

    Args:
        config, places: of the run.
        kind: `retrieval` or `ranking`.
        read: transformed interactions, transformed items, and the examples of all tables.
        vectors: of the items' texts.
        judged: the examples to evaluate by.
    """
    interactions, items, users = (read[2].outputs[name] for name in ("interactions", "items", "users"))
    trainer = train(config, places, kind, *read, vectors)
    baseline = blessed_model(kind, trainer, places)
    evaluator = evaluate(config, places.tables, kind, judged, trainer, baseline)
    components = [trainer, baseline, evaluator]
    parts = {
        f"{kind}_run": trainer.outputs["model_run"],
        f"{kind}_blessing": evaluator.outputs["blessing"],
    }
    pushed = trainer
    if refits(config, kind, places):
        pushed = refit(config, places, kind, *read, vectors, trainer, evaluator)
        components.append(pushed)
        parts[f"{kind}_refit"] = pushed.outputs["model_run"]
    validator = validate_serving(config, kind, pushed, items, users)
    components += [validator, push(config, places, kind, pushed, evaluator, validator)]
    # A baseline is fitted to the interactions without noise.
    fills_in = config.evaluation.push_baseline_when_none and not config.private
    if kind == "retrieval" and fills_in and not places.vertex:
        components += fill_in(config, places, evaluator, validator, interactions, *read, vectors)
    return components, parts


def write_schema(places: Places, name: str, schema: schema_pb2.Schema) -> str:
    """Keeps a curated schema where ImportSchemaGen finds it."""
    text = text_format.MessageToString(schema)
    return places.schema(schema_name(name, text), text)


def check(name: str, examples: BaseChannel, schema_file: str) -> tuple:
    """Statistics, schema, and the validator that stops the run on anomalies."""
    statistics = tfx.components.StatisticsGen(examples=examples).with_id(f"{name}Statistics")
    schema = tfx.components.ImportSchemaGen(schema_file=schema_file).with_id(f"{name}Schema")
    validator = StrictExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    ).with_id(f"{name}Validator")
    return statistics, schema, validator


def transform(
    config: PipelineConfig, tables: Tables, name: str, examples: BaseChannel, schema: BaseNode
) -> tfx.components.Transform:
    """Vocabularies, normalising and, for items, tokenising."""
    items = name == "Items"
    analyze, all_splits = (["all"], ["all"]) if items else (["train"], ["train", "validation", "test"])
    settings = {
        "tables": dataclasses.asdict(tables),
        "vocabulary_size": config.transform.vocabulary_size,
        "code": code_digest(
            "pipeline/callbacks/preprocessing.py",
            "tfrec_fusion/features/columns.py",
            "tfrec_fusion/features/graph.py",
            "tfrec_fusion/layers/blank_texts.py",
            "tfrec_fusion/layers/prompts.py",
            "tfrec_fusion/layers/tokenizers",
        ),
    }
    if items and config.text:
        settings["text"] = dataclasses.asdict(config.text.pretrained())
    return tfx.components.Transform(
        examples=examples,
        schema=schema.outputs["schema"],
        preprocessing_fn=f"pipeline.callbacks.preprocessing.{name.lower()}_preprocessing_fn",
        splits_config=transform_pb2.SplitsConfig(analyze=analyze, transform=all_splits),
        custom_config=settings,
        disable_statistics=True,
        disable_analyzer_cache=True,
    ).with_id(f"{name}Transform")


def text_embeddings(config: PipelineConfig, places: Places, items: BaseNode) -> BaseNode:
    """One vector an item, kept between runs."""
    assert config.text is not None
    step = TextEmbeddings(
        items=items.outputs["transformed_examples"],
        text=to_json(config.text.pretrained()),
        cache=places.text_vectors,
        code=code_digest(
            "pipeline/components/text_embeddings.py", "tfrec_fusion/features/text_vectors.py", *LAYERS
        ),
    )
    # Dataflow's workers have no mount of the bucket, where the vectors are kept.
    return (
        step.with_beam_pipeline_args(list(IN_PROCESS)) if places.vertex and places.vertex.dataflow else step
    )


def fill_in(
    config: PipelineConfig,
    places: Places,
    evaluator: BaseNode,
    validator: BaseNode,
    raw: BaseChannel,
    interactions: BaseNode,
    items: BaseNode,
    examples: BaseNode,
    vectors: BaseNode | None,
) -> list:
    """The best baseline of the run as a version of the retrieval model, where none was ever good enough."""
    code = ("callbacks/baseline_builder.py", "evaluation/baseline_ranks.py", "evaluation/fallback.py")
    settings = BaselineSettings(
        **common_settings(config, "retrieval", places, *(f"pipeline/{file}" for file in code)),
        baselines=config.baselines,
        k=config.evaluation.k[0],
        serving=f"{places.serving}/retrieval",
    )
    builder = RecommenderTrainer(
        run_fn="pipeline.callbacks.baseline_builder.run_baseline",
        custom_config=to_config(settings),
        examples=interactions.outputs["transformed_examples"],
        transform_graph=interactions.outputs["transform_graph"],
        items=items.outputs["transformed_examples"],
        items_transform_graph=items.outputs["transform_graph"],
        users=examples.outputs["users"],
        text_vectors=vectors.outputs["text_vectors"] if vectors else None,
        raw_interactions=raw,
        retrieval_evaluation=evaluator.outputs["evaluation"],
        retrieval_blessing=evaluator.outputs["blessing"],
        retrieval_serving=validator.outputs["blessing"],
    ).with_id("BaselineBuilder")
    answers = validate_serving(
        config, "retrieval", builder, examples.outputs["items"], examples.outputs["users"]
    )
    answers = answers.with_id("BaselineServingValidator")
    pusher = push(config, places, "retrieval", builder, None, answers).with_id("BaselinePusher")
    return [builder, answers, pusher]


def blessed_model(kind: str, trainer: RecommenderTrainer, places: Places) -> BaseNode:
    """The model to measure the candidate against: the last blessed one of its kind."""
    name = f"{kind.title()}Baseline"
    if places.vertex:
        # Vertex AI resolves the latest blessed model of the whole pipeline, of whichever kind.
        return PushedBaseline(candidate=trainer.outputs["model"], folder=f"{places.serving}/{kind}").with_id(
            name
        )
    # All models are asked for, and the blessings say which are of this kind: a query for the trainer's models
    # beside the trainer's own output makes TFX 1.21 lose one of the two.
    artifacts = tfx.types.standard_artifacts
    return tfx.dsl.Resolver(
        strategy_class=LatestOtherBlessedModelStrategy,
        candidate=trainer.outputs["model"],
        model=tfx.dsl.Channel(type=artifacts.Model),
        model_blessing=tfx.dsl.Channel(
            type=artifacts.ModelBlessing,
            producer_component_id=f"{kind.title()}Evaluator",
            output_key="blessing",
        ),
    ).with_id(name)


def evaluation_examples(
    config: PipelineConfig,
    tables: Tables,
    examples: BaseNode,
    items: BaseNode,
    vectors: BaseNode | None,
    plain: BaseNode | None,
) -> EvaluationExamples:
    """Test interactions with slices, and with the ranks of baselines fitted in this run."""
    check_slices(config.evaluation.slices, tables)
    has_rating = tables.interactions.label is not None if config.ranking else None
    check_names(config.evaluation, config.baselines, has_rating, tables.further_labels)
    settings = {
        "tables": dataclasses.asdict(tables),
        "baselines": config.baselines,
        "slices": config.evaluation.slices,
        "slice_values": config.evaluation.slice_values,
        "rare_item": config.split.rare_item,
        "repeats": config.split.repeats,
        "has_label": tables.interactions.label is not None,
        "judges_ranking": config.ranking is not None,
    }
    return EvaluationExamples(
        settings=json.dumps(settings, sort_keys=True),
        code=code_digest(
            "pipeline/components/evaluation_examples.py",
            "pipeline/evaluation/*slices.py",
            "pipeline/evaluation/baseline_ranks.py",
            "pipeline/data/examples.py",
            "tfrec_fusion/models/baselines.py",
        ),
        interactions=examples.outputs["interactions"],
        raw_items=examples.outputs["items"],
        items=items.outputs["transformed_examples"],
        items_transform_graph=items.outputs["transform_graph"],
        text_vectors=vectors.outputs["text_vectors"] if vectors else None,
        plain_model=plain.outputs["model"] if plain else None,
    )


def evaluate(
    config: PipelineConfig, tables: Tables, kind: str, judged: BaseNode, trainer: BaseNode, baseline: BaseNode
) -> BaseNode:
    """TFMA over the test split, and the blessing."""
    has_rating = tables.interactions.label is not None
    if kind == "retrieval":
        eval_config = retrieval_eval_config(config.evaluation, config.baselines)
    else:
        eval_config = ranking_eval_config(config.evaluation, has_rating, tables.further_labels)
    return RecommenderEvaluator(
        examples=judged.outputs["examples"],
        example_splits=["test" if kind == "retrieval" or has_rating else "ranking"],
        model=trainer.outputs["model"],
        baseline_model=baseline.outputs["model"],
        schema=judged.outputs["schema"],
        eval_config=eval_config,
        module_path="pipeline.evaluation.extractors",
    ).with_id(f"{kind.title()}Evaluator")


def validate_serving(
    config: PipelineConfig, kind: str, trainer: BaseNode, items: BaseChannel, users: BaseChannel
) -> ServingValidator:
    """The candidate answers over HTTP before it is pushed."""
    return ServingValidator(
        model=trainer.outputs["model"],
        items=items,
        users=users,
        kind=kind,
        queries=json.dumps(config.serving.queries if config.text else ()),
        code=code_digest("pipeline/components/serving_validator.py", "tfrec_fusion/serving"),
    ).with_id(f"{kind.title()}ServingValidator")


def push(
    config: PipelineConfig,
    places: Places,
    kind: str,
    trainer: BaseNode,
    evaluator: BaseNode | None,
    validator: BaseNode,
) -> tfx.components.Pusher:
    """Blessed twice, the model becomes a version in the server's folder; without an evaluator, its parts were
    judged."""
    arguments = {
        "model": trainer.outputs["model"],
        "model_blessing": evaluator.outputs["blessing"] if evaluator else None,
        "infra_blessing": validator.outputs["blessing"],
        "push_destination": pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=f"{places.serving}/{kind}")
        ),
    }
    if places.vertex and places.vertex.push == "endpoint":
        pusher: tfx.components.Pusher = EndpointPusher(
            vertex=places.vertex, pipeline=config.name, kind=kind, **arguments
        )
    else:
        pusher = AtomicPusher(**arguments)
    return pusher.with_id(f"{kind.title()}Pusher")
