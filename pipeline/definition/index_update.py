"""A small TFX pipeline: the items as they are now into new versions of the pushed models that search them.

It stands apart from the main pipeline because nothing of it needs to run there: a trainer has its catalogue's
vectors at hand and exports its index with them, which a component between trainer and Evaluator would have to
load again.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib

from tfx import v1 as tfx
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts

from pipeline.components.artifacts import TextVectors
from pipeline.components.index_builder import IndexBuilder
from pipeline.components.items_example_gen import ItemsExampleGen
from pipeline.components.pusher import AtomicPusher
from pipeline.config.pipeline_config import IN_PROCESS, PipelineConfig, tables_of, to_json
from pipeline.config.places import local_places
from pipeline.config.trainer_settings import IndexUpdateSettings, read_trained, to_config
from pipeline.data.pushed_versions import baseline_of, latest_version
from pipeline.data.run_summary import read_summaries
from pipeline.definition.reading import text_enrichment
from pipeline.definition.training import validate_serving
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.digests import items_digest
from tfrec_fusion.datasets.edges import Graph
from tfrec_fusion.datasets.files import table_digest
from tfrec_fusion.datasets.tables import Items, Tables
from tfrec_fusion.enrichment.asking import generated_text

# Inputs of IndexBuilder, the outputs of the main pipeline that they are, and their types.
COMMON = {
    "items": ("ItemsTransform/transformed_examples", standard_artifacts.Examples),
    "items_transform_graph": ("ItemsTransform/transform_graph", standard_artifacts.TransformGraph),
    "text_vectors": ("TextEmbeddings/text_vectors", TextVectors),
    "examples": ("InteractionsTransform/transformed_examples", standard_artifacts.Examples),
    "transform_graph": ("InteractionsTransform/transform_graph", standard_artifacts.TransformGraph),
    "users": ("TablesExampleGen/users", standard_artifacts.Examples),
    "retrieval_run": ("RetrievalTrainer/model_run", standard_artifacts.ModelRun),
}
MORE = {
    "ranking_run": ("RankingTrainer/model_run", standard_artifacts.ModelRun),
    "recommender_run": ("RecommenderBuilder/model_run", standard_artifacts.ModelRun),
}


def create_index_pipeline(config: PipelineConfig, path: str, max_removed_share: float) -> tfx.dsl.Pipeline:
    """Wires IndexBuilder, ServingValidator and Pusher for each pushed model that holds an index.

    Args:
        config: of the run that trained the models.
        path: file or glob, the items that are offered now.
        max_removed_share: of the catalogue, how much may leave.

    Raises:
        ConfigError: where no model was pushed, or the table has other columns than the model was trained
            with.
    """
    table = offered_table(config, path)
    trained = {"retrieval": _trained(config), "recommender": last_pushed(config, "recommender")}
    written = None
    if config.enrich:
        # New items are written about as those of training were.
        places, tables = local_places(config), dataclasses.replace(tables_of(config), items=table)
        source = table_digest("items", table.path, table.columns())
        written = text_enrichment(config, places, tables, source)
    described = trained_tables(_trained(config)["RetrievalTrainer/model_run"])
    graph = offered_graph(config, described)
    check_encoders(table, _trained(config).get("TablesExampleGen/report"))
    read = ItemsExampleGen(
        table=to_json(table),
        **({"graph": to_json(graph)} if graph else {}),
        item_ids=described.item_ids,
        max_reject_share=config.data.max_reject_share,
        reject_folder=str(config.home / "rejects"),
        source_digest=items_digest(table),
        **({"media_cache": str(config.home / "text_vectors")} if table.media_columns else {}),
        generated_texts=written.outputs["generated_texts"] if written else None,
    )
    components: list = [*([written] if written else []), read]
    settings = IndexUpdateSettings(
        index=config.index,
        text_cache=str(config.home / "text_vectors"),
        max_removed_share=max_removed_share,
        min_text_share=config.transform.min_text_share,
    )
    imported: dict[str, tfx.dsl.Importer] = {}
    for kind, artifacts in trained.items():
        if artifacts is None:
            continue
        inputs = {}
        for name, (output, artifact_type) in (COMMON | (MORE if kind == "recommender" else {})).items():
            # What is served is the refitted model, where there is one.
            refit = output.replace("Trainer/model_run", "Refit/model_run")
            output = refit if refit in artifacts else output
            if output not in artifacts:
                continue
            uri = artifacts[output]
            if uri not in imported:
                importer = tfx.dsl.Importer(source_uri=uri, artifact_type=artifact_type)
                imported[uri] = importer.with_id(f"Import{len(imported)}")
            inputs[name] = imported[uri].outputs["result"]
        builder = IndexBuilder(kind, to_config(settings), new_items=read.outputs["items"], **inputs)
        builder = builder.with_id(f"{kind.title()}IndexBuilder")
        validator = validate_serving(config, kind, builder, read.outputs["items"], inputs["users"])
        # What Evaluators judged, the weights, did not change.
        destination = pusher_pb2.PushDestination.Filesystem(base_directory=str(config.push_folder / kind))
        pusher = AtomicPusher(
            model=builder.outputs["model"],
            infra_blessing=validator.outputs["blessing"],
            push_destination=pusher_pb2.PushDestination(filesystem=destination),
        ).with_id(f"{kind.title()}Pusher")
        components += [builder, validator, pusher]
    return tfx.dsl.Pipeline(
        pipeline_name=f"{config.name}-index",
        pipeline_root=str(config.home / "artifacts"),
        components=[*imported.values(), *components],
        # Each call pushes: what was pushed last is what is served, also where the table is one that was
        # served before.
        enable_cache=False,
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(config.home / "metadata.sqlite")
        ),
        beam_pipeline_args=list(IN_PROCESS),
    )


def last_pushed(config: PipelineConfig, kind: str) -> dict[str, str] | None:
    """The artifacts of the latest run that pushed a model of this kind: output → folder; None where there is
    none."""
    for summary in reversed(read_summaries(config.home)):
        if (summary.get(kind) or {}).get("pushed"):
            return summary["artifacts"]
    return None


def trained_tables(model_run: str) -> Tables:
    """How the tables were described that a model was trained on.

    Args:
        model_run: folder of the trainer's `model_run`.

    Raises:
        ConfigError: for a run of an earlier release.
    """
    path = pathlib.Path(model_run, "settings.json")
    if not path.is_file():
        raise ConfigError(
            "The pushed model must come with the settings that it was trained with. Received: none in"
            f" {model_run}, which an earlier release wrote. Train again with `tfrec run`."
        )
    settings = json.loads(path.read_text(encoding="utf-8"))
    return read_trained(settings, "retrieval", model_run).tables


def offered_table(config: PipelineConfig, path: str) -> Items:
    """The new table, read as the one that the pushed model was trained on.

    Args:
        config: of the run that trained it.
        path: file or glob.

    Raises:
        ConfigError: where no model was pushed, or the configuration names other columns than it was trained
            with.
    """
    table = dataclasses.replace(
        trained_tables(_trained(config)["RetrievalTrainer/model_run"]).items, path=path
    )
    given = config.data.items.generated if config.data.items else None
    generated = generated_text(config.enrich) if config.enrich else given
    was, is_now = ((texts.column, texts.use) if texts else "none" for texts in (table.generated, generated))
    if was != is_now:
        raise ConfigError(
            "Generated texts must be what the pushed model was trained with (column and use:"
            f" {was}). Received: {is_now}. Put `enrich` or `data.items.generated` back, or train again"
            " (`tfrec run`)."
        )
    if config.data.items is None:
        return table
    now = dataclasses.replace(config.data.items, path=path, generated=generated)
    fields = ("id", "title", "text", "categories", "lists", "numbers", "vectors", "images", "audio")
    described = [(field, getattr(table, field), getattr(now, field)) for field in fields]
    described += [(f"media (of {kind})", table.media.made_of(kind), now.media.made_of(kind))
                  for kind, _ in table.media_columns]  # fmt: skip
    for field, was, is_now in described:
        if was != is_now:
            raise ConfigError(
                f"`data.items.{field}` must be what the pushed model was trained with ({was!r}). Received:"
                f" {is_now!r}. Put it back, or train with the new columns (`tfrec run`)."
            )
    return now


def check_encoders(table: Items, report: str | None) -> None:
    """Refuses encoders of pictures and sounds that changed since the training, where that is known.

    Args:
        table: the items that are offered.
        report: folder of the training's data report.

    Raises:
        ConfigError: naming the column.
    """
    for number, (kind, column) in enumerate(table.media_columns):
        path = pathlib.Path(report or "", f"media_{number}.json")
        if not path.is_file():
            continue
        from tfrec_fusion.features.media_encoders import load_media_encoder  # imports TensorFlow

        was, now = (
            json.loads(path.read_text(encoding="utf-8"))["encoder_digest"],
            load_media_encoder(kind, table.media).digest,
        )
        if was != now:
            raise ConfigError(
                f"The encoder of {column!r} must be the one of the training (digest {was[:12]}). Received:"
                f" {now[:12]}. Put its files back, or train again (`tfrec run`)."
            )


def offered_graph(config: PipelineConfig, trained: Tables) -> Graph | None:
    """The edges between items as they are now; None where the model was trained without such.

    Raises:
        ConfigError: where they become other vectors than the model was trained with.
    """
    was, is_now = ((graph.hops, graph.dim) if graph and graph.items else None
                   for graph in (trained.graph, config.data.graph))  # fmt: skip
    if was != is_now:
        raise ConfigError(
            f"`data.graph` must be what the pushed model was trained with (hops and dim: {was}). Received:"
            f" {is_now}. Put it back, or train again (`tfrec run`)."
        )
    return config.data.graph if is_now else None


def _trained(config: PipelineConfig) -> dict[str, str]:
    artifacts = last_pushed(config, "retrieval")
    if artifacts is None:
        cloud = (
            " Runs on Vertex AI are not found from here: `tfrec vertex submit` takes new items in."
            if config.vertex
            else ""
        )
        stand_in = latest_version(config.push_folder / "retrieval")
        if stand_in and (baseline := baseline_of(stand_in)):
            raise ConfigError(
                f"Items are renewed in a trained model. Received: version {stand_in.name}, the baseline"
                f" {baseline['baseline']}, which fills in for a model that was refused. Run `tfrec run` with"
                " the new items, or with what it advised, until a model is pushed."
            )
        raise ConfigError(
            "A retrieval model must have been pushed before its index can be rebuilt. Received: none under"
            f" {config.home}. Run `tfrec run` first.{cloud}"
        )
    gone = artifacts["RetrievalTrainer/model_run"]
    if not pathlib.Path(gone).is_dir():
        raise ConfigError(
            f"What the pushed model was trained to must still be there. Received: {gone} is gone. Train again"
            " with `tfrec run`."
        )
    return artifacts
