"""What a term for repeats is worth where items may be recommended again (docs/explanation/repeats.md).

    python -m benchmarks.repeats --data planted shop

NDCG@10 over the whole catalogue, nothing left out, of what users chose in the test, repeats and new items;
the towers are left untrained, so that what differs is what is solved. Intervals are those of a paired
bootstrap over users.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np

from benchmarks.planted_habits import plays
from benchmarks.quality_data import shop_tables
from benchmarks.quality_models import batches
from tfrec_fusion.config import RetrievalConfig, SplitConfig
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.features.preparing import Prepared, prepare
from tfrec_fusion.metrics import bootstrap
from tfrec_fusion.metrics.ranks import per_user_figures, target_ranks, tie_order
from tfrec_fusion.models.build import build_two_tower
from tfrec_fusion.models.hybrid.blend_fitting import HybridEstimator
from tfrec_fusion.models.hybrid.repeat_fitting import RepeatEstimator
from tfrec_fusion.models.hybrid.repeats import Repeats, baseline_weights, with_repeats
from tfrec_fusion.models.two_tower import TwoTower

BLOCK = 512


def planted_tables(again: float, seed: int, folder: pathlib.Path) -> Tables:
    """`planted_habits.plays` as files."""
    for name, table in zip(("plays", "songs"), plays(again, seed), strict=True):
        table.to_parquet(folder / f"{name}.parquet")
    items = Items(str(folder / "songs.parquet"), "item", categories=("genre",))
    return Tables(Interactions(str(folder / "plays.parquet"), "user", "item", "time"), items)


def solved(data: Prepared) -> tuple[TwoTower, float]:
    """A model with all that is solved, and the seconds that its repeats took."""
    model = build_two_tower(RetrievalConfig(), data.space, data.catalogue)
    validation = batches(data.validation, 1024, False)
    HybridEstimator().fit(model, batches(data.train, 4096, False), validation)
    start = time.perf_counter()
    RepeatEstimator().fit(model, validation)
    return model, time.perf_counter() - start


def gains(data: Prepared, scores: Callable[[slice], np.ndarray]) -> np.ndarray:
    """NDCG@10 of each user, float64 `[users]`."""
    ties, ranks = tie_order(len(data.catalogue)), []
    for start in range(0, len(data.users), BLOCK):
        part = slice(start, start + BLOCK)
        found = np.array(scores(part))
        found[:, 0] = -np.inf
        ranks.append(target_ranks(found, data.test["item_index"][part], ties))
    return per_user_figures(data.users, np.concatenate(ranks), [10], data.test["item_index"])["ndcg@10"]


def judge(data: Prepared) -> tuple[dict[str, np.ndarray], str]:
    """Each user's NDCG@10 by what answers, and the weights that were solved."""
    model, seconds = solved(data)
    vectors, history = model.candidate_embeddings(), data.test["history"]
    names = {name for name in data.test if name not in ("item_index", "click", "rating")}

    def plain(part: slice) -> np.ndarray:
        batch = {name: data.test[name][part] for name in names}
        return model.query_embeddings(batch, items=vectors).numpy() @ vectors.numpy().T

    def popular(part: slice) -> np.ndarray:
        return np.tile(np.log1p(data.catalogue.counts), (len(history[part]), 1)).astype(np.float32)

    again, first = model.repeats, Repeats(baseline_weights())
    found = {
        "with the term": gains(data, lambda part: with_repeats(again, history[part], plain(part))),
        "without it": gains(data, plain),
        "repeat": gains(data, lambda part: with_repeats(first, history[part], popular(part))),
        "popularity": gains(data, popular),
    }
    shown = ", ".join(f"{value:.2f}" for value in again.solved.numpy())
    return found, f"{shown} ({seconds:.1f} s)"


def difference(one: np.ndarray, other: np.ndarray) -> str:
    """Mean and 95 % interval of a paired difference."""
    change = one - other
    sums = np.stack([change, np.ones_like(change)], 1)
    draws = bootstrap.resample(bootstrap.group_sums(np.arange(len(change)), sums))
    low, high = bootstrap.interval(draws[:, 0] / draws[:, 1])
    return f"{change.mean():+.4f} ({low:+.4f} to {high:+.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", default=["planted", "shop"], choices=["planted", "shop"])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    split = dataclasses.replace(SplitConfig(), repeats=True)
    print("| data | with the term | without it | repeat | popularity | over `repeat` | over none | weights |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.data:
        shares = (0.6, 0.3, 0.0) if name == "planted" else (None,)
        for again in shares:
            for seed in range(options.seeds if again is not None else 1):
                with tempfile.TemporaryDirectory() as scratch:
                    tables = shop_tables() if again is None else planted_tables(
                        again, seed, pathlib.Path(scratch))  # fmt: skip
                    found, weights = judge(prepare(tables, split))
                words = name if again is None else f"planted, {again:.0%} repeats, seed {seed}"
                figures = " | ".join(f"{values.mean():.4f}" for values in found.values())
                whole, plain, repeat, _ = found.values()
                changes = f"{difference(whole, repeat)} | {difference(whole, plain)}"
                print(f"| {words} | {figures} | {changes} | {weights} |", flush=True)


if __name__ == "__main__":
    main()
