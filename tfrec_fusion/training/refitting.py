"""Refit of a judged model to all rows: what is served knows the newest ones, which chose and judged it.

Validation decided on settings, weights and the best epoch, and test on whether the model is good enough.
After that nothing is decided any more, and the rows of both are learned too. Towers and networks go on from
their trained weights, over all rows; what is solved beside them is solved again, as wide and weighed as
validation said. The judged model and the refitted one differ by that alone. A refit whose figures on
validation, which it has seen, are significantly below those of the judged model went wrong, and is not used.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
from typing import Any, Generic

import numpy as np
import tensorflow as tf

from tfrec_fusion.config import RankingConfig, RetrievalConfig, TrainingConfig
from tfrec_fusion.metrics.pointwise import log_losses
from tfrec_fusion.models.build import build_ranking, build_two_tower
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.hybrid.blend_fitting import HybridEstimator
from tfrec_fusion.models.hybrid.rating_fitting import RatingEstimator
from tfrec_fusion.models.next_items import NextItems
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.training.batches import only_chosen
from tfrec_fusion.training.fitting import fit, precision
from tfrec_fusion.training.negatives import WithNegatives
from tfrec_fusion.training.recipes import (
    VALIDATION_BATCH,
    AnyModel,
    Progress,
    Trained,
    TrainingData,
    disliked,
    is_rated,
)
from tfrec_fusion.training.sequences import Sequences

__all__ = ["Refit", "refit_ranking", "refit_retrieval"]

SPLITS = ("train", "validation", "test")
# Passes over all rows, and the share of the learning rate: on MovieLens 100K by time three passes, or a third
# of the rate, did no better (docs/explanation/training.md).
EPOCHS, RATE = 1, 1.0
STANDARD_ERRORS, CHECKED_BATCHES = 2.0, 10


@dataclasses.dataclass(frozen=True)
class Refit(Generic[AnyModel]):
    """A model fitted to all rows.

    Attributes:
        model: the refitted one, or the judged one where the refit went wrong.
        catalogue: the items, with counts of all rows.
        report: plain values: `used`, `rows`, how many it was fitted to, `judged` and `refitted`, their
            figures on validation by name, and where it was not used `reason`.
    """

    model: AnyModel
    catalogue: Catalogue
    report: dict[str, Any]


def refit_retrieval(
    trained: Trained[TwoTower],
    data: TrainingData,
    config: RetrievalConfig,
    *,
    distribution: tf.distribute.Strategy | None = None,
    checkpoints: str | pathlib.Path | None = None,
    progress: Progress = False,
) -> Refit[TwoTower]:
    """Fits a retrieval model to all rows.

    Args:
        trained: the judged model, which is left as it is.
        data: what it was trained on, with `users`; `batches` of `test` too.
        config: how it was trained.
        distribution, checkpoints, progress: as in `train_retrieval`.

    Raises:
        ValueError: if `data` has no users.
    """
    judged, sequences = trained.model, _sequences(data, trained.model)
    catalogue = dataclasses.replace(trained.catalogue, counts=sequences.counts(len(trained.catalogue)))
    with _scope(distribution), precision(config.training):
        model = build_two_tower(config, data.space, catalogue, data.text)
    own = (*model.item_tower.counted(), *(model.blend.weights if model.blend is not None else ()))
    _start(model, judged, own)
    training = _gentle(config.training)
    windows = sequences.windows(data.space.history_length, training.batch_size, training.seed)
    dislikes = disliked(data, config)
    if dislikes is not None:
        windows = dislikes.beside(windows)
    fit(model, windows, None, training, checkpoints, progress=progress, callbacks=())
    if model.blend is not None and judged.blend is not None:
        HybridEstimator().refit(model, judged.blend, sequences.matrix(len(catalogue)))
    again = judged.repeats is not None
    sample = NextItems.sample(_choices(data, "validation"), len(catalogue), repeats=again)
    figures = [_gains(each, sample) for each in (judged, model)]
    return _checked(trained, Refit(model, catalogue, {"rows": len(sequences)}), "ndcg_10", figures, 1)


def refit_ranking(
    trained: Trained[Ranking],
    data: TrainingData,
    config: RankingConfig,
    *,
    distribution: tf.distribute.Strategy | None = None,
    checkpoints: str | pathlib.Path | None = None,
    progress: Progress = False,
) -> Refit[Ranking]:
    """Fits a ranking model to all rows; arguments as in `refit_retrieval`, without `users`."""
    judged, catalogue = trained.model, trained.catalogue
    whole = [data.batches(split, VALIDATION_BATCH, None) for split in SPLITS]
    items = [batch["item_index"].numpy() for split in SPLITS for batch in _choices(data, split)]
    counts = np.bincount(np.concatenate(items), minlength=len(catalogue)).astype(np.int64)
    catalogue = dataclasses.replace(catalogue, counts=counts, reviews=catalogue.reviews_now)
    with _scope(distribution), precision(config.training):
        model = build_ranking(config, data.space, catalogue, data.labels, text=data.text)
    written = () if model.reviews is None else (model.reviews.table,)
    _start(model, judged, (*model.item_tower.counted(), *written))
    training = _gentle(config.training)
    # Splits differ in how much of a history they hold, and in what they say about it.
    names = set.intersection(*(set(part.element_spec) for part in whole))

    def alike(part: tf.data.Dataset) -> tf.data.Dataset:
        return part.map(lambda batch: {name: model.recent(batch)[name] for name in names})

    every = functools.reduce(tf.data.Dataset.concatenate, map(alike, whole))
    # Shuffled, a split gives whole batches alone.
    shuffled = [alike(data.batches(split, training.batch_size, training.seed)) for split in SPLITS]
    sizes = [float(sum(1 for _ in part)) for part in whole]
    mixed = tf.data.Dataset.sample_from_datasets(shuffled, sizes, training.seed)
    if not is_rated(data):
        mixed = mixed.map(WithNegatives(catalogue, data.labels))
    fit(model, lambda epoch: mixed, None, training, checkpoints, progress=progress, callbacks=())
    if model.rating_factors is not None and judged.rating_factors is not None:
        RatingEstimator().solve(model, every)
        model.rating_factors.weight.assign(judged.rating_factors.weight)
    model.set_ranges(every)
    validation = data.batches("validation", VALIDATION_BATCH, None).take(CHECKED_BATCHES)
    figures = [_errors(each, validation) for each in (judged, model)]
    report = {"rows": int(counts.sum())}
    return _checked(trained, Refit(model, catalogue, report), "error", figures, -1)


def _errors(model: Ranking, validation: tf.data.Dataset) -> np.ndarray:
    """Of each row the squared errors of ratings and the log losses of the other labels, added up."""
    ask, found = tf.function(model.call, autograph=False, reduce_retracing=True), [np.zeros(0)]
    for batch in validation:
        total = np.zeros(len(batch["item_index"]))
        for name, values in ask(batch).items():
            labels = np.asarray(batch[name], np.float64)
            if model.labels[name] == "rating":
                errors = (values.numpy() - labels) ** 2
            else:
                errors = log_losses(labels, values.numpy())
            total += np.where(np.isnan(labels), 0.0, errors)
        found.append(total)
    return np.concatenate(found)


def _sequences(data: TrainingData, model: TwoTower) -> Sequences:
    if data.users is None:
        raise ValueError(
            "`data` must have `users` for a refit to all rows. Received: None. Give their profiles, or set"
            " `training.refit: false`."
        )
    context = {feature.name for feature in model.query_features} - set(data.users.features)
    batches = (batch for split in SPLITS for batch in _choices(data, split))
    dislikes = "chosen" in data.batches("train", VALIDATION_BATCH, None).element_spec
    return Sequences.read(data.users, sorted(context), batches, dislikes, model.repeats is not None)


def _choices(data: TrainingData, split: str) -> tf.data.Dataset:
    """Batches of a split without what was only shown."""
    return only_chosen(data.batches(split, VALIDATION_BATCH, shuffle=None), VALIDATION_BATCH)


def _start(model: Any, judged: Any, own: tuple) -> None:
    """Takes over what was trained, all but a model's `own` weights."""
    # Keras lists what is trainable first: the encoder was, in the judged model, and is not in a refit.
    if model.item_text is not None:
        model.item_text.trainable = judged.item_text.trainable
    for weight, source in zip(model.weights, judged.weights, strict=True):
        if not any(weight is one for one in own):
            weight.assign(source)
    if model.item_text is not None:
        model.item_text.trainable = False


