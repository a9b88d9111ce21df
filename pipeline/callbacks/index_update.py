"""IndexBuilder's callbacks: the items as they are now, served by the model as it was trained."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from pipeline.callbacks.recommender_builder import save_recommender
from pipeline.callbacks.training import SETTINGS, Run, restore, save_retrieval
from pipeline.data.catalogue_reading import TOKENS, read_examples
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError, RankingConfig, RetrievalConfig, from_dict
from tfrec_fusion.features import columns as names
from tfrec_fusion.features.padding import stack, with_row_0
from tfrec_fusion.features.text_vectors import MARKS, digest_rows, encode_items
from tfrec_fusion.layers.bulk_encoding import encode_tokens
from tfrec_fusion.models.build import build_ranking, build_two_tower
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.new_items import renewed
from tfrec_fusion.models.tower import TEXT
from tfrec_fusion.models.two_tower import TwoTower

SHOWN = 5


def build_retrieval(fn_args) -> None:
    """The retrieval model over the items as they are now."""
    run, model, _, report = _renew(fn_args)
    save_retrieval(run, model)
    _write(run, report)


def build_recommender(fn_args) -> None:
    """The model that does it all over the items as they are now."""
    run, model, known, report = _renew(fn_args)
    inputs = run.settings["inputs"]
    built = _read(os.path.join(inputs["recommender_run"], "report.json"))
    config = from_dict(RankingConfig, _settings(inputs["ranking_run"], "ranking")["model"])
    ranking = build_ranking(config, run.space, known, run.labels)
    restore(ranking, inputs["ranking_run"])
    save_recommender(run, model, ranking, built["head"], built["rank_weight"])
    _write(run, report)


def _renew(fn_args) -> tuple[Run, TwoTower, Catalogue, dict]:
    """The run, which offers the new catalogue; its retrieval model; the catalogue that was trained on;
    counts."""
    given = fn_args.custom_config
    trained = _settings(given["inputs"]["retrieval_run"], "retrieval")
    fn_args.custom_config = {**trained, **given}
    run = Run(fn_args)
    model = build_two_tower(from_dict(RetrievalConfig, trained["model"]), run.space, run.catalogue, run.text)
    restore(model, given["inputs"]["retrieval_run"])
    known = run.catalogue
    if model.item_text is not None:
        known = dataclasses.replace(known, text_vectors=model.item_tower.tables[TEXT].numpy())
    items = _read_items(run, given["inputs"]["new_items"])
    _check(items, known, run, given)
    vectors, encoded = _text_vectors(run, model, items, known, given["text_cache"])
    catalogue = renewed(known, dataclasses.replace(items, text_vectors=vectors))
    run.offer(catalogue)
    offered = catalogue.model_index[1 : catalogue.offered + 1]
    report = {
        "offered": catalogue.offered,
        "new": int((offered == 0).sum()),
        "removed": len(catalogue) - 1 - catalogue.offered,
        "texts_encoded": encoded,
    }
    return run, model, known, report


def _settings(folder: str, kind: str) -> dict:
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
    settings = _read(path)
    if settings["kind"] != kind:
        raise ConfigError(
            f"A run of the {kind} model is needed here. Received: one of the {settings['kind']} model"
            f" ({folder}), which has no index. Give the retrieval trainer's `model_run` as `retrieval_run`."
        )
    return settings


def _read_items(run: Run, uri: str) -> Catalogue:
    """Raw Examples through the Transform that the model was trained with: values it never met become
    unknown."""
    graph = tft.TFTransformOutput(run.settings["inputs"]["items_transform_graph"])
    transform, spec = graph.transform_features_layer(), graph.raw_feature_spec()
    described = names.item_features(run.tables)
    wanted = [*(feature.name for feature in described), *TOKENS, "item_id", "title"]
    parts: dict[str, list[np.ndarray]] = {}
    for batch in read_examples(uri, "all", spec):
        found = transform(batch)
        for name in wanted:
            if name in found:
                value = found[name]
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


def _check(items: Catalogue, known: Catalogue, run: Run, given: dict) -> None:
    """Refuses a catalogue that can hardly be meant."""
    gone = len(np.setdiff1d(known.ids[1:].astype(str), items.ids[1:].astype(str)))
    share = gone / max(1, len(known) - 1)
    if share > given["max_removed_share"]:
        raise ConfigError(
            f"At most {given['max_removed_share']:.0%} of the items may leave the catalogue at once."
            f" Received: a table without {gone} of {len(known) - 1} ({share:.1%}). Is it whole, and are its"
            " ids those of the interactions? If so, raise `max_removed_share`."
        )
    has_text = np.zeros(len(items), bool)
    if run.text is not None:
        has_text = items.text_tokens["attention_mask"].sum(1) > MARKS
        found = has_text[1:].mean()
        if found < given["min_text_share"]:
            columns = ", ".join(run.tables.items.text)
            raise ConfigError(
                f"`transform.min_text_share` ({given['min_text_share']:.1%}) of the items must have a text"
                f" ({columns}). Received: {found:.1%}. Fill these columns."
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


def _text_vectors(
    run: Run, model: TwoTower, items: Catalogue, known: Catalogue, cache: str
) -> tuple[np.ndarray | None, int]:
    """Vectors as the model's own encoder makes them, those of unchanged texts as they were; and how many it
    had to make."""
    if run.text is None:
        return None, 0
    rows = {str(item): row for row, item in enumerate(known.ids)}
    places = np.array([rows.get(str(item), 0) for item in items.ids])
    old, new = (
        digest_rows(catalogue.text_tokens["input_ids"], catalogue.text_tokens["attention_mask"])
        for catalogue in (known, items)
    )
    same = (places > 0) & (old[places] == new)
    vectors = np.asarray(known.text_vectors)[places]
    vectors[~same] = 0
    has_text = items.text_tokens["attention_mask"].sum(1) > MARKS
    missing = np.flatnonzero(~same & has_text)
    if not len(missing):
        return vectors, 0
    ids, mask = (items.text_tokens[name][missing] for name in TOKENS)
    if model.item_text is None:
        made, report = encode_items(ids, mask, run.text, cache)
        vectors[missing] = made[1:]
        return vectors, report["encoded"]
    encoder = model.item_text.merged_encoder()
    batch = {"input_ids": ids, "attention_mask": mask}
    vectors[missing] = encode_tokens(encoder, batch, run.text.batch_size)
    return vectors, len(missing)


def _read(path: str) -> dict:
    with tf.io.gfile.GFile(path) as stream:
        return json.load(stream)


def _write(run: Run, report: dict) -> None:
    files.write_json(os.path.join(run.log_folder, "report.json"), report)
