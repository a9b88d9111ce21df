"""IndexBuilder's callbacks: the items as they are now, served by the model as it was trained."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from pipeline.callbacks.recommender_builder import save_recommender
from pipeline.callbacks.run_data import RunData
from pipeline.callbacks.training import SETTINGS, save_retrieval, weights_of
from pipeline.config.trainer_settings import (
    IndexUpdateSettings,
    Inputs,
    RankingSettings,
    RetrievalSettings,
    read_settings,
    read_trained,
)
from pipeline.data.catalogue_reading import TOKENS, read_examples
from pipeline.data.refits import with_counts
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.features import columns as names
from tfrec_fusion.features.padding import stack, with_row_0
from tfrec_fusion.features.text_vectors import digest_rows, encode_items
from tfrec_fusion.layers.bulk_encoding import encode_tokens
from tfrec_fusion.models.build import build_ranking, build_two_tower
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.new_items import renewed
from tfrec_fusion.models.tower import TEXT
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.training.recipes import restore

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs

SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Renewed:
    """A retrieval model over the items as they are now.

    Attributes:
        data: what the model was trained on, offering the new catalogue.
        model: as it was trained.
        known: the catalogue that was trained on.
        report: counts of what is new and gone.
    """

    data: RunData
    model: TwoTower
    known: Catalogue
    report: dict


def build_retrieval(fn_args: FnArgs) -> None:
    """The retrieval model over the items as they are now."""
    given, inputs = read_settings(IndexUpdateSettings, fn_args.custom_config)
    renewal = _renew(given, inputs)
    save_retrieval(renewal.data, renewal.model, given.index, fn_args.serving_model_dir)
    _write(fn_args, renewal.report)


def build_recommender(fn_args: FnArgs) -> None:
    """The model that does it all over the items as they are now."""
    given, inputs = read_settings(IndexUpdateSettings, fn_args.custom_config)
    renewal = _renew(given, inputs)
    built = _read(os.path.join(inputs.recommender_run, "report.json"))
    trained: RankingSettings = _settings(inputs.ranking_run, "ranking")
    data = renewal.data
    ranking = build_ranking(trained.model, data.space, renewal.known, data.labels)
    restore(ranking, weights_of(inputs.ranking_run))
    save_recommender(
        data,
        renewal.model,
        ranking,
        built["head"],
        built["rank_weight"],
        given.index,
        fn_args.serving_model_dir,
    )
    _write(fn_args, renewal.report)


def _renew(given: IndexUpdateSettings, inputs: Inputs) -> Renewed:
    trained: RetrievalSettings = _settings(inputs.retrieval_run, "retrieval")
    data = RunData(trained, inputs)
    model = build_two_tower(trained.model, data.space, data.catalogue, trained.text)
    restore(model, weights_of(inputs.retrieval_run))
    known = with_counts(data.catalogue, inputs.retrieval_run)
    if model.item_text is not None:
        known = dataclasses.replace(known, text_vectors=model.item_tower.tables[TEXT].numpy())
    items = _read_items(data, inputs.new_items)
    _check(items, known, trained, given)
    vectors, encoded = _text_vectors(trained, model, items, known, given.text_cache)
    catalogue = renewed(known, dataclasses.replace(items, text_vectors=vectors))
    data.offer(catalogue)
    assert catalogue.model_index is not None  # `renewed` gives it
    offered = catalogue.model_index[1 : catalogue.offered + 1]
    report = {
        "offered": catalogue.offered,
        "new": int((offered == 0).sum()),
        "removed": len(catalogue) - 1 - catalogue.offered,
        "texts_encoded": encoded,
    }
    return Renewed(data, model, known, report)


def _settings(folder: str, kind: Literal["retrieval", "ranking"]) -> Any:
    """What a trainer wrote down of its run.

    Raises:
        ConfigError: for a run of another model, or of a version that wrote nothing down.
    """
    path = os.path.join(folder, SETTINGS)
    if not tf.io.gfile.exists(path):
        raise ConfigError(
            f"The {kind} model must come with the settings that it was trained with. Received: a run without"
            f" {SETTINGS} ({folder}), from an earlier release. Train again with `tfrec run`."
        )
    return read_trained(_read(path), kind, folder)


def _read_items(data: RunData, uri: str) -> Catalogue:
    """Raw Examples through the Transform that the model was trained with: values that it does not know become
    unknown."""
    graph = tft.TFTransformOutput(data.inputs.items_transform_graph)
    transform, spec = graph.transform_features_layer(), graph.raw_feature_spec()
    described = names.item_features(data.settings.tables)
    columns_read = [*(feature.name for feature in described), *TOKENS, "item_id", "title"]
    parts: dict[str, list[np.ndarray]] = {}
    for batch in read_examples(uri, "all", spec):
        values = transform(batch)
        for name in columns_read:
            if name in values:
                value = values[name]
                dense = tf.sparse.to_dense(value) if isinstance(value, tf.SparseTensor) else value
                parts.setdefault(name, []).append(dense.numpy())
    columns = {name: with_row_0(stack(arrays)) for name, arrays in parts.items()}
    size = len(columns["item_id"])
    integers = ("categorical", "categories")
    return Catalogue(
        ids=np.array(["", *(value.decode() for value in columns["item_id"][1:])], object),
        titles=np.array(["", *(value.decode() for value in columns["title"][1:])], object),
        features={
            feature.name: columns[feature.name].astype(np.int32 if feature.kind in integers else np.float32)
            for feature in described
        },
        text_vectors=None,
        counts=np.zeros(size, np.int64),
        text_tokens={name: columns[name].astype(np.int32) for name in TOKENS if name in columns} or None,
    )


def _check(
    items: Catalogue, known: Catalogue, trained: RetrievalSettings, given: IndexUpdateSettings
) -> None:
    """Refuses a catalogue that can hardly be meant."""
    gone = len(np.setdiff1d(known.ids[1:].astype(str), items.ids[1:].astype(str)))
    share = gone / max(1, len(known) - 1)
    if share > given.max_removed_share:
        raise ConfigError(
            f"At most {given.max_removed_share:.0%} of the items may leave the catalogue at once."
            f" Received: a table without {gone} of {len(known) - 1} ({share:.1%}). Is it whole, and are its"
            " ids those of the interactions? If so, raise `max_removed_share`."
        )
    has_text = np.zeros(len(items), bool)
    if trained.text is not None:
        has_text = np.asarray(_tokens(items)["attention_mask"].any(1))
        share = has_text[1:].mean()
        if share < given.min_text_share:
            columns = ", ".join(trained.tables.items.texts)
            raise ConfigError(
                f"`transform.min_text_share` ({given.min_text_share:.1%}) of the items must have a text"
                f" ({columns}). Received: {share:.1%}. Fill these columns."
            )
    says = has_text
    for values in items.features.values():
        says = says | (values.reshape(len(values), -1) != 0).any(1)
    silent = [str(item) for item in np.setdiff1d(items.ids[1:][~says[1:]].astype(str), known.ids.astype(str))]
    if silent:
        raise ConfigError(
            "A new item enters through its text and features, and must have one that the model knows."
            " Received: neither for"
            f" {', '.join(map(repr, silent[:SHOWN]))}{' and others' if len(silent) > SHOWN else ''}"
            f" ({len(silent)} items). Give them a text, or leave them out."
        )


def _tokens(catalogue: Catalogue) -> dict[str, np.ndarray]:
    """Tokens of a catalogue with text; its index is renewed from what the run's Examples hold."""
    assert catalogue.text_tokens is not None
    return catalogue.text_tokens


