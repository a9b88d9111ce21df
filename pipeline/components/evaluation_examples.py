"""EvaluationExamples: the test interactions with what they are judged by.

Baselines are fitted on the training interactions of the same run, and each test Example is given the rank that every one
of them gives the held-out item, over the whole catalogue, seen items excluded; and the features by which figures are
broken down, of which most belong to the item. Examples are streamed; what stays in memory is the matrix of training
interactions, the baselines' factors and the items' slices.

Where interactions have no labels, all test interactions are positive, and a ranking model could not be judged by them:
a split `ranking` then holds an item drawn uniformly among those not met beside every one of them.
"""

import itertools
import json
import os
from collections.abc import Iterable, Iterator

import numpy as np
import scipy.sparse
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import io_utils, path_utils

from pipeline import progress
from pipeline.catalogue import load_catalogue, split_files
from pipeline.components.artifacts import TextVectors
from pipeline.components.mount import with_mounted_files
from pipeline.evaluation import slices
from pipeline.evaluation.retrieval import rank_feature
from tfrec_fusion.config import ConfigError, from_dict
from tfrec_fusion.datasets.tables import Tables

BATCH = 512
TEST, RANKING = "test", "ranking"


class Baselines:
    """Baselines fitted on training interactions.

    Args:
        names: of `popularity`, `als`, `content_knn`.
        people: string per training interaction.
        items: index of the item per training interaction, from 1.
        num_items: rows of the catalogue, row 0 included.
        text_vectors: float `[num_items, dim]`; needed by `content_knn`.
    """

    def __init__(self, names, people: np.ndarray, items: np.ndarray, num_items: int, text_vectors):
        from tfrec_fusion.models import baselines

        ids, rows = np.unique(people, return_inverse=True)
        self.rows = {user: row + 1 for row, user in enumerate(ids)}
        matrix = baselines.interaction_matrix(rows + 1, items, len(ids) + 1, num_items)
        self.popularity = np.bincount(items, minlength=num_items).astype(np.float32)
        self.ties = np.random.default_rng(0).random(num_items).astype(np.float32)
        makers = {
            "popularity": baselines.Popularity,
            "als": baselines.ALS,
            "content_knn": lambda: baselines.ContentKNN(np.asarray(text_vectors)),
        }
        self.fitted = {}
        for name in names:
            progress.report(f"fits {name}")
            try:
                self.fitted[name] = makers[name]().fit(scipy.sparse.csr_matrix(matrix))
            except ImportError as error:
                raise ConfigError(f"{error} Or leave it out: `evaluation.baselines.{name}: off`.") from error

    def ranks(self, people: list[bytes], target: np.ndarray, seen: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Where the targets stand.

        People without training interactions are given the most popular items. Equal scores are ordered by a fixed shuffle.

        Args:
            people: a string per example.
            target: item rows; 0 for an unknown item.
            seen: item rows of each person.

        Returns:
            Name → float32 `[examples]`, from 1; NaN where the target is unknown or was seen.
        """
        users = np.array([self.rows.get(user, 0) for user in people])
        usable = np.array([item > 0 and item not in met for item, met in zip(target, seen, strict=True)])
        found = {}
        for name, baseline in self.fitted.items():
            scores = np.array(baseline.scores(users), np.float32)
            scores[users == 0] = self.popularity
            found[name] = np.where(usable, self._places(scores, target, seen), np.nan).astype(np.float32)
        return found

    def _places(self, scores: np.ndarray, target: np.ndarray, seen: list[np.ndarray]) -> np.ndarray:
        own = scores[np.arange(len(target)), target][:, None]
        scores[:, 0] = -np.inf
        for row, met in enumerate(seen):
            scores[row, met] = -np.inf
        level = (scores == own) & (self.ties > self.ties[target][:, None])
        return 1 + ((scores > own) | level).sum(1)


class Slices:
    """Names of the slices that a test Example belongs to.

    Args:
        settings: `slices`, the names wanted; `slice_values`, how many values of a column keep their own name; `rare_item`,
            up to how many training interactions an item is rare.
        tables: the columns.
        items: raw item Examples by id.
        examples: all test Examples, for the span of time and the values of people's and moments' columns.
    """

    def __init__(self, settings: dict, tables: Tables, items: dict, examples: Iterable[tf.train.Example]):
        self.names, self.tables, self.rare_item = settings["slices"], tables, settings["rare_item"]
        self.most = settings["slice_values"]
        self.about_items = self._of_items(items)
        kinds = slices.column_kinds(tables)
        values: dict[str, list] = {
            name: [] for name in self.names if name in kinds and not name.startswith("item_")
        }
        times = []
        for example in examples:
            times += read(example, "time")
            for name, found in values.items():
                found += read(example, name)
        self.columns = {
            name: slices.value_namer(kinds[name], found, self.most) for name, found in values.items()
        }
        self.period = slices.period_of(min(times), max(times))

    def _of_items(self, items: dict) -> dict[str, dict[str, list[str]]]:
        """Item id → its slices."""
        ids = list(items)
        counts = np.array([read(items[name], "train_count")[0] for name in ids])
        reach = dict(zip(ids, slices.item_reach(counts), strict=True))
        kinds = slices.column_kinds(self.tables)
        namers = {
            name: slices.value_namer(
                kinds[name], [value for item in items.values() for value in read(item, name)], self.most
            )
            for name in self.names
            if name in kinds and name.startswith("item_")
        }
        found = {}
        for item_id, item in items.items():
            text = slices.text_of(Values(item), self.tables)
            derived = {
                "item_activity": [slices.item_activity(read(item, "train_count")[0], self.rare_item)],
                "item_reach": [str(reach[item_id])],
                "text_length": [slices.text_length(text)],
                "script": [slices.script(text)],
            }
            columns = {name: namer(read(item, name)) for name, namer in namers.items()}
            found[item_id] = {
                name: values for name, values in {**derived, **columns}.items() if name in self.names
            }
        return found

    def of(self, example, item_id: str) -> dict[str, list[str]]:
        """Slice → its values for an Example whose item is `item_id`."""
        found = dict(self.about_items[item_id])
        found |= {name: namer(read(example, name)) for name, namer in self.columns.items()}
        if "period" in self.names:
            found["period"] = [self.period(read(example, "time")[0])]
        if "user_activity" in self.names:
            found["user_activity"] = read(example, "user_activity")
        return found


class Values:
    """An Example as a mapping of names to values."""

    def __init__(self, example: tf.train.Example):
        self.example = example

    def get(self, name: str) -> list:
        return read(self.example, name)

    def __getitem__(self, name: str) -> list:
        return read(self.example, name)


def read(example: tf.train.Example, name: str) -> list:
    """Values of a feature: strings, ints or floats; empty where it is missing."""
    if name not in example.features.feature:
        return []
    feature = example.features.feature[name]
    kind = feature.WhichOneof("kind")
    values = list(getattr(feature, kind).value) if kind else []
    return [value.decode("utf-8", "replace") for value in values] if kind == "bytes_list" else values


def records(uri: str, split: str) -> Iterator[bytes]:
    """Serialised Examples of a split."""
    yield from tf.data.TFRecordDataset(split_files(uri, split), compression_type="GZIP").as_numpy_iterator()


def examples(uri: str, split: str) -> Iterator[tf.train.Example]:
    """Examples of a split, one after the other."""
    return map(tf.train.Example.FromString, records(uri, split))


def training_pairs(uri: str) -> tuple[np.ndarray, np.ndarray]:
    """User and item ids (bytes) of all training interactions."""
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in ("user_id", "item_id")}
    data = tf.data.TFRecordDataset(split_files(uri, "train"), compression_type="GZIP").batch(8192)
    parts = [tf.io.parse_example(batch, spec) for batch in data]
    return tuple(np.concatenate([part[name].numpy() for part in parts]) for name in ("user_id", "item_id"))  # type: ignore[return-value]


def evaluation_schema(names: list[str], baselines: list[str], has_label: bool) -> schema_pb2.Schema:
    """What the Evaluators read of the Examples; models parse the rest by themselves."""
    schema = schema_pb2.Schema()
    kinds = {"user_id": schema_pb2.BYTES, "click": schema_pb2.FLOAT}
    if has_label:
        kinds["label"] = schema_pb2.FLOAT
    kinds |= {rank_feature(name): schema_pb2.FLOAT for name in baselines}
    for name, kind in kinds.items():
        schema.feature.add(name=name, type=kind)
    for name in names:
        schema.feature.add(name=slices.PREFIX + name, type=schema_pb2.BYTES)
    return schema


class Executor(base_executor.BaseExecutor):
    """Fits, ranks, and writes."""

    @with_mounted_files
    def Do(self, input_dict, output_dict, exec_properties) -> None:
        settings = json.loads(exec_properties["settings"])
        tables = from_dict(Tables, settings["tables"])
        uris = {
            name: artifact_utils.get_single_uri(entries) for name, entries in input_dict.items() if entries
        }
        catalogue = load_catalogue(
            uris["items"], uris["items_transform_graph"], tables, uris.get("text_vectors")
        )
        raw = {read(item, "item_id")[0]: item for item in examples(uris["raw_items"], "all")}
        self.rows = {name: row for row, name in enumerate(catalogue.ids) if row}
        self.ids = catalogue.ids
        people, items = training_pairs(uris["interactions"])
        indices = np.array([self.rows[item.decode()] for item in items])
        fitted = [name for name in settings["baselines"] if name != "text_none"]
        self.baselines = Baselines(fitted, people, indices, len(catalogue), catalogue.text_vectors)
        self.plain = None
        if "text_none" in settings["baselines"]:
            model = artifact_utils.get_single_instance(input_dict["plain_model"])
            folder = path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
            self.plain = tf.saved_model.load(folder).signatures["serving_default"]
        self.source = uris["interactions"]
        self.slices = Slices(settings, tables, raw, examples(self.source, "test"))
        self._write(output_dict, settings)

    def _write(self, output_dict, settings: dict) -> None:
        artifact = artifact_utils.get_single_instance(output_dict["examples"])
        splits = [TEST] if settings["has_label"] else [TEST, RANKING]
        artifact.split_names = artifact_utils.encode_split_names(splits)
        for split in splits:
            folder = artifact_utils.get_split_uri([artifact], split)
            tf.io.gfile.makedirs(folder)
            path = os.path.join(folder, "data_tfrecord-00000-of-00001.gz")
            with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
                for example in self._judged() if split == TEST else self._with_negatives():
                    writer.write(example.SerializeToString())
        schema = evaluation_schema(settings["slices"], settings["baselines"], settings["has_label"])
        io_utils.write_pbtxt_file(
            os.path.join(artifact_utils.get_single_uri(output_dict["schema"]), "schema.pbtxt"), schema
        )

    def _judged(self) -> Iterator[tf.train.Example]:
        """Test Examples with slices and the baselines' ranks."""
        test, done = examples(self.source, "test"), 0
        while batch := list(itertools.islice(test, BATCH)):
            done += len(batch)
            progress.report(f"ranks {done:,}")
            items = [read(example, "item_id")[0] for example in batch]
            people = [read(example, "user_id")[0].encode() for example in batch]
            ranks = self.baselines.ranks(
                people, np.array([self.rows[item] for item in items]), [self._seen(entry) for entry in batch]
            )
            if self.plain is not None:
                given = tf.constant([example.SerializeToString() for example in batch])
                ranks["text_none"] = self.plain(examples=given)["rank"].numpy()
            for place, (example, item) in enumerate(zip(batch, items, strict=True)):
                judged = self._sliced(example, item)
                for name, values in ranks.items():
                    judged.features.feature[rank_feature(name)].float_list.value.append(float(values[place]))
                yield judged

    def _with_negatives(self) -> Iterator[tf.train.Example]:
        """Test Examples, and beside each the same person and moment with an item that they did not meet."""
        rng = np.random.default_rng(0)
        met: dict[str, set[str]] = {}
        for example in examples(self.source, "test"):
            known = met.setdefault(read(example, "user_id")[0], set())
            known.update(read(example, "seen"), read(example, "item_id"))
        for example in examples(self.source, "test"):
            yield self._sliced(example, read(example, "item_id")[0])
            known = met[read(example, "user_id")[0]]
            if len(known) >= len(self.ids) - 1:
                continue
            item = self.ids[rng.integers(1, len(self.ids))]
            while item in known:
                item = self.ids[rng.integers(1, len(self.ids))]
            negative = tf.train.Example.FromString(example.SerializeToString())
            negative.features.feature["item_id"].bytes_list.value[0] = item.encode()
            negative.features.feature["click"].float_list.value[0] = 0.0
            yield self._sliced(negative, item)

    def _sliced(self, example: tf.train.Example, item: str) -> tf.train.Example:
        judged = tf.train.Example.FromString(example.SerializeToString())
        for name, values in self.slices.of(example, item).items():
            judged.features.feature[slices.PREFIX + name].bytes_list.value.extend(
                value.encode() for value in values
            )
        return judged

    def _seen(self, example: tf.train.Example) -> np.ndarray:
        return np.array([self.rows[item] for item in read(example, "seen") if item in self.rows], np.int64)


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
        settings: JSON of `tables`, `baselines`, `slices`, `slice_values`, `rare_item` and `has_label`.
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
