"""ItemsExampleGen: a table of items alone into Examples, read and checked as TablesExampleGen reads it.

What a catalogue that changed since the last training is made of. Nothing is known of interactions here:
`train_count` is 0 for every item, and the model that was trained knows better.
"""

import json
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx import types
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from pipeline.components.artifacts import DataReport, GeneratedTexts
from pipeline.components.data_report import add_notes, check_report, write_report
from pipeline.components.example_gen import keep_first, with_texts
from pipeline.components.graph_reading import AddVectors, write_vectors
from pipeline.components.media_reading import AddMedia, write_media
from pipeline.components.table_reading import ReadEntities
from pipeline.components.text_enrichment import texts_file
from pipeline.data.examples import make_example
from tfrec_fusion.config import from_dict
from tfrec_fusion.datasets.edges import Graph
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.settling import settle_items
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.features.columns import shown_names


def item_example(entry: tuple[str, dict]) -> bytes:
    """(item, its row) → the item's Example."""
    item, row = entry
    return make_example({"item_id": item, **row, "title": row.get("title") or item, "train_count": 0})


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads, drops what cannot be used, and judges how much that was."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        described = from_dict(Items, json.loads(exec_properties["table"]))
        described = with_texts(Tables(Interactions(path=""), described), texts_file(input_dict)).items
        table, notes = settle_items(described)
        items = artifact_utils.get_single_instance(output_dict["items"])
        items.split_names = artifact_utils.encode_split_names(["all"])
        report = artifact_utils.get_single_uri(output_dict["report"])
        tf.io.gfile.makedirs(report)
        graph = (
            from_dict(Graph, json.loads(exec_properties["graph"])) if exec_properties.get("graph") else None
        )
        tables = Tables(Interactions(path=""), table, item_ids=exec_properties["item_ids"], graph=graph)
        shown, vectors = shown_names(tables), write_vectors(tables, "items", report)
        media = write_media(table, report, exec_properties.get("media_cache"))
        with self._make_beam_pipeline() as pipeline:
            read = (
                pipeline
                | "files" >> beam.Create(find_files(table.path, "items"))
                | "spread" >> beam.Reshuffle()
                | "read"
                >> beam.ParDo(ReadEntities(table, "items", exec_properties["item_ids"])).with_outputs(
                    "rejects", main="rows"
                )
            )
            unique = (
                read.rows
                | "group" >> beam.GroupByKey()
                | "first" >> beam.FlatMap(keep_first, "items", table.distinct, shown).with_outputs(
                    "rejects", main="rows"
                )
            )  # fmt: skip
            rows = unique.rows
            if vectors is not None:
                rows |= "vectors" >> beam.ParDo(AddVectors(vectors))
            rejects = [read.rejects, unique.rejects]
            if media:
                rows |= "pictures and sounds" >> beam.ParDo(AddMedia(media))
                unused = [reject for file in media for reject in file.rejects]
                rejects.append(pipeline | "files not used" >> beam.Create(unused, reshuffle=False))
            examples = rows | "examples" >> beam.Map(item_example)
            folder = artifact_utils.get_split_uri([items], "all")
            _ = examples | "write" >> beam.io.WriteToTFRecord(
                f"{folder}/data_tfrecord", file_name_suffix=".gz"
            )
            used = {file.table: file.used for file in media}
            write_report(pipeline, rejects, {("items", "all"): examples}, None, report, used)
        add_notes(report, notes)
        check_report(report, exec_properties["max_reject_share"], exec_properties["reject_folder"])


class ItemsExampleGenSpec(component_spec.ComponentSpec):
    """Channels and parameters of ItemsExampleGen."""

    INPUTS = {"generated_texts": component_spec.ChannelParameter(type=GeneratedTexts, optional=True)}
    OUTPUTS = {
        "items": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "report": component_spec.ChannelParameter(type=DataReport),
    }
    PARAMETERS = {
        "table": component_spec.ExecutionParameter(type=str),
        "graph": component_spec.ExecutionParameter(type=str, optional=True),
        "item_ids": component_spec.ExecutionParameter(type=str),
        "max_reject_share": component_spec.ExecutionParameter(type=float),
        "reject_folder": component_spec.ExecutionParameter(type=str),
        "source_digest": component_spec.ExecutionParameter(type=str),
        "media_cache": component_spec.ExecutionParameter(type=str, optional=True),
    }


class ItemsExampleGen(base_beam_component.BaseBeamComponent):
    """Reads a table of items.

    Args:
        table: JSON of an `Items`.
        graph: JSON of a `Graph`, whose edges between items are read; left out without such. Edges to what is
            not offered any more are no faults here.
        item_ids: how ids are written, as in `Tables`.
        max_reject_share: above this share of unusable rows the run stops.
        reject_folder: receives the rejected rows then.
        source_digest: digest of the files, so that changed data is read again where results are cached.
        media_cache: folder that keeps vectors of pictures and sounds between runs; left out without such.
        generated_texts: what a language model wrote about items, where `table` says that there is such.
    """

    SPEC_CLASS = ItemsExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, generated_texts: types.BaseChannel | None = None, **parameters: str | float):
        items = types.Channel(type=standard_artifacts.Examples)
        inputs = {} if generated_texts is None else {"generated_texts": generated_texts}
        super().__init__(
            ItemsExampleGenSpec(**parameters, **inputs, items=items, report=types.Channel(type=DataReport))
        )
