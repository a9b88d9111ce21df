"""The steps of a run from tables to a SavedModel, one after the other in this process, without TFX's
runner."""

import dataclasses
import json
import pathlib
import types

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import metadata_io
from tensorflow_transform.tf_metadata.dataset_metadata import DatasetMetadata
from tfx_bsl.public import tfxio
from tfx_bsl.public.tfxio import RecordBatchToExamplesEncoder

from pipeline.callbacks import preprocessing, training
from pipeline.config.pipeline_config import SplitConfig
from pipeline.config.trainer_settings import Inputs, RankingSettings, RetrievalSettings, to_config
from pipeline.data import schemas
from pipeline.data.catalogue_reading import split_files
from tests.pipeline.test_example_gen import execute
from tfrec_fusion.config import IndexConfig, RankingConfig, RetrievalConfig
from tfrec_fusion.datasets.tables import Tables


def transform(folder: pathlib.Path, name: str, tables: Tables, source: pathlib.Path) -> None:
    """What Transform makes of Examples in `source`, with its graph."""
    items = name == "items"
    schema = schemas.items_schema(tables, 0.0) if items else schemas.interactions_schema(tables)
    splits = ["all"] if items else ["train", "validation", "test"]
    settings = {"tables": dataclasses.asdict(tables), "vocabulary_size": 100}
    function = getattr(preprocessing, f"{name}_preprocessing_fn")

    def read(split):
        return tfxio.TFExampleRecord(split_files(str(source), split), schema=schema)

    config = read(splits[0]).TensorAdapterConfig()
    metadata_io.write_metadata(DatasetMetadata(schema), str(folder / f"{name}_graph" / "metadata"))
    with beam.Pipeline() as pipeline, tft_beam.Context(temp_dir=str(folder / f"{name}_work")):
        parts = {split: pipeline | split >> read(split).BeamSource() for split in splits}
        made = (parts[splits[0]], config) | tft_beam.AnalyzeDataset(lambda inputs: function(inputs, settings))
        made | tft_beam.WriteTransformFn(str(folder / f"{name}_graph"))
        for split, raw in parts.items():
            rows, _ = ((raw, config), made) | f"transform {split}" >> tft_beam.TransformDataset(
                output_record_batches=True
            )
            _ = (
                rows
                | f"encode {split}"
                >> beam.FlatMapTuple(lambda batch, _: RecordBatchToExamplesEncoder().encode(batch))
                | f"write {split}"
                >> beam.io.WriteToTFRecord(f"{folder}/{name}/Split-{split}/part", file_name_suffix=".gz")
            )


def prepared(folder: pathlib.Path, tables: Tables, split: SplitConfig | None = None) -> None:
    """Reads, splits and transforms tables into a folder."""
    raw = folder / "raw"
    raw.mkdir()
    execute(raw, tables, split)
    for name in ("interactions", "items"):
        transform(folder, name, tables, raw / name)


def arguments(
    folder: pathlib.Path, tables: Tables, model: RetrievalConfig | RankingConfig
) -> types.SimpleNamespace:
    """What TFX gives a trainer's callback."""
    kind = kind_of(model)
    common = {
        "tables": tables,
        "text": None,
        "history_length": 6,
        "held_out_history": 6,
        "index": IndexConfig(),
        "checkpoints": str(folder / "checkpoints"),
        "code": "",
    }
    cls = {"retrieval": RetrievalSettings, "ranking": RankingSettings}[kind]
    inputs = Inputs(
        examples=str(folder / "interactions"),
        items=str(folder / "items"),
        items_transform_graph=str(folder / "items_graph"),
        users=str(folder / "raw" / "users"),
        transform_graph=str(folder / "interactions_graph"),
    )
    return types.SimpleNamespace(
        custom_config=json.loads(json.dumps(to_config(cls(**common, model=model), inputs))),
        serving_model_dir=str(folder / kind / "model"),
        model_run_dir=str(folder / kind / "run"),
    )


def kind_of(model: RetrievalConfig | RankingConfig) -> str:
    return "retrieval" if isinstance(model, RetrievalConfig) else "ranking"


def trained(folder: pathlib.Path, tables: Tables, model: RetrievalConfig | RankingConfig):
    """Trains and exports one of the two models with the pipeline's own callback; returns the loaded
    SavedModel."""
    given = arguments(folder, tables, model)
    getattr(training, f"run_{kind_of(model)}")(given)
    return tf.saved_model.load(given.serving_model_dir)
