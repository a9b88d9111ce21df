"""EvaluationExamples: the test interactions with what they are judged by.

Baselines are fitted on the training interactions of the same run, and each test Example is given the rank
that every one of them gives the held-out item, over the whole catalogue, seen items excluded unless
repeats may be recommended; and the
features by which figures are broken down, of which most belong to the item. Examples are streamed from shards
to shards; what stays in memory is the training interactions, the baselines' factors and the items' slices,
and nothing of the test interactions.

Where interactions have no labels, all test interactions are positive, and a ranking model could not be judged
by them: a split `ranking` then holds an item drawn uniformly among those not seen beside every one of them.
"""

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import io_utils, path_utils

from pipeline.components.artifacts import TextVectors
from pipeline.components.mount import with_mounted_files
from pipeline.data.catalogue_reading import load_catalogue, split_files
from pipeline.data.examples import read, read_bytes
from pipeline.evaluation import slices
from pipeline.evaluation.baseline_ranks import Baselines, TrainingPairs, training_pairs
from pipeline.evaluation.example_slices import Slices
from pipeline.evaluation.retrieval import rank_feature
from tfrec_fusion.config import from_dict
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.export.evaluated import evaluated
from tfrec_fusion.features.columns import label_feature
from tfrec_fusion.training import progress

BATCH = 512
SHARD = 2**16
TEST, RANKING = "test", "ranking"


def records(uri: str, split: str) -> Iterator[bytes]:
    """Serialised Examples of a split; read in batches, as the step from TensorFlow to Python is what takes
    long."""
    data = tf.data.TFRecordDataset(split_files(uri, split), compression_type="GZIP").batch(BATCH)
    for batch in data.as_numpy_iterator():
        yield from batch


def examples(uri: str, split: str) -> Iterator[tf.train.Example]:
    """Examples of a split, one after the other."""
    return map(tf.train.Example.FromString, records(uri, split))


def evaluation_schema(
    names: list[str], baselines: list[str], has_label: bool, labels: Iterable[str] = ()
) -> schema_pb2.Schema:
    """What the Evaluators read of the Examples; models parse the rest by themselves."""
    schema = schema_pb2.Schema()
    kinds = {"user_id": schema_pb2.BYTES, "item_id": schema_pb2.BYTES, "click": schema_pb2.FLOAT}
    if has_label:
        kinds["label"] = schema_pb2.FLOAT
    kinds |= {label_feature(name): schema_pb2.FLOAT for name in labels}
    kinds |= {rank_feature(name): schema_pb2.FLOAT for name in baselines}
    for name, kind in kinds.items():
        schema.feature.add(name=name, type=kind)
    for name in names:
        schema.feature.add(name=slices.PREFIX + name, type=schema_pb2.BYTES)
    return schema


