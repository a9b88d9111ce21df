"""Classifier of texts: trained, and judged beside the majority and a logistic regression."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special
import tensorflow as tf
import tf_keras

from tfrec_fusion.config.classifier import ClassifierConfig
from tfrec_fusion.metrics.bootstrap import group_sums, interval, resample
from tfrec_fusion.metrics.classification import classification_report
from tfrec_fusion.models.bert_recommender import BertRecommender
from tfrec_fusion.training.fitting import fit

__all__ = [
    "Judgement",
    "build_classifier",
    "judge",
    "logistic_regression",
    "probabilities",
    "train_classifier",
]

UNKNOWN = 0.1  # share of ids that training takes for unknown, so that row 0 means something
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
AT_ONCE = 4096
Parts = Mapping[str, Mapping[str, np.ndarray]]


def build_classifier(
    config: ClassifierConfig, num_users: int, num_items: int, num_classes: int, text_dim: int
) -> BertRecommender:
    """The model with its variables, initialised from `config.training.seed`; it reads text vectors.

    Args:
        config: its shape.
        num_users, num_items: rows of the embeddings, row 0 included.
        num_classes: how many classes there are.
        text_dim: length of a text vector.
    """
    tf_keras.utils.set_random_seed(config.training.seed)
    alone = config.dim == 0
    model = BertRecommender(
        tf_keras.layers.Activation("linear"),
        1 if alone else num_users,
        1 if alone else num_items,
        num_classes,
        dim=max(config.dim, 1),
        hidden=config.hidden,
        dropout=config.dropout,
    )
    index = tf.zeros([1], tf.int32)
    model({"user_index": index, "item_index": index, "text": tf.zeros([1, text_dim])})
    return model


def train_classifier(
    parts: Parts,
    config: ClassifierConfig,
    num_users: int,
    num_items: int,
    num_classes: int,
    progress: bool | Callable[[dict[str, float]], None] = False,
) -> BertRecommender:
    """Trains on text vectors, with the weights of the epoch whose validation loss is least.

    Args:
        parts: `train` and `validation`: `user_index`, `item_index` and `label` int32 `[n]`, `text` float32
            `[n, text_dim]`.
        config: the model and its training.
        num_users, num_items, num_classes: as in `build_classifier`.
        progress: as in `fit`.
    """
    model = build_classifier(config, num_users, num_items, num_classes, parts["train"]["text"].shape[1])
    size, seed = config.training.batch_size, config.training.seed
    rows = tf.data.Dataset.from_tensor_slices(_indexed(parts["train"], config))
    train = rows.shuffle(len(parts["train"]["label"]), seed=seed).batch(size).map(_some_unknown)
    validation = tf.data.Dataset.from_tensor_slices(_indexed(parts["validation"], config)).batch(AT_ONCE)
    fit(model, train, validation, config.training, progress=progress, callbacks=())
    return model


def probabilities(
    model: BertRecommender, rows: Mapping[str, np.ndarray], config: ClassifierConfig
) -> np.ndarray:
    """float32 `[n, classes]` of rows as `train_classifier` takes them."""
    ask = tf.function(model.call, autograph=False, reduce_retracing=True)
    batches = tf.data.Dataset.from_tensor_slices(_indexed(rows, config)).batch(AT_ONCE)
    return np.concatenate([ask(batch).numpy() for batch in batches])


def logistic_regression(
    vectors: np.ndarray, labels: np.ndarray, num_classes: int, penalty: float
) -> np.ndarray:
    """Multinomial logistic regression: weights float64 `[dim + 1, classes]`, the last row the intercepts.

    Minimises `mean_i -log softmax(W x_i + b)[y_i] + penalty / 2 · ||W||²`, the intercepts free, by L-BFGS.

    Args:
        vectors: float `[n, dim]`.
        labels: integer `[n]`, classes from 0.
        num_classes: how many there are.
        penalty: above 0.
    """
    inputs = np.concatenate([vectors, np.ones((len(vectors), 1))], 1).astype(np.float64)
    targets = np.eye(num_classes)[labels]
    shrunk = np.ones((inputs.shape[1], 1))
    shrunk[-1] = 0.0

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(inputs.shape[1], num_classes)
        logits = inputs @ weights
        logs = logits - scipy.special.logsumexp(logits, 1, keepdims=True)
        value = -(targets * logs).sum() / len(inputs) + penalty / 2 * (shrunk * weights**2).sum()
        gradient = inputs.T @ (np.exp(logs) - targets) / len(inputs) + penalty * shrunk * weights
        return value, gradient.reshape(-1)

    start = np.zeros(inputs.shape[1] * num_classes)
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return found.x.reshape(inputs.shape[1], num_classes)


def _regression(parts: Parts, num_classes: int) -> np.ndarray:
    """Probabilities of test by a logistic regression on the text vectors, its penalty by validation."""

    def answers(weights: np.ndarray, part: str) -> np.ndarray:
        return scipy.special.softmax(parts[part]["text"] @ weights[:-1] + weights[-1], 1)

    best, least = np.zeros(0), np.inf
    for penalty in PENALTIES:
        weights = logistic_regression(parts["train"]["text"], parts["train"]["label"], num_classes, penalty)
        loss = _log_loss(answers(weights, "validation"), parts["validation"]["label"])
        if loss < least:
            best, least = weights, loss
    return answers(best, "test")


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What a classifier is worth on test.

    Attributes:
        classes: their names.
        report: per class, and for `macro`, `weighted` and `accuracy`: see `metrics.classification_report`.
        confusion: how many rows of each class (first) were taken for each (second).
        figures: `accuracy`, `macro_f1` and `log_loss`.
        baselines: name → the same figures, what is demanded (`demand`), and the `gain` in accuracy over it
            with its 95 % interval from a bootstrap over users: `[gain, low, high]`.
        reasons: why it is not good enough; empty where it is.
        rows: of each split.
    """

    classes: tuple[str, ...]
    report: dict[str, dict[str, float]]
    confusion: list[list[int]]
    figures: dict[str, float]
    baselines: dict[str, dict[str, Any]]
    reasons: tuple[str, ...]
    rows: dict[str, int]

    @property
    def blessed(self) -> bool:
        """Whether it is good enough to be served."""
        return not self.reasons


