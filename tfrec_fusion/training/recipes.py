"""Both models from data and settings: built, trained, and what is solved beside them fitted.

The pipeline's trainers and everybody who trains in memory call the same two functions, `train_retrieval` and
`train_ranking`, so that equal data, settings and seeds give equal models.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import tensorflow as tf

from tfrec_fusion.config import (
    CLICK,
    RATING,
    ConfigError,
    FeatureSpace,
    LabelKind,
    RankingConfig,
    RetrievalConfig,
    TextConfig,
    TrainingConfig,
)
from tfrec_fusion.config.pretrained import PretrainedTower, check_encoder, check_start
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.build import build_ranking, build_text_encoder, build_two_tower
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.dislikes import Dislikes
from tfrec_fusion.models.pretraining import start_from_pretrained
from tfrec_fusion.models.private_parts import uniform_counts
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.models.rating_biases import rating_biases
from tfrec_fusion.models.tower import TEXT
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.models.user_profiles import Profiles
from tfrec_fusion.training.batches import only_chosen, only_disliked
from tfrec_fusion.training.fitting import fit, fit_staged, precision, strategy
from tfrec_fusion.training.history import History
from tfrec_fusion.training.negatives import WithNegatives
from tfrec_fusion.training.privacy.fitting import fit_private, rating_range
from tfrec_fusion.training.privacy.report import PrivacyReport
from tfrec_fusion.training.solved_parts import SolvedParts

__all__ = [
    "Batches",
    "Trained",
    "TrainingData",
    "begin",
    "check_given",
    "continue_ranking",
    "continue_retrieval",
    "is_rated",
    "ranking_baseline",
    "restore",
    "train_ranking",
    "train_retrieval",
]

VALIDATION_BATCH = 1024
READ_AT_ONCE = 4096

AnyModel = TypeVar("AnyModel", bound=Model)
Progress = bool | Callable[[dict[str, float]], None]


class Batches(Protocol):
    """Where batches come from: a function of the split's name, the batch size and a seed to shuffle by."""

    def __call__(self, split: str, batch_size: int, shuffle: int | None) -> tf.data.Dataset:
        """Batches of `train` or `validation`, dicts of tensors by name, as the models take them; in order
        where `shuffle` is None, as in `batches.batches`."""
        ...


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What a model is trained on.

    Attributes:
        space: sizes of ids and features.
        catalogue: the items, with `text_vectors` where `space.text_dim` is set.
        batches: of `train` and `validation`; asked for after the model is built, so that shuffling follows
            the model's seed.
        labels: label name → its kind, for the ranking model; without a `rating` it learns clicks against
            uniform negatives.
        text: how the text encoder is trained; None without text.
        users: with all that they chose, for a refit to all rows, whose `batches` are asked for `test` too.
    """

    space: FeatureSpace
    catalogue: Catalogue
    batches: Batches
    labels: Mapping[str, LabelKind] = dataclasses.field(default_factory=lambda: {"click": "binary"})
    text: TextConfig | None = None
    users: Profiles | None = None


@dataclasses.dataclass(frozen=True)
class Trained(Generic[AnyModel]):
    """A trained model.

    Attributes:
        model: with its best weights, what is solved beside them fitted and weighed.
        history: what training went through.
        catalogue: the items that the model was trained on, with text vectors as the model learned them.
        privacy: what private training spent; None where training was not private.
        start: what it started from, where that was trained on other domains.
    """

    model: AnyModel
    history: History
    catalogue: Catalogue
    privacy: PrivacyReport | None = None
    start: PretrainedTower | None = None


def train_retrieval(
    data: TrainingData,
    config: RetrievalConfig,
    *,
    distribution: tf.distribute.Strategy | None = None,
    checkpoints: str | pathlib.Path | None = None,
    weights: str | None = None,
    tensorboard: str | None = None,
    progress: Progress = False,
) -> Trained[TwoTower]:
    """Trains the two-tower model with its blend.

    Args:
        data: what to train on.
        config: the model and its training.
        distribution: `training.strategy(config.training)`, where it was made before; it must precede
            everything else that TensorFlow does.
        checkpoints: folder that lets a killed run go on at its step; None keeps nothing.
        weights: where the trained weights are written (`restore` reads them); needed under
            `parameter_server`, None writes none.
        tensorboard, progress: as in `fit`.

    Raises:
        ConfigError: if `config.warm_start` does not fit, or names no folder of `tfrec pretrain`.
    """

    def build() -> TwoTower:
        with precision(config.training):
            return build_two_tower(config, data.space, data.catalogue, data.text)

    chosen = distribution or strategy(config.training)
    with chosen.scope():
        model = build()
        found = begin(model, config, data.text)
    size = config.training.batch_size
    watching: dict[str, Any] = {"progress": progress, "tensorboard": tensorboard}
    if config.training.privacy is not None:
        rows = only_chosen(data.batches("train", READ_AT_ONCE, shuffle=None), READ_AT_ONCE)
        history, spent = fit_private(model, rows, config.training, checkpoints, **watching)
        return dataclasses.replace(_trained(model, build, history, data, weights, spent), start=found)
    train = only_chosen(data.batches("train", size, shuffle=config.training.seed), size)
    model.dislikes = disliked(data, config)
    validation = data.batches("validation", VALIDATION_BATCH, shuffle=None)
    validation = only_chosen(validation, VALIDATION_BATCH)
    history = fit_staged(
        model,
        train,
        validation,
        config.training,
        data.text,
        checkpoints,
        **watching,
        judge_start=found is not None,
    )
    return dataclasses.replace(_trained(model, build, history, data, weights), start=found)


def begin(model: TwoTower, config: RetrievalConfig, text: TextConfig | None) -> PretrainedTower | None:
    """Gives a new model what it starts from, where `config.warm_start` names such.

    Args:
        model: as it was built.
        config: what it was built from.
        text: its text tower.

    Returns:
        What the folder was made from; None where the model starts anew.

    Raises:
        ConfigError: if that was made with other settings or another text encoder.
    """
    found = check_start(config, text, model.history_length or 0)
    if found is not None and text is not None:
        vectors = model.item_tower.tables[TEXT]
        check_encoder(found, text, build_text_encoder(text.pretrained()).digest(), int(vectors.shape[1]))
        start_from_pretrained(model, str(config.warm_start), found)
    return found


def disliked(data: TrainingData, config: RetrievalConfig) -> Dislikes | None:
    """What training knows of dislikes, where they count.

    Raises:
        ConfigError: if they are to count and the tables name none.
    """
    if not config.dislike_weight:
        return None
    # A quarter as many a step as choices: there are fewer of them.
    size = max(1, config.training.batch_size // 4)
    rows = only_disliked(data.batches("train", config.training.batch_size, config.training.seed), size)
    if rows is None:
        raise ConfigError(
            "`retrieval.dislike_weight` needs rows that are dislikes. Received:"
            f" {config.dislike_weight:g}, and tables without. Set `data.interactions.dislikes_below`, or"
            " leave it out."
        )
    return Dislikes(rows)


def continue_retrieval(
    data: TrainingData,
    config: RetrievalConfig,
    start: Callable[[TwoTower], None],
    recent: TrainingData,
    *,
    progress: Progress = False,
) -> Trained[TwoTower]:
    """Trains a two-tower model further from what an earlier one learned.

    Args:
        data: everything that is known now; what is solved beside the towers is solved from all of it.
        config: the model as it was built before, and how to train now.
        start: gives the new model its first weights (`warm_starting.warm_start`).
        recent: the same with batches of `train` that the towers are trained on: what is new, and some of what
            is old. Of it come the dislikes too.
        progress: as in `fit`.
    """

    def build() -> TwoTower:
        with precision(config.training):
            return build_two_tower(config, data.space, data.catalogue, data.text)

    with strategy(config.training).scope():
        model = build()
    start(model)
    size, seed = config.training.batch_size, config.training.seed
    model.dislikes = disliked(recent, config)
    validation = only_chosen(data.batches("validation", VALIDATION_BATCH, shuffle=None), VALIDATION_BATCH)
    train = only_chosen(recent.batches("train", size, shuffle=seed), size)
    history = fit(model, train, validation, config.training, progress=progress, callbacks=())
    SolvedParts().on_train_end(
        model, only_chosen(data.batches("train", size, shuffle=seed), size), validation
    )
    return _trained(model, build, history, data, None)


def continue_ranking(
    data: TrainingData,
    config: RankingConfig,
    start: Callable[[Ranking], None],
    recent: TrainingData,
    *,
    progress: Progress = False,
) -> Trained[Ranking]:
    """Trains a ranking model further from what an earlier one learned; arguments as in
    `continue_retrieval`. Rating factors and the ends of ratings are those of all rows."""

    def build() -> Ranking:
        with precision(config.training):
            return build_ranking(config, data.space, data.catalogue, data.labels, text=data.text)

    with strategy(config.training).scope():
        model = build()
    start(model)
    size, seed = config.training.batch_size, config.training.seed
    parts = [
        recent.batches("train", size, shuffle=seed),
        data.batches("validation", VALIDATION_BATCH, shuffle=None),
        data.batches("train", size, shuffle=seed),
    ]
    if not is_rated(data):
        parts = [part.map(WithNegatives(data.catalogue, data.labels)) for part in parts]
    train, validation, whole = parts
    history = fit(model, train, validation, config.training, progress=progress, callbacks=())
    SolvedParts().on_train_end(model, whole, validation)
    return _trained(model, build, history, data, None)


def train_ranking(
    data: TrainingData,
    config: RankingConfig,
    *,
    distribution: tf.distribute.Strategy | None = None,
    checkpoints: str | pathlib.Path | None = None,
    weights: str | None = None,
    tensorboard: str | None = None,
    progress: Progress = False,
) -> Trained[Ranking]:
    """Trains the ranking model with its rating factors; arguments as in `train_retrieval`."""

    def build() -> Ranking:
        with precision(config.training):
            return build_ranking(config, data.space, data.catalogue, data.labels, text=data.text)

    chosen = distribution or strategy(config.training)
    with chosen.scope():
        model = build()
    check_given(data, config)
    watching = {"progress": progress, "tensorboard": tensorboard}
    if config.training.privacy is not None:
        history, spent = _fit_private_ranking(model, data, config, checkpoints, watching)
        return _trained(model, build, history, data, weights, spent)
    train = data.batches("train", config.training.batch_size, shuffle=config.training.seed)
    validation = data.batches("validation", VALIDATION_BATCH, shuffle=None)
    if not is_rated(data):
        train, validation = (
            part.map(WithNegatives(data.catalogue, data.labels)) for part in (train, validation)
        )
    history = fit_staged(
        model,
        train,
        validation,
        config.training,
        data.text,
        checkpoints,
        **watching,
    )
    return _trained(model, build, history, data, weights)


def _fit_private_ranking(
    model: Ranking,
    data: TrainingData,
    config: RankingConfig,
    checkpoints: str | pathlib.Path | None,
    watching: Mapping[str, Any],
) -> tuple[History, PrivacyReport]:
    ends = rating_range(config.training, data.labels)
    if ends is not None:
        for name in model.ranges:
            model.ranges[name].assign(ends)
        model.start_ratings(sum(ends) / 2)
    prepare = None if is_rated(data) else WithNegatives(data.catalogue, data.labels)
    rows = data.batches("train", READ_AT_ONCE, shuffle=None)
    return fit_private(model, rows, config.training, checkpoints, prepare=prepare, **watching)


def ranking_baseline(data: TrainingData, training: TrainingConfig | None = None) -> dict[str, Any]:
    """What a ranking model is served beside, as `RankingSignatures` takes it: `biases` of ratings, or the
    items' `click_rate`.

    Args:
        data: what the model was trained on.
        training: how; where it was private, the baseline is made without an interaction: the middle of the
            range of ratings, or an equal rate for every item.
    """
    private = training is not None and training.privacy is not None
    if not is_rated(data):
        catalogue = uniform_counts(data.catalogue) if private else data.catalogue
        return {"click_rate": np.asarray(catalogue.counts)}
    if training is not None and private:
        low, high = rating_range(training, data.labels) or (0.0, 0.0)
        zeros = {"items": data.space.num_items, "users": data.space.num_users}
        biases = {name: np.zeros(size, np.float32) for name, size in zeros.items()}
        return {"biases": {"mean": np.float32((low + high) / 2), **biases}}
    train = data.batches("train", 4096, shuffle=None)
    return {"biases": rating_biases(train, data.space.num_users, data.space.num_items)}


def restore(model: Model, weights: str) -> None:
    """Gives a model the weights that training wrote.

    Args:
        model: built with the same settings and data.
        weights: what training was given as `weights`.

    Raises:
        ConfigError: for weights of another model, such as an earlier version built.
    """
    try:
        checkpoint = tf.train.Checkpoint(model=model).read(weights)
        checkpoint.expect_partial().assert_existing_objects_matched()
    except (AssertionError, ValueError) as error:
        raise ConfigError(
            "Weights must be of a model as these settings and this version build it. Received: those in"
            f" {weights}, which do not fit. Train anew, with `tfrec run`."
        ) from error


def is_rated(data: TrainingData) -> bool:
    """Whether a ranking model learns ratings, and not clicks alone."""
    return RATING in data.labels


def check_given(data: TrainingData, config: RankingConfig) -> None:
    """Looks for what further labels are learned from.

    Raises:
        ConfigError: if a label has no values in training, or a binary one not both, or if there are
            conversions and nothing was shown beside what was chosen.
    """
    further = [label for label in data.labels if label not in (CLICK, RATING)]
    if not further:
        return
    batches = data.batches("train", VALIDATION_BATCH, shuffle=None)
    if config.conversions and "chosen" not in batches.element_spec:
        raise ConfigError(
            "`ranking.conversions` needs rows that were shown and not chosen. Received:"
            f" {', '.join(config.conversions)}, and tables without. Describe `data.impressions` or"
            " `data.interactions.outcomes`, or leave it out."
        )
    known, total = (dict.fromkeys(further, 0.0) for _ in range(2))
    for batch in batches.map(lambda batch: {label: batch[label] for label in further}).as_numpy_iterator():
        for label, values in batch.items():
            known[label] += float((~np.isnan(values)).sum())
            total[label] += float(np.nansum(values))
    for label in further:
        binary = data.labels[label] == "binary"
        if not known[label] or (binary and not 0 < total[label] < known[label]):
            seen = f"{known[label]:,.0f} values" + (f", {total[label]:,.0f} of them a yes" if binary else "")
            raise ConfigError(
                f"The label `{label}` must have {'both yes and no' if binary else 'values'} in training."
                f" Received: {seen}. Look at its column"
                f"{' and `threshold`' if binary else ''} in `data.interactions.labels`, or leave it out."
            )


def _trained(
    model: AnyModel,
    build: Callable[[], AnyModel],
    history: History,
    data: TrainingData,
    weights: str | None,
    privacy: PrivacyReport | None = None,
) -> Trained[AnyModel]:
    catalogue = data.catalogue if privacy is None else uniform_counts(data.catalogue)
    if model.item_text is not None:
        catalogue = dataclasses.replace(catalogue, text_vectors=model.item_tower.tables[TEXT].numpy())
    if weights is not None:
        tf.train.Checkpoint(model=model).write(weights)
    if isinstance(model.distribute_strategy, tf.distribute.ParameterServerStrategy):
        # What is exported or asked must not stand on servers: it is built again, without them.
        if weights is None:
            raise ValueError(
                "`weights` must name a file under `strategy: parameter_server`, from which the model is"
                " built again without servers. Received: None. Give a path that all processes read."
            )
        model = build()
        restore(model, weights)
    return Trained(model, history, catalogue, privacy)