def _text_vectors(
    trained: RetrievalSettings, model: TwoTower, items: Catalogue, known: Catalogue, cache: str
) -> tuple[np.ndarray | None, int]:
    """Vectors as the model's own encoder makes them, those of unchanged texts as they were; and how many it
    had to make."""
    if trained.text is None:
        return None, 0
    rows = {str(item): row for row, item in enumerate(known.ids)}
    positions = np.array([rows.get(str(item), 0) for item in items.ids])
    old, new = (
        digest_rows(_tokens(catalogue)["input_ids"], _tokens(catalogue)["attention_mask"])
        for catalogue in (known, items)
    )
    same = (positions > 0) & (old[positions] == new)
    vectors = np.asarray(known.text_vectors)[positions]
    vectors[~same] = 0
    has_text = _tokens(items)["attention_mask"].any(1)
    missing = np.flatnonzero(~same & has_text)
    if not len(missing):
        return vectors, 0
    ids, mask = (_tokens(items)[name][missing] for name in TOKENS)
    if model.item_text is None:
        made, report = encode_items(ids, mask, trained.text, cache)
        vectors[missing] = made[1:]
        return vectors, report["encoded"]
    encoder = model.item_text.merged_encoder()
    batch = {"input_ids": ids, "attention_mask": mask}
    vectors[missing] = encode_tokens(encoder, batch, trained.text.batch_size)
    return vectors, len(missing)


def _read(path: str) -> dict:
    with tf.io.gfile.GFile(path) as stream:
        return json.load(stream)


def _write(fn_args: FnArgs, report: dict) -> None:
    files.write_json(os.path.join(fn_args.model_run_dir, "report.json"), report)
