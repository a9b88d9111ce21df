"""Trainer's callbacks: transformed data into a trained and exported model. The library does the work."""

from __future__ import annotations

import atexit
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from pipeline.data.catalogue_reading import feature_space, load_catalogue, read_examples, split_files
from tfrec_fusion import files
from tfrec_fusion.config import (
    FeatureSpace,
    IndexConfig,
    RankingConfig,
    RetrievalConfig,
    TextConfig,
    TrainingConfig,
    from_dict,
)
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.export import base as export
from tfrec_fusion.export.ranking import RankingServing
from tfrec_fusion.export.retrieval import RetrievalServing, searchable
from tfrec_fusion.features.graph import request_spec
from tfrec_fusion.index import TopKIndex, build_index
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.build import build_ranking, build_two_tower
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.models.tower import TEXT
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.models.user_profiles import Profiles
from tfrec_fusion.training import progress
from tfrec_fusion.training.fitting import fit_staged, precision, strategy

AnyModel = TypeVar("AnyModel", bound=Model)
SHUFFLE = 200_000
SETTINGS = "settings.json"


def say(logs: dict) -> None:
    """Tells whoever watches how training goes."""
    shown = ", ".join(f"{name} {value:.4g}" for name, value in logs.items() if name != "epoch")
    progress.report(f"epoch {logs['epoch']}: {shown}")


class Run:
    """Everything that both models' training starts from.

    Args:
        fn_args: TFX's arguments; `custom_config` holds JSON of the configuration, and the inputs' folders.
    """

    def __init__(self, fn_args):
        self.settings = fn_args.custom_config
        inputs = self.settings["inputs"]
        self.examples, self.users = inputs["examples"], inputs["users"]
        self.tables = from_dict(Tables, json.loads(self.settings["tables"]))
        self.text = from_dict(TextConfig, self.settings["text"]) if self.settings["text"] else None
        self.history_length = self.settings["history_length"]
        self.held_out_history = self.settings["held_out_history"]
        self.transform = tft.TFTransformOutput(fn_args.transform_output)
        items_transform = tft.TFTransformOutput(inputs["items_transform_graph"])
        self.catalogue = load_catalogue(
            inputs["items"], inputs["items_transform_graph"], self.tables, inputs.get("text_vectors")
        )
        self.space: FeatureSpace = feature_space(
            self.transform, items_transform, self.tables, self.catalogue, self.history_length
        )
        self.item_rows = export.Lookup(self.catalogue.ids)
        self.labels = {"click": "binary"}
        if self.tables.interactions.label:
            self.labels["rating"] = "rating"
        self.model_folder, self.log_folder = fn_args.serving_model_dir, fn_args.model_run_dir

    def batches(self, split: str, batch_size: int, shuffle: bool) -> tf.data.Dataset:
        """Batches as the models take them. Records are shuffled while they are still bytes, and parsed by the
        batch."""
        spec = self.transform.transformed_feature_spec()
        files = split_files(self.examples, split)
        width = self.history_length if split == "train" else self.held_out_history
        records = tf.data.TFRecordDataset(files, compression_type="GZIP")
        # Whole batches only, unless there is not even one.
        whole = shuffle and next(iter(records.batch(batch_size, drop_remainder=True)), None) is not None
        if shuffle:
            records = records.shuffle(SHUFFLE, reshuffle_each_iteration=True)
        batches = records.batch(batch_size, drop_remainder=whole).map(
            lambda batch: self._model_inputs(tf.io.parse_example(batch, spec), width),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return batches.prefetch(tf.data.AUTOTUNE)

    def size(self, split: str) -> int:
        """Number of Examples of a split."""
        records = tf.data.TFRecordDataset(split_files(self.examples, split), compression_type="GZIP")
        return int(
            records.batch(8192).reduce(np.int64(0), lambda total, batch: total + tf.size(batch, tf.int64))
        )

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

    def text_tower(self, model: Model) -> export.TextTower | None:
        """The encoder for text that the catalogue does not hold, as it was trained; None with
        `text: none`."""
        if self.text is None:
            return None
        # Imported here: `text: none` needs no transformers.
        from tfrec_fusion.layers.text_encoder import TextEncoder
        from tfrec_fusion.layers.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(self.text.encoder, max_length=self.text.max_length, pad_to="longest")
        if model.item_text is not None:
            encoder = model.item_text.merged_encoder()
        else:
            encoder = TextEncoder.from_pretrained(
                self.text.encoder, pooling=self.text.pooling, stage="frozen", normalize=True
            )
        return export.TextTower(tokenizer, encoder, encoder.dim)

    def raw_spec(self) -> dict:
        """How interaction Examples are parsed in serving."""
        return request_spec(self.tables)

    def profiles(self, transform: tf.Module) -> Profiles:
        """People, their features transformed by the graph that transformed the training data."""
        raw = self.transform.raw_feature_spec()
        side = [feature.name for feature in self.space.user_features]
        spec = {name: raw[name] for name in ["user_id", *side]}
        spec |= {"history": tf.io.VarLenFeature(tf.string), "seen": tf.io.VarLenFeature(tf.string)}
        ids, features = [b""], {}
        met: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"history": [], "seen": []}
        for parsed in read_examples(self.users, "all", spec):
            ids.extend(parsed["user_id"].numpy())
            transformed = transform({name: parsed[name] for name in ["user_id", *side]})
            for name in ["user_index", *side]:
                features.setdefault(name, []).append(transformed[name].numpy())
            for name in met:
                items = self.item_rows(tf.RaggedTensor.from_sparse(parsed[name]))
                items = items[:, -self.held_out_history :] if name == "history" else items
                met[name].append((items.flat_values.numpy(), items.row_lengths().numpy()))
        unknown = transform({name: _missing(spec[name]) for name in ["user_id", *side]})
        columns = {name: np.concatenate([unknown[name].numpy(), *parts]) for name, parts in features.items()}
        columns = {name: _narrow(values) for name, values in columns.items()}
        return Profiles(
            ids=np.array([value.decode() for value in ids], object),
            features=columns,
            history_length=self.held_out_history,
            **_end_to_end("history", met["history"]),
            **_end_to_end("seen", met["seen"]),
        )

    def train(self, model, config, train: tf.data.Dataset, validation: tf.data.Dataset):
        """Fits the model; a run that was killed goes on at the step it was at. Texts are then known as they
        were learned."""
        key = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]
        folder = os.path.join(self.settings["checkpoints"], key)
        history = fit_staged(model, train, validation, config, self.text, folder, progress=say)
        if model.item_text is not None:
            vectors = model.item_tower.tables[TEXT].numpy()
            self.catalogue = dataclasses.replace(self.catalogue, text_vectors=vectors)
        files.write_json(os.path.join(self.log_folder, "history.json"), history.history, default=float)
        # The recommender is built from these, and so is an index of a catalogue that changed.
        tf.train.Checkpoint(model=model).write(os.path.join(self.log_folder, "weights"))
        files.write_json(os.path.join(self.log_folder, SETTINGS), self.settings)
        if model.distribute_strategy.extended.should_checkpoint:
            shutil.rmtree(folder, ignore_errors=True)

    def offer(self, catalogue: Catalogue) -> None:
        """Serves another catalogue than the model was trained on; see `models.new_items.renewed`."""
        self.catalogue, self.item_rows = catalogue, export.Lookup(catalogue.ids)

    def serving_arguments(self, model: Model) -> tuple:
        """What both models' signatures are made of, beside the model."""
        transform = self.transform.transform_features_layer()
        return (
            self.catalogue,
            self.profiles(transform),
            self.space.item_features,
            self.space.context_features,
            self.text_tower(model),
            transform,
            self.raw_spec(),
        )


