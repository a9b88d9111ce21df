"""Private training of a model: the noise found, the steps taken, and what they spent."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.config import ConfigError, LabelKind, TrainingConfig
from tfrec_fusion.files import write_json
from tfrec_fusion.models.base import Model
from tfrec_fusion.training.batches import read_columns
from tfrec_fusion.training.fitting import fit
from tfrec_fusion.training.history import History
from tfrec_fusion.training.privacy.accounting import Mechanism, epsilon_of, noise_for
from tfrec_fusion.training.privacy.gradients import NoisySteps
from tfrec_fusion.training.privacy.report import PrivacyReport
from tfrec_fusion.training.privacy.user_batches import UserBatches

__all__ = ["fit_private", "rating_range"]

MECHANISM = "mechanism.json"
MOST_BYTES = 2**33
"""Of rows that are held in memory: users are drawn from all of them."""


def fit_private(
    model: Model,
    train: tf.data.Dataset,
    config: TrainingConfig,
    folder: str | pathlib.Path | None = None,
    *,
    prepare: Callable[[dict[str, tf.Tensor]], Mapping[str, tf.Tensor]] | None = None,
    **options: Any,
) -> tuple[History, PrivacyReport]:
    """Trains a model by clipped and noisy gradients of users.

    There is no validation: all epochs are trained, and the last weights stay. An epoch has as many steps as
    it takes for every user to be expected once.

    Args:
        model: built with the same `config`.
        train: all rows, once, in batches of any size; with `user_index`.
        config: how to train, with `privacy`; `batch_size` counts users.
        folder: as in `fit`.
        prepare: makes of one user's rows what the loss is asked with.
        **options: `tensorboard` and `progress` of `fit`.

    Returns:
        What training went through, and what it spent.

    Raises:
        ConfigError: if δ is too large for the number of users, the model holds layers that read several
            users at once, rows do not fit into memory, nobody is named, or `folder` holds steps of another
            mechanism.
    """
    privacy = config.privacy
    assert privacy is not None  # nobody asks otherwise
    _check_layers(model)
    columns = read_columns(train, MOST_BYTES)
    if columns is None:
        raise ConfigError(
            f"`training.privacy` draws users from rows in memory, at most {MOST_BYTES / 2**30:.0f} GiB of"
            " them. Received: more. Lower `split.history_length`, or train on a share of the users."
        )
    users = UserBatches(columns, config.batch_size, privacy.user_rows, privacy.seed)
    delta = _delta(privacy.delta, users.num_users)
    planned = users.steps * config.epochs
    if privacy.noise_multiplier is None:
        assert privacy.epsilon is not None  # one of the two is given
        noise = noise_for(privacy.epsilon, delta, users.sampling_rate, planned, privacy.accountant)
    else:
        noise = privacy.noise_multiplier
    if folder is not None:
        mechanism = {
            **dataclasses.asdict(Mechanism(users.sampling_rate, noise, planned)),
            "clip": privacy.clip,
        }
        _same_mechanism(pathlib.Path(folder), {**mechanism, "users": users.num_users})
    model.private_step = NoisySteps(privacy.clip, noise, users.expected_users, privacy.seed, prepare)
    # Nothing is validated, so that nothing may end it early.
    config = dataclasses.replace(config, patience=max(1, config.patience), average=False)
    try:
        history = fit(model, users.epoch, None, config, folder, callbacks=(), **options)
    finally:
        model.private_step = None
    steps = users.steps * history.epochs
    spent = epsilon_of([Mechanism(users.sampling_rate, noise, steps)], delta, privacy.accountant)
    return history, PrivacyReport(
        epsilon=spent,
        delta=delta,
        noise_multiplier=noise,
        clip=privacy.clip,
        sampling_rate=users.sampling_rate,
        steps=steps,
        users=users.num_users,
        user_rows=privacy.user_rows,
        accountant=privacy.accountant,
        seeded=privacy.seed is not None,
    )


def rating_range(config: TrainingConfig, labels: Mapping[str, LabelKind]) -> tuple[float, float] | None:
    """The lowest and the highest rating of a private ranking model; None where no label is a rating.

    Raises:
        ConfigError: if a label is a rating and the settings do not say.
    """
    if "rating" not in labels.values():
        return None
    assert config.privacy is not None  # nobody asks otherwise
    if not config.privacy.rating_range:
        raise ConfigError(
            "`ranking.training.privacy.rating_range` must say the lowest and the highest rating: those of the"
            " data would tell of users. Received: nothing. Give for example [1, 5]."
        )
    low, high = config.privacy.rating_range
    return low, high


def _delta(given: float | None, users: int) -> float:
    if given is None:
        return 10.0 ** -math.ceil(math.log10(10 * users))
    if given >= 1 / users:
        raise ConfigError(
            f"`privacy.delta` must be below one over the number of users (1 / {users:,} = {1 / users:.3g}):"
            f" else publishing a user's rows could count as private. Received: {given:g}. Lower it, or leave"
            " it out to have it chosen."
        )
    return given


def _same_mechanism(folder: pathlib.Path, mechanism: dict[str, float]) -> None:
    """Writes down how noisy a folder's steps are, and refuses to go on from others: no ε would be of both."""
    path = folder / MECHANISM
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before != json.loads(json.dumps(mechanism)):
            raise ConfigError(
                "`checkpoints` must be new or hold steps of the same mechanism. Received:"
                f" {folder}, whose steps had {before}, and now {mechanism}: other users or settings. Choose"
                " another folder, or delete this one to train anew."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, mechanism)


def _check_layers(model: Model) -> None:
    mixing = [
        layer.name for layer in model.submodules if isinstance(layer, tf_keras.layers.BatchNormalization)
    ]
    if mixing:
        raise ConfigError(
            "Layers of a private model must not read several users at once. Received: batch normalisation"
            f" ({', '.join(mixing)}), whose means are kept without noise. Use layer normalisation."
        )
