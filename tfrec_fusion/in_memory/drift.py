"""Drift since a model was trained, period by period: of data, features, scores and quality.

The interactions since its training ended are divided into periods of equal length. Each is held against the
interactions before by the Jensen-Shannon divergence of what they are like, to base 2, so that it is 0 where
distributions are the same and 1 where they have nothing in common:

    JS(p, q) = (KL(p, m) + KL(q, m)) / 2,   m = (p + q) / 2

Numbers are counted in the tenths of the earlier ones. Few rows differ from many by chance alone: what samples
of as many earlier rows differ by is taken off.

Reference: Lin, 1991, https://doi.org/10.1109/18.61115
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfrec_fusion.config import ConfigError, Feature
from tfrec_fusion.config.recommender import RecommenderConfig
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features.columns import USER_VOCABULARY
from tfrec_fusion.features.preparing import Prepared, prepare
from tfrec_fusion.in_memory.comparing import ranks_of, rows_before
from tfrec_fusion.in_memory.updating import Base
from tfrec_fusion.metrics.bootstrap import group_sums, interval, resample
from tfrec_fusion.metrics.ranks import per_user_figures
from tfrec_fusion.models.warm_starting import old_rows
from tfrec_fusion.training.batches import chosen_rows

__all__ = ["Drift", "Period", "divergence", "measure"]

SAMPLES = 5  # of earlier rows, for what chance does
TENTHS = np.linspace(0, 1, 11)[1:-1]
POPULARITY, SCORE = "item popularity", "score of choices"
JUDGED = 20_000  # rows, at most: of some users, drawn at random


@dataclasses.dataclass(frozen=True)
class Period:
    """Choices of one period; what nobody can say of it is None.

    Attributes:
        start, end: seconds since 1970; the end is the next one's start.
        rows, users: how many there are.
        new_users, new_items: shares of the rows whose user or item was not chosen by or from before.
        ndcg, ndcg_low, ndcg_high: NDCG@10 of the model as it was trained, histories included, and the 95 %
            interval over users.
        distances: of each feature, of items' popularity (from the earlier rows' tenths), and of the scores of
            what was chosen, these against the first period's: a model scores what it was trained on higher.
    """

    start: float
    end: float
    rows: int
    users: int
    new_users: float | None
    new_items: float | None
    ndcg: float | None
    ndcg_low: float | None
    ndcg_high: float | None
    distances: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Drift:
    """What was measured.

    Attributes:
        rows: choices before, which the periods are held against.
        periods: the oldest first.
    """

    rows: int
    periods: tuple[Period, ...]

    @property
    def newest(self) -> Period:
        """The newest period with choices."""
        return next(period for period in reversed(self.periods) if period.rows)

    def reasons(self, max_distance: float | None = None, max_drop: float | None = None) -> list[str]:
        """Why a model should learn again.

        Args:
            max_distance: the most that any distance of the newest period may be; None for any.
            max_drop: by how much its NDCG may be below the first period's, with the whole interval; None for
                any.
        """
        newest, first = self.newest, next(period for period in self.periods if period.rows)
        found = [
            f"{name}: distance {value:.3f} in the newest period, above {max_distance:g}"
            for name, value in sorted(newest.distances.items(), key=lambda pair: -pair[1])
            if max_distance is not None and value > max_distance
        ]
        ends = (first.ndcg, newest.ndcg, newest.ndcg_high)
        if max_drop is not None and None not in ends and newest.ndcg_high < first.ndcg - max_drop:  # type: ignore[operator]
            found.append(
                f"ndcg@10 is {newest.ndcg:.4f} in the newest period, {first.ndcg:.4f} in the first: lower by"
                f" more than {max_drop:g}"
            )
        return found

    def as_mapping(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def divergence(first: np.ndarray, second: np.ndarray) -> float:
    """Jensen-Shannon divergence of two distributions, to base 2.

    Args:
        first, second: float `[n]`, counts or shares, at least 0 and not all 0.

    Returns:
        From 0 to 1.
    """
    p, q = (np.asarray(one, np.float64) / np.sum(one) for one in (first, second))
    middle = (p + q) / 2
    parts = [np.sum(one[one > 0] * np.log2(one[one > 0] / middle[one > 0])) for one in (p, q)]
    return float(np.clip(sum(parts) / 2, 0.0, 1.0))


def measure(
    base: Base,
    tables: Tables,
    config: RecommenderConfig,
    *,
    periods: int = 5,
    vectors: str | None = None,
    max_judged: int = JUDGED,
) -> Drift:
    """Measures the drift since a model was trained.

    Args:
        base: the model.
        tables: the tables as they are now.
        config: as the model was made.
        periods: how many, of equal length.
        vectors: folder that keeps text vectors.
        max_judged: at most so many rows decide the quality, those of users drawn at random.

    Raises:
        NothingNew: if no choice is newer than the model.
        ConfigError: for tables that cannot be used.
    """
    if periods < 1:
        raise ConfigError(f"There must be at least one period. Received: {periods}.")
    data = _prepared(base, tables, config, vectors)
    assert data.known is not None and data.test_times is not None
    edges = np.linspace(base.until + 1, int(data.test_times.max()) + 1, periods + 1).astype(np.int64)
    period = np.clip(np.searchsorted(edges, data.test_times, "right") - 1, 0, periods - 1)
    earlier = _together(chosen_rows(data.train), chosen_rows(data.validation))
    bins = _bins(data, earlier, data.test)
    ranks, scores = _asked(base, data, max_judged)
    scored = np.isfinite(scores)
    if scored.any():
        first = scored & (period == period[scored].min())
        bins[SCORE] = (_in_tenths(scores[first], scores[first]), _in_tenths(scores[first], scores))
    rng = np.random.default_rng(0)
    chance: dict[tuple[str, int], float] = {}
    found = []
    for number in range(periods):
        rows = np.flatnonzero(period == number)
        distances = {}
        for name, (before, now) in bins.items():
            kept = rows[scored[rows]] if name == SCORE else rows
            if len(kept) and len(before):
                distances[name] = _beyond_chance(name, before, now[kept], rng, chance)
        found.append(_period(data, rows, ranks, (edges[number] / 1e9, edges[number + 1] / 1e9), distances))
    return Drift(len(earlier["item_index"]), tuple(found))


def _prepared(base: Base, tables: Tables, config: RecommenderConfig, vectors: str | None) -> Prepared:
    """All choices since the model as the test split, whose histories end where it begins."""
    options: dict[str, Any] = {
        "click_threshold": config.data.click_threshold,
        "max_reject_share": config.data.max_reject_share,
        "vectors": vectors,
        "known": base.vocabularies,
    }
    return prepare(tables, config.split, config.transform, config.text, test_from=base.until + 1, **options)


def _asked(base: Base, data: Prepared, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks and scores by the model, float64 `[rows]`: NaN for rows of users who were not drawn."""
    assert data.known is not None
    item_rows = old_rows([str(item) for item in data.catalogue.ids], list(base.item_ids))
    users = [b"", *data.known.transform.statistics.vocabularies[USER_VOCABULARY]]
    user_rows = old_rows(users, list(base.user_ids))  # type: ignore[arg-type]  # bytes are ids too
    ranks, scores = np.full([2, len(data.users)], np.nan)
    counts = np.bincount(data.users)
    order = np.random.default_rng(0).permutation(len(counts))
    drawn = order[: max(1, int((np.cumsum(counts[order]) <= most).sum()))]
    rows = np.flatnonzero(np.isin(data.users, drawn))
    columns = {name: values[rows] for name, values in data.test.items() if name not in ("chosen", "exposure")}
    before = rows_before(base.model, columns, item_rows, user_rows)
    seen = [data.seen[row] for row in rows]
    ranks[rows], scores[rows] = ranks_of(base.model, before, columns, seen, item_rows)
    return ranks, scores