def distribution(training: TrainingConfig, fn_args) -> tf.distribute.Strategy:
    """The strategy, for which TensorFlow must not have been used. Of several workers one writes what counts:
    saving needs the others too, and gets a folder of their own from them."""
    chosen = strategy(training)
    if not chosen.extended.should_checkpoint:
        scratch = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        fn_args.serving_model_dir = os.path.join(scratch, "model")
        fn_args.model_run_dir = os.path.join(scratch, "model_run")
    return chosen


def run_retrieval(fn_args) -> None:
    """Trains the two-tower model and exports it with its index."""
    config = from_dict(RetrievalConfig, fn_args.custom_config["model"])
    chosen = distribution(config.training, fn_args)
    run = Run(fn_args)

    def build() -> TwoTower:
        with precision(config.training):
            return build_two_tower(config, run.space, run.catalogue, run.text)

    with chosen.scope():
        model = build()
    batch_size = config.training.batch_size
    run.train(
        model,
        config.training,
        run.batches("train", batch_size, shuffle=True),
        run.batches("validation", 1024, shuffle=False),
    )
    save_retrieval(run, off_servers(run, model, build))


def off_servers(run: Run, model: AnyModel, build: Callable[[], AnyModel]) -> AnyModel:
    """The model as it is exported: one that was trained on parameter servers is built again, without them."""
    if not isinstance(model.distribute_strategy, tf.distribute.ParameterServerStrategy):
        return model
    model = build()
    restore(model, run.log_folder)
    return model


