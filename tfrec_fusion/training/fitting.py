"""`fit`: the training loop that notebooks and the pipeline share.

A loop of its own, not Keras's, because a run must go on at the step at which it was killed, with the order of
the data that it would have had, and because a model may choose each epoch's examples (`Model.epochs`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.config import TextConfig, TrainingConfig
from tfrec_fusion.files import sync, write_json
from tfrec_fusion.layers.layerwise_decay import with_multipliers
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.private_parts import check_steps
from tfrec_fusion.training import cluster
from tfrec_fusion.training.averaging import EpochMean
from tfrec_fusion.training.batches import check_inputs
from tfrec_fusion.training.history import History
from tfrec_fusion.training.solved_parts import Callback, SolvedParts
from tfrec_fusion.training.steps import has_its_variables, steps_of

__all__ = ["History", "build_optimizer", "fit", "fit_staged", "precision", "strategy"]

# Of the learning rate, what is left for everything else while the text encoder is trained along.
SECOND_STAGE = 0.1


def fit(
    model: Model,
    train: tf.data.Dataset | Callable[[int], tf.data.Dataset],
    validation: tf.data.Dataset | None,
    config: TrainingConfig,
    folder: str | pathlib.Path | None = None,
    *,
    steps: int | None = None,
    checkpoint_seconds: float = 60.0,
    tensorboard: str | pathlib.Path | None = None,
    progress: bool | Callable[[dict[str, float]], None] = True,
    learning_rates: Sequence[tuple[tf.Variable, float]] = (),
    callbacks: Sequence[Callback] = (SolvedParts(),),
    judge_start: bool = False,
) -> History:
    """Trains a model, and leaves in it the weights of the epoch with the best validation.

    Early stopping and the choice of the best epoch watch `model.monitor`. With `config.average` the mean of
    an epoch's weights is judged beside the last, the better of both is the epoch's, and training ends when
    neither has risen for `config.patience` epochs. When a call is repeated with the
    `folder` of one that was killed, it goes on at the step of the last checkpoint; a finished one is not
    repeated. Dropout after resuming draws other numbers than it would have.

    Args:
        model: made in the scope of `strategy(config)` and `precision(config)`, its variables in place.
        train: batches (dicts of tensors), one epoch; or what each epoch goes through, from 0, where callbacks
            need no `train`.
        validation: batches for early stopping; None trains for all epochs and keeps the last weights.
        config: how to train.
        folder: where checkpoints go; None keeps nothing.
        steps: at most this many steps an epoch.
        checkpoint_seconds: how often to save within an epoch; each epoch's end is saved as well.
        tensorboard: folder that receives TensorBoard's logs, a value an epoch; None writes none.
        progress: a progress bar, or none, or a function called after each epoch with its logs (`epoch` counts
            from 1).
        learning_rates: variables that learn at another rate than the configuration's, with their rates.
        callbacks: called with the trained model; by default what is solved beside it is solved.
        judge_start: whether the weights before the first epoch are judged too, and kept where no epoch is
            better (`best_epoch` 0), as those of a model that starts from what another learned should be.

    Returns:
        What training went through.

    Raises:
        ValueError: if `train` is empty, if the loss is not a number, or if `folder` holds a run of another
            model or other settings.
        ConfigError: if training should be private and the model's steps are not.
    """
    check_steps(model, config)
    tf_keras.utils.set_random_seed(config.seed)
    run = _Run(model, config, None if folder is None else pathlib.Path(folder), learning_rates)
    writer = _event_writer(tensorboard) if tensorboard and run.steps.writes else None
    epochs = train if callable(train) else model.epochs(train, config.batch_size, config.seed)
    distributed = sample = None
    if validation is not None:
        distributed = run.steps.batches(validation)
        sample = model.validation_sample(validation)
        if judge_start and not run.finished():
            run.judge_start(distributed, sample)
    while not run.finished():
        bar = tf_keras.utils.Progbar(steps, unit_name="step") if progress is True else None
        logs = {
            "epoch": float(run.epoch + 1),
            **run.train_epoch(epochs(run.epoch), steps, checkpoint_seconds, bar),
        }
        if distributed is not None:
            logs |= run.judge(distributed, sample)
        run.end_epoch(logs)
        if bar is not None:
            bar.update(run.steps_done, logs.items(), finalize=True)
        elif callable(progress):
            progress(logs)
        if writer is not None:
            values = [
                tf.compat.v1.Summary.Value(tag=name, simple_value=value) for name, value in logs.items()
            ]
            writer.add_summary(tf.compat.v1.Summary(value=values), run.epoch)
            writer.flush()
    run.keep_best()
    for callback in callbacks:
        callback.on_train_end(model, train(0) if callable(train) else train, validation)
    return run.history


def fit_staged(
    model: Model,
    train: tf.data.Dataset,
    validation: tf.data.Dataset | None,
    config: TrainingConfig,
    text: TextConfig | None = None,
    folder: str | pathlib.Path | None = None,
    **options: Any,
) -> History:
    """`fit`, and once more with the text encoder where the model was built to train it.

    First everything learns but the encoder, on the vectors that it gave before; then all learn, the encoder
    at `text.learning_rate` and the rest at a tenth of its own. The model is left with the best weights of
    both stages.

    Args:
        model: built with the same `text`.
        train, validation, config, folder: as in `fit`; the folder gets a subfolder for each stage.
        text: how the encoder is trained; `frozen` or None is `fit` alone.
        **options: further arguments of `fit`.

    Returns:
        What training went through, the epochs of the second stage after those of the first.

    Raises:
        ValueError: as `fit` does, or if the model was built for another stage.
    """
    encoder = model.item_text
    if (encoder is not None) != bool(text and text.trained):
        raise ValueError(
            f"`text` must be what the model was built with. Received: stage {text.stage if text else None!r},"
            f" and a model {'with' if encoder is not None else 'without'} an encoder to train. Give both the"
            " same `TextConfig`."
        )
    if encoder is None or text is None:
        return fit(model, train, validation, config, folder, **options)
    folders = [None if folder is None else pathlib.Path(folder) / name for name in ("frozen", text.stage)]
    logs = options.pop("tensorboard", None)
    events = [None if logs is None else pathlib.Path(logs) / name for name in ("frozen", text.stage)]
    first = fit(model, train, validation, config, folders[0], tensorboard=events[0], **options)
    before = [(weight, weight.numpy()) for weight in model.weights]
    encoder.trainable = True
    rate = config.learning_rate * SECOND_STAGE
    second = fit(
        model,
        train,
        validation,
        dataclasses.replace(config, epochs=text.epochs, learning_rate=rate),
        folders[1],
        tensorboard=events[1],
        learning_rates=encoder.learning_rates(text.learning_rate, text.decay),
        **options,
    )
    if first.best(model.monitor) > second.best(model.monitor):
        for weight, values in before:
            weight.assign(values)
    return first.then(second, model.monitor)


class _Run:
    """The state of one training run: counters, the best weights so far, and their checkpoints."""

    def __init__(
        self,
        model: Model,
        config: TrainingConfig,
        folder: pathlib.Path | None,
        learning_rates: Sequence[tuple[tf.Variable, float]],
    ):
        self.model, self.config, self.folder = model, config, folder
        self.strategy = model.distribute_strategy
        with self.strategy.scope():
            compiled = config.jit_compile or config.strategy == "tpu"
            model.compile(optimizer=build_optimizer(config, learning_rates), jit_compile=compiled)
            if has_its_variables(model):
                # A step that makes the optimizer's variables itself is traced twice.
                model.optimizer.build(model.trainable_variables)
        self.history = History()
        self.epoch = self.step = self.steps_done = 0
        self.best: pathlib.Path | list[np.ndarray] | None = None
        self.best_name: str | None = None
        self.waited = 0
        # The best of the last weights of an epoch, and of their means.
        self.reached: list[float | None] = [None, None]
        self.started: float | None = None  # what the first weights reached, where they are judged
        self.average: EpochMean | None = None
        encoder = model.item_text
        if config.average and config.strategy != "parameter_server" and not (encoder and encoder.trainable):
            self.average = EpochMean(lambda: model.trainable_variables)
        self.takes_mean = False
        self.steps = steps_of(model, config.jit_compile)
        checkpoint = self._counters(folder)
        if not self.steps.agree(self.epoch * 10**9 + self.step):
            raise ValueError(
                "`folder` must be the same for all workers, on a file system that all of them read."
                f" Received: {folder}, where this worker finds epoch {self.epoch} and step {self.step}, and"
                " another one something else. Name a shared folder."
            )
        if folder is not None and checkpoint is not None:
            self._restore(folder, checkpoint)
        if folder is not None and not self.steps.writes:
            # All workers must take part in saving, and one of them saves.
            self.scratch = tempfile.TemporaryDirectory()
            self.folder = pathlib.Path(self.scratch.name)

    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.epoch >= self.config.epochs or self.waited >= self.config.patience

    def train_epoch(
        self,
        dataset: tf.data.Dataset,
        steps: int | None,
        checkpoint_seconds: float,
        bar: tf_keras.utils.Progbar | None,
    ) -> dict[str, float]:
        """Runs what is left of an epoch; returns its means."""
        self.steps.reset()
        if self.average is not None:
            self.average.clear(self.steps_done)
        saved, self.steps_done = time.monotonic(), self.step
        for batch in self._from_step(dataset, steps):
            self.steps.train(batch)
            self.steps_done += 1
            if self.average is not None:
                self.average.look(self.steps_done)
            if bar is not None:
                means = self.steps.means()
                bar.update(
                    self.steps_done, [("loss", means["loss"])] if "loss" in means else [], finalize=False
                )
            if self.folder is not None and self.steps.any(time.monotonic() - saved > checkpoint_seconds):
                self.steps.settle()
                self._save(self.folder, self.epoch, self.steps_done)
                saved = time.monotonic()
        if not self.steps_done:
            raise ValueError(
                "`train` must hold at least one batch. Received: an empty dataset. Check the split."
            )
        self.steps.settle()
        logs = self.steps.means()
        if not np.isfinite(logs.get("loss", 0.0)):
            check_inputs(self.model.query_features, dataset, "train")
            raise ValueError(
                f"The loss must be a number. Received: {logs['loss']} in epoch {self.epoch + 1}. "
                f"Lower `learning_rate` ({self.config.learning_rate})."
            )
        self.model.end_epoch()
        return logs

    def judge(self, validation: Iterable[Any], sample: Any) -> dict[str, float]:
        """Validation's figures by name, of the last weights or, where they are better by the monitor, of
        their mean; a loss that is not the monitor is always the last weights'."""
        last = self.evaluate(validation, sample)
        found = [last]
        if self.average is not None and self.average.means:
            with self.average.in_place():
                figures = self.model.validation_figures(sample)
                if self.model.monitor[0] in figures:
                    figures = {name: self.steps.mean(value) for name, value in figures.items()}
                else:
                    figures = self.evaluate(validation, sample)
            found.append(last | figures)
        name, mode = self.model.monitor if self.model.monitor[0] in last else ("loss", "min")
        values = [each[name] if mode == "max" else -each[name] for each in found]
        self.takes_mean = values[-1] > values[0]
        risen = [now for now, best in zip(values, self.reached, strict=False) if best is None or now > best]
        self.waited = 0 if risen else self.waited + 1
        for position, value in enumerate(values):
            best = self.reached[position]
            self.reached[position] = value if best is None else max(best, value)
        return {f"val_{name}": value for name, value in found[int(self.takes_mean)].items()}

    def judge_start(self, validation: Iterable[Any], sample: Any) -> None:
        """Judges the weights before the first step, and keeps them until an epoch is better."""
        if self.epoch or self.step:
            return
        figures = self.evaluate(validation, sample)
        name, mode = self.model.monitor if self.model.monitor[0] in figures else ("loss", "min")
        self.started = figures[name] if mode == "max" else -figures[name]
        self.reached = [self.started, self.started]
        self.best = self._keep()

    def evaluate(self, validation: Iterable[Any], sample: Any) -> dict[str, float]:
        """Means over the validation batches, and the model's figures of the sample."""
        self.steps.reset()
        for batch in validation:
            self.steps.test(batch)
        self.steps.settle()
        logs = self.steps.means()
        if not np.isfinite(logs.get("loss", 0.0)):
            check_inputs(self.model.query_features, validation, "validation")
        if not logs:
            raise ValueError(
                "`validation` must hold at least one batch. Received: an empty dataset. Pass None for none."
            )
        figures = self.model.validation_figures(sample)
        return logs | {name: self.steps.mean(value) for name, value in figures.items()}

    def end_epoch(self, logs: dict[str, float]) -> None:
        """Notes an epoch's metrics and whether it was the best."""
        for name, value in logs.items():
            if name != "epoch":
                self.history.history.setdefault(name, []).append(value)
        self.epoch, self.step = self.epoch + 1, 0
        values = self.history.watched(self.model.monitor)
        before = [*values[:-1], *([] if self.started is None else [self.started])]
        if not values or values[-1] > max(before, default=-np.inf):
            self.history.best_epoch = self.epoch
            mean = self.average.in_place() if self.average and self.takes_mean else contextlib.nullcontext()
            with mean:
                self.best = self._keep() if values else None
        if self.folder is not None:
            self._save(self.folder, self.epoch, 0)

    def keep_best(self) -> None:
        """Puts the best epoch's weights into the model."""
        if isinstance(self.best, pathlib.Path):
            tf.train.Checkpoint(model=self.model).read(str(self.best)).expect_partial()
        elif self.best is not None:
            self.model.set_weights(self.best)

    def _keep(self) -> pathlib.Path | list[np.ndarray]:
        """Writes the weights as they are, or holds them in memory where nothing is written."""
        if self.folder is None:
            return self.model.get_weights()
        # Under a name of its own: the checkpoint before goes on naming the one before.
        path = self.folder / f"best-{self.epoch}"
        tf.train.Checkpoint(model=self.model).write(str(path))
        return path

    def _from_step(self, dataset: tf.data.Dataset, steps: int | None) -> Iterator:
        dataset = dataset.skip(self.step)
        if steps is not None:
            dataset = dataset.take(max(0, steps - self.step))
        return iter(self.steps.batches(dataset))

    # Checkpoints hold model and optimizer, JSON beside them the counters and what the run belongs to.

    def _state(self) -> dict:
        sizes = [list(weight.shape) for weight in self.model.trainable_variables]
        return {"config": dataclasses.asdict(self.config), "sizes": sizes}

    def _save(self, folder: pathlib.Path, epoch: int, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"checkpoint-{epoch}-{step}"
        tf.train.Checkpoint(model=self.model, optimizer=self.model.optimizer).write(str(folder / name))
        best = self.best.name if isinstance(self.best, pathlib.Path) else None
        kept = [name, *([best] if best else [])]
        for file in folder.iterdir():
            if file.name.startswith(tuple(f"{each}." for each in kept)):
                sync(file)
        counters = {
            **self._state(),
            "best": best,
            "checkpoint": name,
            "epoch": epoch,
            "step": step,
            "waited": self.waited,
            "reached": self.reached,
            "started": self.started,
            "history": self.history.history,
            "best_epoch": self.history.best_epoch,
        }
        # The counters change hands in one move: a kill in between leaves the previous checkpoint in charge.
        write_json(folder / "run.json", counters)
        for file in (*folder.glob("checkpoint-*"), *folder.glob("best-*")):
            if not file.name.startswith(tuple(f"{each}." for each in kept)):
                file.unlink()

    def _counters(self, folder: pathlib.Path | None) -> str | None:
        """Takes over how far an earlier call came; returns the name of its checkpoint, None where there was
        none."""
        if folder is None or not (folder / "run.json").exists():
            return None
        try:
            counters = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(_damaged(folder, error)) from error
        for name, value in json.loads(json.dumps(self._state())).items():
            if counters[name] != value:
                raise ValueError(
                    "`folder` must be new or hold a run of the same model with the same settings. Received:"
                    f" {folder}, whose {name} is {counters[name]} and not {value}. Choose another folder, or"
                    " delete this one to train anew."
                )
        self.epoch, self.step, self.waited = counters["epoch"], counters["step"], counters["waited"]
        self.reached, self.started = counters["reached"], counters.get("started")
        self.history = History(counters["history"], counters["best_epoch"])
        self.best_name = counters.get("best")
        return counters["checkpoint"]

    def _restore(self, folder: pathlib.Path, name: str) -> None:
        with self.strategy.scope():
            self.model.optimizer.build(self.model.trainable_variables)
        if self.best_name:
            self.best = folder / self.best_name
        checkpoint = tf.train.Checkpoint(model=self.model, optimizer=self.model.optimizer)
        try:
            checkpoint.read(str(folder / name)).expect_partial()
        except (tf.errors.OpError, IndexError, ValueError, RuntimeError) as error:
            raise ValueError(_damaged(folder, error)) from error


def _damaged(folder: pathlib.Path, error: Exception) -> str:
    return (
        f"The checkpoint in {folder} must be as it was written. Received: {error}. Delete the folder to train"
        " anew."
    )


def _event_writer(folder: str | pathlib.Path) -> tf.compat.v1.summary.FileWriter:
    # TensorFlow 2's writer imports the tensorboard package, which writing files does not need. The older one
    # refuses to be made eagerly.
    with tf.Graph().as_default():
        return tf.compat.v1.summary.FileWriter(str(folder))


def build_optimizer(
    config: TrainingConfig, learning_rates: Sequence[tuple[tf.Variable, float]] = ()
) -> tf_keras.optimizers.Optimizer:
    """Adam, or AdamW with `weight_decay`; with loss scaling under float16.

    Args:
        config: settings.
        learning_rates: variables that learn at another rate than `config.learning_rate`, with their rates.
    """
    if config.weight_decay:
        optimizer = tf_keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay)
    else:
        optimizer = tf_keras.optimizers.Adam(config.learning_rate)
    if learning_rates:
        optimizer = with_multipliers(
            optimizer, [(variable, rate / config.learning_rate) for variable, rate in learning_rates]
        )
    if config.precision == "mixed_float16":
        optimizer = tf_keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer


def strategy(config: TrainingConfig) -> tf.distribute.Strategy:
    """The `tf.distribute` strategy of a configuration; build the model in its `scope()`.

    With `multi_worker` and `parameter_server`, the environment variable `TF_CONFIG` says which processes
    there are and which of them this one is (`cluster`). Ask before TensorFlow does anything else. A worker or
    a server of parameter servers stays in this function until it is ended.

    Raises:
        RuntimeError: if TensorFlow was used before, with `multi_worker`.
        ValueError: if `TF_CONFIG` does not describe what `parameter_server` needs.
    """
    if config.strategy == "mirrored":
        return tf.distribute.MirroredStrategy()
    if config.strategy == "multi_worker":
        return cluster.mirrored_workers()
    if config.strategy == "parameter_server":
        return cluster.parameter_servers()
    if config.strategy == "tpu":
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
        return tf.distribute.TPUStrategy(resolver)
    return tf.distribute.get_strategy()


@contextlib.contextmanager
def precision(config: TrainingConfig) -> Iterator[None]:
    """Sets the precision that layers made inside compute in."""
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy(config.precision)
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)
