"""`fit`: the training loop that notebooks and the pipeline share."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable

import tensorflow as tf
import tf_keras

from tfrec_fusion.config import TrainingConfig


def fit(
    model: tf_keras.Model,
    train: tf.data.Dataset,
    validation: tf.data.Dataset | None,
    config: TrainingConfig,
    folder: str | pathlib.Path | None = None,
    *,
    monitor: str = "loss",
    steps: int | None = None,
    tensorboard: bool = False,
    progress: bool | Callable[[dict], None] = True,
) -> tf_keras.callbacks.History:
    """Trains a model, and leaves in it the weights of the epoch with the best validation.

    A call that was killed goes on at the step its last checkpoint was made when it is repeated with the same `folder`.

    Args:
        model: an uncompiled `models.base.Model`, built in the scope of `strategy(config)`.
        train: batches (dicts of tensors) of one epoch, finite.
        validation: batches for early stopping; None trains for all epochs.
        config: how to train.
        folder: where checkpoints (and TensorBoard's logs) go; None keeps nothing.
        monitor: the validation metric that early stopping watches: `loss` falls, any other rises.
        steps: at most this many steps an epoch.
        tensorboard: whether to log for TensorBoard.
        progress: a progress bar, or nothing, or a function called with each epoch's logs.

    Returns:
        Keras's History: `.history` has a list per metric with a value per epoch.
    """
    model.compile(optimizer=build_optimizer(config), jit_compile=config.jit_compile, steps_per_execution=1)
    callbacks = []
    if validation is not None:
        callbacks.append(
            tf_keras.callbacks.EarlyStopping(
                f"val_{monitor}",
                mode="min" if monitor == "loss" else "max",
                patience=config.patience,
                restore_best_weights=True,
            )
        )
    if callable(progress):
        callbacks.append(
            tf_keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: progress({"epoch": epoch + 1, **logs})
            )
        )
    if folder is not None:
        callbacks.append(tf_keras.callbacks.BackupAndRestore(str(folder)))
    if tensorboard and folder is not None:
        callbacks.append(tf_keras.callbacks.TensorBoard(str(pathlib.Path(folder) / "tensorboard")))
    return model.fit(
        train,
        validation_data=validation,
        epochs=config.epochs,
        steps_per_epoch=steps,
        callbacks=callbacks,
        verbose=1 if progress is True else 0,
    )


def build_optimizer(config: TrainingConfig) -> tf_keras.optimizers.Optimizer:
    """Adam, or AdamW with `weight_decay`; with loss scaling under float16."""
    if config.weight_decay:
        optimizer = tf_keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay)
    else:
        optimizer = tf_keras.optimizers.Adam(config.learning_rate)
    if config.precision == "mixed_float16":
        optimizer = tf_keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer


@contextlib.contextmanager
def precision(config: TrainingConfig):
    """Sets the numeric precision that layers built inside compute in."""
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy(config.precision)
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)