def judge(
    answers: np.ndarray, parts: Parts, owners: np.ndarray, classes: Sequence[str], config: ClassifierConfig
) -> Judgement:
    """Judges probabilities of test.

    Args:
        answers: float `[n, classes]`, the model's.
        parts: all splits, as `train_classifier` takes them.
        owners: int64 `[n]` of test, equal where two rows are of one user.
        classes: their names.
        config: what is demanded.
    """
    labels, count = parts["test"]["label"], len(classes)
    shares = np.bincount(parts["train"]["label"], minlength=count) / len(parts["train"]["label"])
    others = {"majority": np.tile(shares, (len(labels), 1)), "logistic": _regression(parts, count)}
    taken = answers.argmax(1)
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (labels, taken), 1)
    figures, baselines, reasons = _figures(answers, labels, classes), {}, []
    for name, demand in config.baselines.items():
        beside = _figures(others[name], labels, classes)
        better = (taken == labels).astype(float) - (others[name].argmax(1) == labels)
        drawn = resample(group_sums(owners, np.stack([better, np.ones(len(better))], 1)))
        low, high = interval(drawn[:, 0] / np.maximum(drawn[:, 1], 1e-9))
        baselines[name] = {**beside, "demand": demand, "gain": [float(better.mean()), low, high]}
        if (demand == "beat" and not low > 0) or (demand == "match" and not high >= 0):
            rule = "not significantly above" if demand == "beat" else "significantly below"
            reasons.append(
                f"accuracy {figures['accuracy']:.4f} is {rule} {beside['accuracy']:.4f} of {WORDS[name]}"
                f" ({better.mean():+.4f} [{low:+.4f}, {high:+.4f}])"
            )
    report = classification_report(labels, taken, classes)
    rows = {part: len(parts[part]["label"]) for part in parts}
    return Judgement(tuple(classes), report, confusion.tolist(), figures, baselines, tuple(reasons), rows)


WORDS = {"majority": "the most frequent class", "logistic": "a logistic regression on the same vectors"}


def _figures(answers: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    report = classification_report(labels, answers.argmax(1), classes)
    return {
        "accuracy": report["accuracy"]["f1"],
        "macro_f1": report["macro"]["f1"],
        "log_loss": _log_loss(answers, labels),
    }


def _log_loss(answers: np.ndarray, labels: np.ndarray) -> float:
    """The mean of minus the logarithm of the right class's probability, at least 1e-7."""
    right = answers[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(right, 1e-7)).mean())


def _indexed(rows: Mapping[str, np.ndarray], config: ClassifierConfig) -> dict[str, np.ndarray]:
    """The columns that the model reads; without embeddings nobody is known."""
    columns = {name: rows[name] for name in ("user_index", "item_index", "text", "label") if name in rows}
    if config.dim == 0:
        columns |= {name: np.zeros_like(rows[name]) for name in ("user_index", "item_index")}
    return columns


def _some_unknown(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    for name in ("user_index", "item_index"):
        kept = tf.random.uniform(tf.shape(batch[name])) >= UNKNOWN
        batch = {**batch, name: tf.where(kept, batch[name], 0)}
    return batch