class Judged:
    """Test Examples, ready to judge models by.

    Args:
        source: the interactions' artifact.
        items: gives all raw item Examples, each time it is called.
        ids: item id of each row of the catalogue; row 0 is none.
        text_vectors: float `[rows, dim]`, where there are any.
        settings: as `EvaluationExamples` takes them.
        plain: signature of the model without text, for the baseline `text_none`.
    """

    def __init__(
        self,
        source: str,
        items: Callable[[], Iterator[tf.train.Example]],
        ids: np.ndarray,
        text_vectors: np.ndarray | None,
        settings: dict,
        plain: Callable | None = None,
    ) -> None:
        self.source, self.ids, self.settings, self.plain = source, ids, settings, plain
        self.rows = {name.encode(): row for row, name in enumerate(ids) if row}
        fitted = [name for name in settings["baselines"] if name != "text_none"]
        pairs = TrainingPairs(training_pairs(source), self.rows)
        self.repeats = bool(settings.get("repeats"))
        self.baselines = Baselines(fitted, pairs, len(ids), text_vectors, self.repeats)
        progress.report("names slices")
        tables = from_dict(Tables, settings["tables"])
        self.further_labels = tuple(tables.further_labels)
        self.slices = Slices(settings, tables, items, examples(source, "test"))

    @property
    def splits(self) -> list[str]:
        """The splits that are written."""
        alone = self.settings["has_label"] or not self.settings.get("judges_ranking", True)
        return [TEST] if alone else [TEST, RANKING]

    def write(self, split: str, folder: str) -> None:
        """Writes a split, `SHARD` test interactions a file."""
        tf.io.gfile.makedirs(folder)
        entries = self.ranked() if split == TEST else self.with_negatives()
        count = max(1, -(-self.slices.count // SHARD))
        for shard in range(count):
            path = os.path.join(folder, f"data_tfrecord-{shard:05d}-of-{count:05d}.gz")
            with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
                for group in itertools.islice(entries, SHARD):
                    for example in group:
                        writer.write(example.SerializeToString())

    def ranked(self) -> Iterator[tuple[tf.train.Example]]:
        """Test Examples with slices and the baselines' ranks."""
        test, done = examples(self.source, "test"), 0
        while batch := list(itertools.islice(test, BATCH)):
            done += len(batch)
            progress.report(f"ranks {done:,}")
            items = [read(example, "item_id")[0] for example in batch]
            users = [read_bytes(example, "user_id")[0] for example in batch]
            target = np.array([self.rows[item.encode()] for item in items])
            seen = [self._rows(example, "seen") for example in batch]
            # In the order in which it was chosen, with repeats.
            histories = [self._rows(example, "history") for example in batch] if self.repeats else None
            ranks = self.baselines.ranks(users, target, seen, histories)
            if self.plain is not None:
                given = tf.constant([example.SerializeToString() for example in batch])
                ranks["text_none"] = evaluated(self.plain(examples=given))["rank"]
            for position, (example, item) in enumerate(zip(batch, items, strict=True)):
                self._slice(example, item)
                if self.repeats:  # whoever reads on is told what may not be recommended
                    example.features.feature["seen"].bytes_list.ClearField("value")
                for name, values in ranks.items():
                    example.features.feature[rank_feature(name)].float_list.value.append(
                        float(values[position])
                    )
                yield (example,)

    def with_negatives(self) -> Iterator[tuple[tf.train.Example, ...]]:
        """Test Examples, and beside each the same user and moment with an item that they did not choose."""
        rng = np.random.default_rng(0)
        tested: dict[str, set[bytes]] = {}
        for example in examples(self.source, "test"):
            tested.setdefault(read(example, "user_id")[0], set()).add(read_bytes(example, "item_id")[0])
        for example in examples(self.source, "test"):
            # What was seen before the split is the same in all Examples of a user.
            known = tested[read(example, "user_id")[0]].union(read_bytes(example, "seen"))
            negative = tf.train.Example.FromString(example.SerializeToString())
            self._slice(example, read(example, "item_id")[0])
            if len(known) >= len(self.ids) - 1:
                yield (example,)
                continue
            item = self.ids[rng.integers(1, len(self.ids))]
            while item.encode() in known:
                item = self.ids[rng.integers(1, len(self.ids))]
            negative.features.feature["item_id"].bytes_list.value[0] = item.encode()
            negative.features.feature["click"].float_list.value[0] = 0.0
            for label in self.further_labels:  # of an item that was not met nobody knows any
                negative.features.feature.pop(label_feature(label), None)
            self._slice(negative, item)
            yield example, negative

    def _slice(self, example: tf.train.Example, item: str) -> None:
        for name, values in self.slices.of(example, item).items():
            example.features.feature[slices.PREFIX + name].bytes_list.value.extend(
                value.encode() for value in values
            )

    def _rows(self, example: tf.train.Example, name: str) -> np.ndarray:
        rows = (self.rows.get(item) for item in read_bytes(example, name))
        return np.array([row for row in rows if row is not None], np.int64)


class Executor(base_executor.BaseExecutor):
    """Fits, ranks, and writes."""

    @with_mounted_files
    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        settings = json.loads(exec_properties["settings"])
        uris = {
            name: artifact_utils.get_single_uri(entries) for name, entries in input_dict.items() if entries
        }
        catalogue = load_catalogue(
            uris["items"],
            uris["items_transform_graph"],
            from_dict(Tables, settings["tables"]),
            uris.get("text_vectors"),
        )
        plain = None
        if "text_none" in settings["baselines"]:
            model = artifact_utils.get_single_instance(input_dict["plain_model"])
            folder = path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
            plain = tf.saved_model.load(folder).signatures["serving_default"]
        judged = Judged(
            uris["interactions"],
            lambda: examples(uris["raw_items"], "all"),
            catalogue.ids,
            catalogue.text_vectors,
            settings,
            plain,
        )
        artifact = artifact_utils.get_single_instance(output_dict["examples"])
        artifact.split_names = artifact_utils.encode_split_names(judged.splits)
        for split in judged.splits:
            judged.write(split, artifact_utils.get_split_uri([artifact], split))
        schema = evaluation_schema(
            settings["slices"], settings["baselines"], settings["has_label"], judged.further_labels
        )
        io_utils.write_pbtxt_file(
            os.path.join(artifact_utils.get_single_uri(output_dict["schema"]), "schema.pbtxt"), schema
        )


INPUTS = ("interactions", "raw_items", "items", "items_transform_graph")


class EvaluationExamplesSpec(component_spec.ComponentSpec):
    """Channels and parameters of EvaluationExamples."""

    PARAMETERS = {
        "settings": component_spec.ExecutionParameter(type=str),
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "interactions": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "raw_items": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "items": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "items_transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
        "text_vectors": component_spec.ChannelParameter(type=TextVectors, optional=True),
        "plain_model": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
    }
    OUTPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema),
    }


class EvaluationExamples(base_component.BaseComponent):
    """Writes the Examples by which both models are judged.

    Args:
        settings: JSON of `tables`, `baselines`, `slices`, `slice_values`, `rare_item`, `repeats`, `has_label`
            and `judges_ranking`.
        code: digest of the code, for TFX's cache.
        interactions, raw_items: raw Examples.
        items, items_transform_graph: transformed items, and the graph that made them.
        text_vectors: the items' text vectors, where there are any.
        plain_model: a retrieval model without text, for the baseline `text_none`.
    """

    SPEC_CLASS = EvaluationExamplesSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, settings: str, code: str, **inputs: types.BaseChannel | None):
        super().__init__(
            EvaluationExamplesSpec(
                settings=settings,
                code=code,
                examples=types.Channel(type=standard_artifacts.Examples),
                schema=types.Channel(type=standard_artifacts.Schema),
                **{name: channel for name, channel in inputs.items() if channel is not None},
            )
        )