def _period(
    data: Prepared,
    rows: np.ndarray,
    ranks: np.ndarray,
    span: tuple[float, float],
    distances: dict[str, float],
) -> Period:
    owners, items = data.users[rows], data.test["item_index"][rows]
    users = len(np.unique(owners))
    ndcg = low = high = new_users = new_items = None
    # What was chosen before cannot be recommended, unless repeats may; a new item could have been.
    repeated = np.array([item in data.seen[row] for row, item in zip(rows, items, strict=True)], bool)
    repeated &= not data.space.repeats
    judged = ~np.isnan(ranks[rows]) & ~repeated
    if judged.any():
        gains = per_user_figures(owners[judged], ranks[rows][judged], [10], items[judged])["ndcg@10"]
        drawn = resample(group_sums(np.arange(len(gains)), np.stack([gains, np.ones(len(gains))], 1)))
        ndcg, (low, high) = float(gains.mean()), interval(drawn[:, 0] / drawn[:, 1])
    if len(rows):
        new_users = float((data.test["user_index"][rows] == 0).mean())
        new_items = float((data.catalogue.counts[items] == 0).mean())
    return Period(*span, len(rows), users, new_users, new_items, ndcg, low, high, distances)


def _together(*parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = set.intersection(*(set(part) for part in parts)) - {"history", "history_weight"}
    return {
        name: np.concatenate([part[name] for part in parts])
        for name in names
        if len({part[name].shape[1:] for part in parts}) == 1
    }


def _bins(
    data: Prepared, earlier: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each feature by its shown name: into which of a few bins each row falls, before and now; integers
    `[rows]`, or `[rows, any]` where a row has several values, below 0 where it has none."""
    groups = _popularity_groups(data.catalogue.counts)
    found = {POPULARITY: (groups[earlier["item_index"]], groups[now["item_index"]])}
    if "rating" in earlier:
        before = earlier["rating"]
        found["rating"] = _in_tenths(before, before), _in_tenths(before, now["rating"])
    for role, features in (("user", data.space.user_features), ("context", data.space.context_features)):
        for feature in features:
            if feature.name in earlier and feature.name in now:
                values = earlier[feature.name], now[feature.name]
                _add(found, f"{role}_{feature.shown}", feature, *values)
    for feature in data.space.item_features:
        of_items = np.asarray(data.catalogue.features[feature.name])
        values = of_items[earlier["item_index"]], of_items[now["item_index"]]
        _add(found, f"item_{feature.shown}", feature, *values)
    return found


def _add(
    found: dict[str, tuple[np.ndarray, np.ndarray]],
    name: str,
    feature: Feature,
    before: np.ndarray,
    now: np.ndarray,
) -> None:
    """Adds a feature's bins; vectors have none."""
    if feature.kind == "number":
        found[name] = _in_tenths(before, before), _in_tenths(before, now)
    elif feature.kind == "categories":
        # Index 0 pads.
        found[name] = np.where(before > 0, before, -1), np.where(now > 0, now, -1)
    elif feature.kind == "categorical":
        found[name] = before, now


def _popularity_groups(counts: np.ndarray) -> np.ndarray:
    """Each item's group, integer `[items]`: 0 without choices, then from the most chosen items on ten groups
    with about as many choices each."""
    order = np.argsort(-counts, kind="stable")
    passed = np.cumsum(counts[order]) - counts[order]
    groups = np.empty(len(counts), np.int64)
    groups[order] = 1 + np.minimum(9, 10 * passed // max(1, counts.sum()))
    return np.where(counts > 0, groups, 0)


def _in_tenths(before: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which tenth of earlier numbers each number lies in, integer `[rows]`; 10 where it is missing. Of few
    different numbers, such as stars, each has a bin of its own."""
    known = np.unique(before[~np.isnan(before)])
    edges = known[1:] if len(known) <= 10 else np.quantile(before[~np.isnan(before)], TENTHS)
    return np.where(np.isnan(values), 10, np.searchsorted(edges, values, "right"))


def _beyond_chance(
    name: str,
    before: np.ndarray,
    now: np.ndarray,
    rng: np.random.Generator,
    chance: dict[tuple[str, int], float],
) -> float:
    """The distance, less what samples of as many earlier rows have on average."""
    size = int(max(before.max(initial=0), now.max(initial=0))) + 1

    def counts(values: np.ndarray) -> np.ndarray:
        return np.bincount(values[values >= 0].ravel(), minlength=size)

    whole, part = counts(before), counts(now)
    if not whole.sum() or not part.sum():
        return 1.0 if whole.sum() != part.sum() else 0.0
    if (name, len(now)) not in chance:
        samples = [counts(before[rng.integers(0, len(before), len(now))]) for _ in range(SAMPLES)]
        chance[name, len(now)] = float(
            np.mean([divergence(whole, one) if one.sum() else 0.0 for one in samples])
        )
    return max(0.0, divergence(whole, part) - chance[name, len(now)])
