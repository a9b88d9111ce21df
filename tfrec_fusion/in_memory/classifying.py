"""Fitted classifier: read, trained, judged, exported and kept."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.config import ConfigError, SplitConfig, TextConfig, from_dict
from tfrec_fusion.config.classifier import ClassifierConfig
from tfrec_fusion.datasets.tables import IdRule, Tables
from tfrec_fusion.export.base import concrete, graph, save
from tfrec_fusion.export.classifying import ClassifierSignatures
from tfrec_fusion.export.parts import text_tower
from tfrec_fusion.features.labelled_texts import read_labelled
from tfrec_fusion.files import whole_folder, write_json
from tfrec_fusion.training.classifying import (
    Judgement,
    build_classifier,
    judge,
    probabilities,
    train_classifier,
)

__all__ = ["FittedClassifier", "fit_classifier", "load_classifier", "save_classifier"]

SETTINGS, ARRAYS, WEIGHTS = "classifier.json", "arrays.npz", "weights"


@dataclasses.dataclass(frozen=True, eq=False)
class FittedClassifier:
    """A classifier, and what it is worth.

    Attributes:
        model: a `BertRecommender` on text vectors.
        config, text: how it was made.
        users, items, item_vectors, trained: as in `LabelledTexts`.
        text_dim: length of a text vector.
        judgement: on test.
        left_out: reason → rows that could not be used.
        id_rules: as in `LabelledTexts`.
    """

    model: Any
    config: ClassifierConfig
    text: TextConfig
    users: np.ndarray
    items: np.ndarray
    item_vectors: np.ndarray | None
    trained: np.ndarray
    text_dim: int
    judgement: Judgement
    left_out: dict[str, int]
    id_rules: tuple[IdRule, IdRule] = ("as_written", "as_written")
    _made: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    def signatures(self) -> ClassifierSignatures:
        """What is served, made when it is first asked for."""
        if "serving" not in self._made:
            self._made["serving"] = ClassifierSignatures(
                self.model,
                self.judgement.classes,
                self.users,
                self.items,
                text_tower(self.text),
                self.item_vectors,
                self.trained,
                self.config.dim > 0,
            )
        return self._made["serving"]

    def classify(self, user_ids: list[str], item_ids: list[str], texts: list[str]) -> dict[str, np.ndarray]:
        """Asks the signature `classify`."""
        if "classify" not in self._made:
            spec = {name: tf.TensorSpec([None], tf.string, name) for name in ("user_id", "item_id", "text")}
            self._made["classify"] = concrete(graph(self.signatures().classify), **spec)
        given = {"user_id": user_ids, "item_id": item_ids, "text": texts}
        asked = {name: tf.constant(values, tf.string) for name, values in given.items()}
        return {name: values.numpy() for name, values in self._made["classify"](**asked).items()}

    def export(self, folder: str) -> None:
        """Writes the SavedModel."""
        save(self.signatures(), folder)

    def to_json(self) -> dict[str, Any]:
        """The judgement in plain values, with what was left out."""
        plain = dataclasses.asdict(self.judgement)
        return {
            "label": self.config.label,
            "reads": self.config.text,
            **plain,
            "blessed": self.judgement.blessed,
            "left_out": self.left_out,
        }


def fit_classifier(
    tables: Tables,
    config: ClassifierConfig,
    split: SplitConfig,
    text: TextConfig | None,
    vectors: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: bool | Callable[[dict[str, float]], None] = False,
) -> FittedClassifier:
    """Reads, trains and judges.

    Args:
        tables, config, split, text, vectors: as in `read_labelled`.
        say: is told of each step.
        progress: as in `fit`.

    Raises:
        ConfigError: for columns that hold no classes or no texts.
    """
    data = read_labelled(tables, config, split, text, vectors)
    assert text is not None  # `read_labelled` asks for it
    sizes = ", ".join(f"{len(part['label']):,} {name}" for name, part in data.parts.items())
    say(f"{len(data.classes)} classes ({', '.join(data.classes[:8])}); rows: {sizes}")
    counts = len(data.users), len(data.items), len(data.classes)
    model = train_classifier(data.parts, config, *counts, progress=progress)
    answers = probabilities(model, data.parts["test"], config)
    judged = judge(answers, data.parts, data.owners["test"], data.classes, config)
    width = int(data.parts["train"]["text"].shape[1])
    vectors_of = data.item_vectors, data.trained, width
    known = data.users, data.items, *vectors_of
    return FittedClassifier(model, config, text, *known, judged, data.left_out, data.id_rules)


def save_classifier(
    fitted: FittedClassifier, folder: str | os.PathLike[str], more: Mapping[str, Any] | None = None
) -> None:
    """Writes a fitted classifier; the folder appears whole.

    Args:
        fitted: what is written.
        folder: made, or replaced.
        more: plain values that `load_classifier` gives back.
    """
    settings = {
        "config": dataclasses.asdict(fitted.config),
        "text": dataclasses.asdict(fitted.text),
        "users": fitted.users.tolist(),
        "items": fitted.items.tolist(),
        "judgement": dataclasses.asdict(fitted.judgement),
        "left_out": fitted.left_out,
        "text_dim": fitted.text_dim,
        "id_rules": fitted.id_rules,
        "more": dict(more or {}),
    }
    arrays = {"trained": fitted.trained}
    if fitted.item_vectors is not None:
        arrays["item_vectors"] = fitted.item_vectors
    with whole_folder(pathlib.Path(folder), replace=True) as staging:
        write_json(staging / SETTINGS, settings)
        np.savez(staging / ARRAYS, **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
        tf.train.Checkpoint(model=fitted.model).write(str(staging / WEIGHTS))


def load_classifier(folder: str | os.PathLike[str]) -> tuple[FittedClassifier, dict[str, Any]]:
    """Reads what `save_classifier` wrote, and the values that were kept with it.

    Raises:
        ConfigError: for another folder.
    """
    path = pathlib.Path(folder)
    if not (path / SETTINGS).is_file():
        raise ConfigError(
            f"The folder must be one that `Classifier.save` wrote. Received: {str(folder)!r}, without"
            f" {SETTINGS}."
        )
    kept = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
    with np.load(path / ARRAYS) as archive:
        arrays = {name: archive[name] for name in archive.files}
    config, text = from_dict(ClassifierConfig, kept["config"]), from_dict(TextConfig, kept["text"])
    users, items = (np.array(kept[name], object) for name in ("users", "items"))
    judged = Judgement(**{**kept["judgement"], "classes": tuple(kept["judgement"]["classes"]),
                          "reasons": tuple(kept["judgement"]["reasons"])})  # fmt: skip
    model = build_classifier(config, len(users), len(items), len(judged.classes), kept["text_dim"])
    found = tf.train.Checkpoint(model=model).read(str(path / WEIGHTS))
    found.expect_partial().assert_existing_objects_matched()
    vectors_of = arrays.get("item_vectors"), arrays["trained"], kept["text_dim"]
    rest = judged, kept["left_out"], tuple(kept["id_rules"])
    return FittedClassifier(model, config, text, users, items, *vectors_of, *rest), kept["more"]