def _gentle(training: TrainingConfig) -> TrainingConfig:
    return dataclasses.replace(training, epochs=EPOCHS, learning_rate=RATE * training.learning_rate)


def _scope(distribution: tf.distribute.Strategy | None) -> Any:
    return (distribution or tf.distribute.get_strategy()).scope()


def _gains(model: TwoTower, sample: NextItems) -> np.ndarray:
    """NDCG at 10 of each choice among the whole catalogue, by the whole model."""
    if not len(sample):
        return np.zeros(0)
    vectors = tf.constant(model.candidate_embeddings())
    every = np.arange(len(vectors)) > 0
    asked = functools.partial(model.query_embeddings, items=vectors)
    return sample.gains(asked, vectors.numpy(), every, model.repeats)


def _checked(
    trained: Trained[AnyModel], refit: Refit[AnyModel], name: str, figures: list[np.ndarray], sign: int
) -> Refit[AnyModel]:
    """The refit with its report; the judged model where the refit is significantly worse on validation.

    Args:
        trained: the judged model.
        refit: the refitted one.
        name: of the figure.
        figures: of each choice, float `[n]`, by the judged and by the refitted model.
        sign: 1 where more is better, else -1.
    """
    judged, refitted = figures
    report = {**refit.report, "used": True}
    if len(judged):
        means = {"judged": {name: float(judged.mean())}, "refitted": {name: float(refitted.mean())}}
        gained = sign * (refitted - judged)
        error = float(gained.std()) / math.sqrt(len(gained))
        report |= means
        if not gained.mean() >= -STANDARD_ERRORS * error:
            reason = (
                f"val_{name} {refitted.mean():.4f} after the refit, significantly worse than"
                f" {judged.mean():.4f} before, of rows that it has seen"
            )
            return Refit(trained.model, trained.catalogue, report | {"used": False, "reason": reason})
    return dataclasses.replace(refit, report=report)