def save_retrieval(run: Run, model: TwoTower) -> None:
    """Exports the retrieval model with an index over the run's catalogue."""
    settings = from_dict(IndexConfig, run.settings["index"])
    index = searchable_index(model, run.catalogue, settings)
    serving = RetrievalServing(model, *run.serving_arguments(model), index=index, max_k=settings.max_k)
    export.save(serving, run.model_folder)


def restore(model: Model, folder: str) -> None:
    """Gives a model the weights of a training run."""
    checkpoint = tf.train.Checkpoint(model=model).read(os.path.join(folder, "weights"))
    checkpoint.expect_partial().assert_existing_objects_matched()


def searchable_index(model, catalogue: Catalogue, settings: IndexConfig) -> TopKIndex:
    """The catalogue's vectors in an index of the kind and recall that the configuration asks for."""
    return build_index(
        searchable(model, catalogue)[1:],
        kind=settings.kind,
        exact_up_to=settings.exact_up_to,
        recall_target=settings.recall_target,
    )


def run_ranking(fn_args) -> None:
    """Trains the ranking model and exports it beside a baseline: user and item biases, or how often
    items are chosen."""
    config = from_dict(RankingConfig, fn_args.custom_config["model"])
    chosen = distribution(config.training, fn_args)
    run = Run(fn_args)

    def build() -> Ranking:
        with precision(config.training):
            return build_ranking(config, run.space, run.catalogue, run.labels, text=run.text)

    with chosen.scope():
        model = build()
    implicit = "rating" not in run.labels
    train = run.batches("train", config.training.batch_size, shuffle=True)
    validation = run.batches("validation", 1024, shuffle=False)
    if implicit:
        train, validation = (data.map(WithNegatives(run.catalogue)) for data in (train, validation))
    run.train(model, config.training, train, validation)
    model = off_servers(run, model, build)
    if implicit:
        baseline = {"click_rate": np.asarray(run.catalogue.counts)}
    else:
        baseline = {"biases": rating_biases(run.batches("train", 4096, shuffle=False), run.space)}
    export.save(RankingServing(model, *run.serving_arguments(model), **baseline), run.model_folder)


class WithNegatives:
    """Adds to each interaction an item drawn uniformly, labelled as not chosen: clicks alone hold no "no"."""

    def __init__(self, catalogue: Catalogue):
        self.size = len(catalogue)

    def __call__(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        drawn = tf.random.uniform(tf.shape(batch["item_index"]), 1, self.size, tf.int32)
        negatives = {**batch, "item_index": drawn, "click": tf.zeros_like(batch["click"])}
        return {name: tf.concat([batch[name], negatives[name]], 0) for name in batch}


def rating_biases(
    batches: tf.data.Dataset, space: FeatureSpace, damping: float = 10.0
) -> dict[str, np.ndarray]:
    """Mean rating, and how far each item and each user lies from it (Koren 2010, damped means).

    Returns:
        `mean` float32 `[]`, `items` float32 `[num_items]`, `users` float32 `[num_users]`.
    """
    users, items, ratings = [], [], []
    for batch in batches:
        users.append(batch["user_index"].numpy())
        items.append(batch["item_index"].numpy())
        ratings.append(batch["rating"].numpy())
    user, item, rating = (np.concatenate(values) for values in (users, items, ratings))
    rated = ~np.isnan(rating)
    user, item, rating = user[rated], item[rated], rating[rated]
    mean = rating.mean(dtype=np.float64)

    def damped(rows: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
        return np.bincount(rows, values, size) / (np.bincount(rows, minlength=size) + damping)

    item_bias = damped(item, rating - mean, space.num_items)
    user_bias = damped(user, rating - mean - item_bias[item], space.num_users)
    return {
        "mean": np.float32(mean),
        "items": item_bias.astype(np.float32),
        "users": user_bias.astype(np.float32),
    }


def _end_to_end(name: str, parts: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Lists of items in batches, their values and lengths, as `Profiles` holds them: row 0 has none."""
    values, lengths = (np.concatenate(column) for column in zip(*parts, strict=True))
    splits = np.concatenate([[0, 0], np.cumsum(lengths)]).astype(np.int64)
    return {f"{name}_items": values.astype(np.int32), f"{name}_splits": splits}


def _missing(feature) -> tf.Tensor | tf.SparseTensor:
    """One Example without the feature."""
    if isinstance(feature, tf.io.FixedLenFeature):
        return tf.constant([""] if feature.dtype == tf.string else [0], feature.dtype)
    return tf.SparseTensor(tf.zeros([0, 2], tf.int64), tf.zeros([0], feature.dtype), [1, 0])


def _narrow(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int32) if values.dtype == np.int64 else values
