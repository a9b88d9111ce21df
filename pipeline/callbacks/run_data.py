"""Transformed data of a run as the library takes it: batches, catalogue, feature space, users."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from pipeline.config.trainer_settings import Inputs, TrainerSettings
from pipeline.data.catalogue_reading import feature_space, load_catalogue, read_examples, split_files
from tfrec_fusion.config import FeatureSpace
from tfrec_fusion.export import base as export
from tfrec_fusion.export.parts import trained_text_tower
from tfrec_fusion.features.graph import request_spec
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.private_parts import uniform_counts
from tfrec_fusion.models.user_profiles import Profiles
from tfrec_fusion.training.batches import batches, read_columns
from tfrec_fusion.training.recipes import TrainingData

SHUFFLE = 200_000
READ_AT_ONCE = 4096


class RunData:
    """What a run prepared, read from its artifacts.

    Args:
        settings: how the run was configured.
        inputs: folders of the artifacts.
    """

    def __init__(self, settings: TrainerSettings, inputs: Inputs):
        self.settings, self.inputs = settings, inputs
        self._columns: dict[str, dict[str, np.ndarray] | None] = {}
        self.transform = tft.TFTransformOutput(inputs.transform_graph)
        self.catalogue = load_catalogue(
            inputs.items, inputs.items_transform_graph, settings.tables, inputs.text_vectors
        )
        if _private(settings):
            self.catalogue = uniform_counts(self.catalogue)
        self.space: FeatureSpace = feature_space(
            self.transform,
            tft.TFTransformOutput(inputs.items_transform_graph),
            settings.tables,
            self.catalogue,
            settings.history_length,
            settings.repeats,
        )
        self.item_rows = export.Lookup(self.catalogue.ids)
        self.labels = settings.tables.labels

    def training_data(self, with_users: bool = False) -> TrainingData:
        """What the library's recipes train on; `with_users` for a refit of the retrieval model."""
        users = self.profiles(self.transform.transform_features_layer()) if with_users else None
        return TrainingData(self.space, self.catalogue, self.batches, self.labels, self.settings.text, users)

    def batches(self, split: str, batch_size: int, shuffle: int | None) -> tf.data.Dataset:
        """Batches as the models take them, in the order of `training.batches`; a split that is too large for
        memory streams, shuffled while its records are still bytes."""
        if split not in self._columns:
            self._columns[split] = read_columns(self.stream(split, READ_AT_ONCE, None))
        columns = self._columns[split]
        if columns is None:
            return self.stream(split, batch_size, shuffle)
        return batches(columns, batch_size, shuffle)

    def stream(self, split: str, batch_size: int, shuffle: int | None) -> tf.data.Dataset:
        """The same batches read from files each time; they are shuffled over `SHUFFLE` records."""
        spec = self.transform.transformed_feature_spec()
        files = split_files(self.inputs.examples, split)
        width = self.settings.history_length if split == "train" else self.settings.held_out_history
        records = tf.data.TFRecordDataset(files, compression_type="GZIP")
        # Whole batches only, unless there is not even one.
        whole = (
            shuffle is not None
            and next(iter(records.batch(batch_size, drop_remainder=True)), None) is not None
        )
        if shuffle is not None:
            records = records.shuffle(SHUFFLE, seed=shuffle, reshuffle_each_iteration=True)
        parsed = records.batch(batch_size, drop_remainder=whole).map(
            lambda batch: self._model_inputs(tf.io.parse_example(batch, spec), width),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return parsed.prefetch(tf.data.AUTOTUNE)

    def _model_inputs(self, parsed: dict, width: int) -> dict[str, tf.Tensor]:
        batch = {}
        for name, value in parsed.items():
            if name not in ("item_id", "history", "history_weight"):
                dense = tf.sparse.to_dense(value) if isinstance(value, tf.SparseTensor) else value
                batch[name] = tf.cast(dense, tf.int32) if dense.dtype == tf.int64 else dense
        batch["item_index"] = self.item_rows(parsed["item_id"])
        # Examples are padded on the right, models want the newest item last.
        history = tf.RaggedTensor.from_sparse(parsed["history"])[:, -width:]
        turned = self.item_rows(history[:, ::-1]).to_tensor(shape=[None, width])
        batch["history"] = tf.reverse(turned, [1])
        if "history_weight" in parsed:
            counts = tf.RaggedTensor.from_sparse(parsed["history_weight"])[:, -width:]
            batch["history_weight"] = tf.reverse(counts[:, ::-1].to_tensor(shape=[None, width]), [1])
        return batch

    def raw_spec(self) -> dict:
        """How interaction Examples are parsed in serving."""
        return request_spec(self.settings.tables)

    def profiles(self, transform: tf.Module) -> Profiles:
        """Users, their features transformed by the graph that transformed the training data."""
        raw = self.transform.raw_feature_spec()
        side = [feature.name for feature in self.space.user_features]
        spec = {name: raw[name] for name in ["user_id", *side]}
        spec |= {"history": tf.io.VarLenFeature(tf.string), "seen": tf.io.VarLenFeature(tf.string)}
        ids: list[bytes] = [b""]
        features: dict[str, list[np.ndarray]] = {}
        lists: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"history": [], "seen": []}
        for parsed in read_examples(self.inputs.users, "all", spec):
            ids.extend(parsed["user_id"].numpy())
            transformed = transform({name: parsed[name] for name in ["user_id", *side]})
            for name in ["user_index", *side]:
                features.setdefault(name, []).append(transformed[name].numpy())
            for name in lists:
                items = self.item_rows(tf.RaggedTensor.from_sparse(parsed[name]))
                items = items[:, -self.settings.held_out_history :] if name == "history" else items
                lists[name].append((items.flat_values.numpy(), items.row_lengths().numpy()))
        unknown = transform({name: _missing(spec[name]) for name in ["user_id", *side]})
        columns = {name: np.concatenate([unknown[name].numpy(), *parts]) for name, parts in features.items()}
        columns = {name: _narrow(values) for name, values in columns.items()}
        return Profiles(
            ids=np.array([value.decode() for value in ids], object),
            features=columns,
            history_length=self.settings.held_out_history,
            **_end_to_end("history", lists["history"]),
            **_end_to_end("seen", lists["seen"]),
        )

    def offer(self, catalogue: Catalogue) -> None:
        """Serves another catalogue than the data's; see `models.new_items.renewed`."""
        self.catalogue, self.item_rows = catalogue, export.Lookup(catalogue.ids)

    def serving_arguments(self, model: Model) -> tuple:
        """What both models' signatures are made of, beside the model."""
        transform = self.transform.transform_features_layer()
        return (
            self.catalogue,
            self.profiles(transform),
            self.space.item_features,
            self.space.context_features,
            trained_text_tower(model, self.settings.text),
            transform,
            self.raw_spec(),
        )


def _private(settings: TrainerSettings) -> bool:
    """Whether one of the models is trained privately; counts of items would tell what it hides."""
    models = (getattr(settings, name, None) for name in ("model", "retrieval", "ranking"))
    return any(model is not None and model.training.privacy is not None for model in models)


def _end_to_end(name: str, parts: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Lists of items in batches, their values and lengths, as `Profiles` holds them: row 0 has none."""
    values, lengths = (np.concatenate(column) for column in zip(*parts, strict=True))
    splits = np.concatenate([[0, 0], np.cumsum(lengths)]).astype(np.int64)
    return {f"{name}_items": values.astype(np.int32), f"{name}_splits": splits}


def _missing(feature: Any) -> tf.Tensor | tf.SparseTensor:
    """One Example without the feature."""
    if isinstance(feature, tf.io.FixedLenFeature):
        return tf.constant([""] if feature.dtype == tf.string else [0], feature.dtype)
    return tf.SparseTensor(tf.zeros([0, 2], tf.int64), tf.zeros([0], feature.dtype), [1, 0])


def _narrow(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int32) if values.dtype == np.int64 else values
