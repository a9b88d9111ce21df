"""Several labels in one ranking model beside single models, and ESMM beside naive models of conversions.

```sh
python -m benchmarks.multitask --seeds 1 --epochs 3
python -m benchmarks.multitask --conversions
```

On MovieLens 100K, divided by time, the labels are `rating`, `click` (liked: a rating of at least 4) and
`back`: whether the user rates another film on a later day of the week that follows; unknown in the last week
of the data. Nobody rates a film twice there, so that it says whether somebody comes back, not for which film.
All models have the defaults of `RankingConfig` without factors of ratings, and early stopping on validation;
a single model learns one label alone. The ± is a standard error of the difference to the single model, from a
bootstrap over users, of the first seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from benchmarks.quality_data import WORK, movielens_tables
from tfrec_fusion.config import CLICK, FeatureSpace, LabelKind, RankingConfig, SplitConfig, TowerConfig
from tfrec_fusion.config import TrainingConfig as Training
from tfrec_fusion.datasets.tables import Label, Tables
from tfrec_fusion.features.preparing import Prepared, prepare
from tfrec_fusion.metrics.pointwise import auc
from tfrec_fusion.models.build import build_ranking
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.training.batches import batches
from tfrec_fusion.training.fitting import fit

DAY = 86_400
BATCH, DRAWS = 2048, 200
ALIKE = {"label_weights": {"click": 1.0, "back": 1.0}}  # as much as the rating
VARIANTS: dict[str, dict[str, Any]] = {
    "shared bottom, fixed": {},
    "shared bottom, all count 1": ALIKE,
    "MMoE, fixed": {"sharing": "mmoe"},
    "MMoE, all count 1": {"sharing": "mmoe", **ALIKE},
    "PLE, fixed": {"sharing": "ple"},
    "cross-stitch, fixed": {"sharing": "cross_stitch"},
    "shared bottom, uncertainty": {"weighting": "uncertainty"},
    "shared bottom, GradNorm": {"weighting": "gradnorm"},
    "shared bottom, PCGrad": {"weighting": "pcgrad"},
    "shared bottom, PCGrad, all count 1": {"weighting": "pcgrad", **ALIKE},
}


def movielens_with_returns() -> Tables:
    """MovieLens 100K with the label `back`."""
    tables = movielens_tables()
    ratings = pd.read_parquet(tables.interactions.path)
    ratings["back"] = returns(ratings)
    path = pathlib.Path(WORK) / "movielens_100k" / "with_returns.parquet"
    ratings.to_parquet(path)
    label = {"back": Label()}
    return dataclasses.replace(
        tables, interactions=dataclasses.replace(tables.interactions, path=str(path), labels=label)
    )


def returns(ratings: pd.DataFrame) -> np.ndarray:
    """float64 `[rows]`: 1 where the user rates again on a later day, at most seven days on, else 0; NaN in
    the last seven days, of which nobody knows."""
    frame = pd.DataFrame({"user": ratings["user_id"], "day": ratings["timestamp"] // DAY})
    days = frame.drop_duplicates().sort_values(["user", "day"])
    days["next"] = days.groupby("user")["day"].shift(-1)
    following = frame.merge(days, on=["user", "day"], how="left")["next"].to_numpy(float)
    day = frame["day"].to_numpy()
    back = (following - day <= 7).astype(float)
    return np.where(day > day.max() - 7, np.nan, back)


def trained(
    data: Prepared, labels: Mapping[str, LabelKind], config: RankingConfig, seed: int
) -> tuple[Ranking, float]:
    """A model of some labels, and the seconds of processor that its training took."""
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, seed=seed))
    model, start = build_ranking(config, data.space, data.catalogue, labels), time.process_time()
    train = batches(data.train, config.training.batch_size, seed)
    fit(model, train, batches(data.validation, BATCH), config.training, progress=False, callbacks=())
    return model, time.process_time() - start


def predictions(model: Ranking, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Predictions of all rows by label."""
    ask = tf.function(model.call, autograph=False, reduce_retracing=True)
    rows = len(columns["item_index"])
    parts = [
        {
            name: values.numpy()
            for name, values in ask(
                {name: tf.constant(column[start : start + BATCH]) for name, column in columns.items()}
            ).items()
        }
        for start in range(0, rows, BATCH)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def figure(kind: LabelKind, labels: np.ndarray, scores: np.ndarray) -> float:
    """AUC of a binary label, RMSE of a rating, where it is known."""
    known = ~np.isnan(labels)
    if kind == "binary":
        return float(auc(labels[known], scores[known]))
    return float(np.sqrt(np.mean((labels[known] - scores[known]).astype(np.float64) ** 2)))


def error_of_difference(
    kind: LabelKind, labels: np.ndarray, one: np.ndarray, other: np.ndarray, users: np.ndarray
) -> float:
    """Standard error of the difference of two models' figures, from a bootstrap over users."""
    rng, rows = np.random.default_rng(0), [np.flatnonzero(users == user) for user in np.unique(users)]
    draws = []
    for _ in range(DRAWS):
        drawn = np.concatenate([rows[user] for user in rng.integers(0, len(rows), len(rows))])
        draws.append(figure(kind, labels[drawn], one[drawn]) - figure(kind, labels[drawn], other[drawn]))
    return float(np.std(draws))


def compare(seeds: int, epochs: int, variants: Sequence[str]) -> None:
    """Prints the table of MovieLens 100K."""
    data = prepare(movielens_with_returns(), SplitConfig(method="temporal"), text=None)
    usual = RankingConfig()
    config = dataclasses.replace(
        usual, training=dataclasses.replace(usual.training, epochs=epochs), rating_dim=0
    )
    results: dict[str, dict[str, list[float]]] = {}
    kept: dict[str, dict[str, np.ndarray]] = {}
    for seed in range(1, seeds + 1):
        row: dict[str, np.ndarray] = {}
        spent = 0.0
        for label, kind in data.labels.items():
            model, seconds = trained(data, {label: kind}, config, seed)
            row |= predictions(model, data.test)
            spent += seconds
        _note(results, kept, "single models", row, data, spent)
        print(f"single models, seed {seed}: {_last(results['single models'])}", flush=True)
        for name in variants:
            changed = dataclasses.replace(config, **VARIANTS[name])
            model, seconds = trained(data, data.labels, changed, seed)
            _note(results, kept, name, predictions(model, data.test), data, seconds)
            print(f"{name}, seed {seed}: {_last(results[name])}", flush=True)
    heads = [f"{label} ({'AUC' if kind == 'binary' else 'RMSE'})" for label, kind in data.labels.items()]
    print(f"\n| model | {' | '.join(heads)} | training, s of a processor |")
    print("|---" * (len(heads) + 2) + "|")
    for name, values in results.items():
        cells = []
        for label, kind in data.labels.items():
            cell = f"{np.mean(values[label]):.4f}"
            if name != "single models":
                single = kept["single models"][label]
                error = error_of_difference(kind, data.test[label], kept[name][label], single, data.users)
                difference = np.mean(values[label]) - np.mean(results["single models"][label])
                cell += f" ({difference:+.4f} ± {error:.4f})"
            cells.append(cell)
        print(f"| {name} | {' | '.join(cells)} | {np.mean(values['seconds']):.0f} |")


def _last(values: Mapping[str, list[float]]) -> str:
    """The figures of the last seed in words."""
    return ", ".join(f"{name} {found[-1]:.4f}" for name, found in values.items())


def _note(
    results: dict[str, dict[str, list[float]]],
    kept: dict[str, dict[str, np.ndarray]],
    name: str,
    scores: dict[str, np.ndarray],
    data: Prepared,
    seconds: float,
) -> None:
    own = results.setdefault(name, {})
    for label, kind in data.labels.items():
        own.setdefault(label, []).append(figure(kind, data.test[label], scores[label]))
    own.setdefault("seconds", []).append(seconds)
    kept.setdefault(name, scores)


ITEMS = 400
BOUGHT = "bought"


def planted_impressions(seed: int, rows: int = 20_000) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Impressions of items whose appeal decides clicks and, of what is clicked, conversions.

    Returns:
        Columns as models take them, and each item's true rate of conversions after a click, `[ITEMS + 1]`.
    """
    rng = np.random.default_rng(seed)
    appeal = rng.normal(size=ITEMS + 1)
    click_rate, rate = (1 / (1 + np.exp(less - 1.5 * appeal)) for less in (2.0, 1.0))
    item = rng.integers(1, ITEMS + 1, rows).astype(np.int32)
    click = (rng.random(rows) < click_rate[item]).astype(np.float32)
    bought = (rng.random(rows) < rate[item]).astype(np.float32)
    columns = {
        "item_index": item,
        "user_index": np.zeros(rows, np.int32),
        "history": np.zeros((rows, 2), np.int32),
        CLICK: click,
        BOUGHT: np.where(click > 0, bought, np.nan).astype(np.float32),
    }
    return columns, rate


def conversion_rate(columns: Mapping[str, np.ndarray], kind: str, seed: int, epochs: int = 8) -> float:
    """The mean rate of conversions that a model predicts over all impressions.

    Args:
        columns: the impressions.
        kind: `esmm`; `clicked`, a model of conversions that learns from what was clicked; or `all`, one that
            takes what was not clicked for no conversion.
        seed: of the model.
        epochs: at most.
    """
    names = np.array(["", *map(str, range(1, ITEMS + 1))], object)
    counts = np.bincount(columns["item_index"], minlength=ITEMS + 1)
    catalogue = Catalogue(names, names, {}, None, counts)
    space = FeatureSpace(num_users=1, num_items=ITEMS + 1, history_length=2)
    config = RankingConfig(
        tower=TowerConfig(dim=8, dropout=0.0, id_dropout=0.0, history_encoder="mean", fusion="concat"),
        head="mlp",
        hidden=(16,),
        training=Training(epochs, 256, learning_rate=5e-3, average=False, seed=seed),
        rating_dim=0,
        conversions=(BOUGHT,) if kind == "esmm" else (),
    )
    labels: dict[str, LabelKind] = {BOUGHT: "binary"}
    if kind == "esmm":
        labels = {CLICK: "binary", **labels}
    rows = np.random.default_rng(0).permutation(len(columns[CLICK]))
    if kind == "clicked":
        rows = rows[columns[CLICK][rows] > 0]
    if kind == "all":
        columns = {**columns, BOUGHT: np.where(columns[CLICK] > 0, columns[BOUGHT], 0.0).astype(np.float32)}
    held_out = len(rows) // 8
    validation, train = (
        {name: values[some] for name, values in columns.items()}
        for some in (rows[:held_out], rows[held_out:])
    )
    model = build_ranking(config, space, catalogue, labels)
    fit(model, batches(train, 256, seed), batches(validation, BATCH), config.training,
        progress=False, callbacks=())  # fmt: skip
    return float(predictions(model, columns)[BOUGHT].mean())


def compare_conversions(seeds: int) -> None:
    """Prints the table of planted impressions."""
    errors: dict[str, list[float]] = {"esmm": [], "clicked": [], "all": []}
    for seed in range(seeds):
        columns, rate = planted_impressions(seed)
        true = float(rate[columns["item_index"]].mean())
        for kind, found in errors.items():
            found.append(conversion_rate(columns, kind, seed + 1) - true)
            print(f"seed {seed}: {kind} {found[-1] + true:.3f}, true {true:.3f}", flush=True)
    print("\n| model of conversions | error of the mean rate over all impressions |")
    print("|---|---|")
    for kind, found in errors.items():
        spread = np.std(found, ddof=1) if seeds > 1 else np.nan
        print(f"| {kind} | {np.mean(found):+.3f} ± {spread:.3f} |")


def main(arguments: list[str] | None = None) -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--conversions", action="store_true", help="planted impressions instead")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    given = parser.parse_args(arguments)
    if given.conversions:
        compare_conversions(given.seeds)
    else:
        compare(given.seeds, given.epochs, given.variants)


if __name__ == "__main__":
    main()
