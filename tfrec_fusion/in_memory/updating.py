"""A retrieval model that learns on from an earlier one, and the comparison of both on the newest window.

What came since is learned with some of what was there before (replay), from the earlier weights; factors and
the content part are solved again from everything; texts are encoded where they are new.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfrec_fusion.config import ConfigError
from tfrec_fusion.config.recommender import RecommenderConfig
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features.columns import USER_VOCABULARY, context_features, item_features, user_features
from tfrec_fusion.features.preparing import Prepared, prepare
from tfrec_fusion.in_memory.fitted import Fitted, HeldOut
from tfrec_fusion.metrics.bootstrap import group_sums, interval, resample
from tfrec_fusion.metrics.ranks import per_user_figures
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.models.warm_starting import old_rows, warm_start
from tfrec_fusion.training.batches import batches, chosen_rows
from tfrec_fusion.training.recipes import TrainingData, continue_retrieval

__all__ = ["Base", "Comparison", "NothingNew", "Updated", "base_of", "compare", "update"]

ROWS = 1024  # judged at once


class NothingNew(ConfigError):
    """There is nothing that the earlier model was not trained on."""


@dataclasses.dataclass(frozen=True)
class Base:
    """What an update starts from.

    Attributes:
        model: the earlier model.
        item_ids: by its index, 0 none.
        user_ids: likewise, as bytes.
        vocabularies: its values of categorical features, by vocabulary.
        until: nanoseconds since 1970 of the newest interaction that it was trained on.
    """

    model: TwoTower
    item_ids: Sequence[str]
    user_ids: Sequence[bytes]
    vocabularies: Mapping[str, Sequence[bytes]]
    until: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Both models on the newest interactions, as means over users.

    Attributes:
        users: how many there are.
        before, after: NDCG at `k` of the earlier and of the new model.
        low, high: ends of the 95 % interval of the difference, from a bootstrap over users.
        k: the cutoff.
    """

    users: int
    before: float
    after: float
    low: float
    high: float
    k: int

    def reasons(self, max_drop: float | None) -> list[str]:
        """Why the new model must not take the earlier one's place; empty where it may: unless it is worse by
        more than `max_drop` with the whole interval."""
        if max_drop is None or not self.high < -max_drop:
            return []
        return [
            f"ndcg@{self.k} on the newest window is {self.after:.4f}, before {self.before:.4f}: lower by more"
            f" than {max_drop:g} (95 % interval of the difference {self.low:+.4f} to {self.high:+.4f})"
        ]


@dataclasses.dataclass(frozen=True)
class Updated:
    """What an update made.

    Attributes:
        fitted: the new model, with what it is served beside.
        until: as in `Base`, of the new model.
        new_rows, replayed_rows: interactions that the towers were trained on.
        new_items, new_users: that the earlier model did not know.
        comparison: with the earlier model.
        data: what it was trained and judged on.
    """

    fitted: Fitted
    until: int
    new_rows: int
    replayed_rows: int
    new_items: int
    new_users: int
    comparison: Comparison
    data: Prepared


def base_of(fitted: Fitted, until: int) -> Base:
    """A base of models that were fitted in memory."""
    known = fitted.known
    names = {
        feature.vocabulary: [name.encode() for name in fitted.catalogue.names[feature.name][1:]]
        for feature in item_features(known.tables)
        if feature.name in fitted.catalogue.names
    }
    learned = known.transform.statistics.vocabularies
    features = {
        feature.vocabulary for feature in (*user_features(known.tables), *context_features(known.tables))
    }
    return Base(
        fitted.retrieval,
        [str(item) for item in fitted.catalogue.ids],
        [b"", *learned[USER_VOCABULARY]],
        {**names, **{name: values for name, values in learned.items() if name in features}},
        until,
    )


def update(
    base: Base,
    tables: Tables,
    config: RecommenderConfig,
    *,
    replay: float = 0.2,
    epochs: int = 3,
    vectors: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Updated:
    """Trains on what came since an earlier model.

    Args:
        base: the earlier model.
        tables: the tables as they are now, with everything old and new.
        config: as the earlier model was made.
        replay: share of the older interactions that are learned again.
        epochs: at most.
        vectors: folder that keeps text vectors.
        say: is told of each step.

    Raises:
        NothingNew: if no interaction of training is newer than the earlier model's.
        ConfigError: for tables that cannot be used, or settings that the earlier model was not made with.
    """
    if config.text is not None and config.text.trained:
        raise ConfigError(
            f"An update needs `text.stage: frozen`. Received: {config.text.stage!r}, where the encoder is"
            " trained along. Train anew with `tfrec run`."
        )
    data = prepare(
        tables,
        config.split,
        config.transform,
        config.text,
        click_threshold=config.data.click_threshold,
        max_reject_share=config.data.max_reject_share,
        vectors=vectors,
        known=base.vocabularies,
    )
    assert data.known is not None and data.times is not None
    columns, times = chosen_rows(data.train), _chosen_times(data)
    new = times > base.until
    if not new.any():
        raise NothingNew(
            "An update needs interactions of training that are newer than the earlier model's. Received:"
            " none. Append some; those of the newest windows are held out to judge by."
        )
    kept = new | (np.random.default_rng(config.retrieval.training.seed).random(len(new)) < replay)
    recent = {name: values[kept] for name, values in columns.items() if name not in ("chosen", "exposure")}
    item_rows = old_rows([str(item) for item in data.catalogue.ids], list(base.item_ids))
    users = [b"", *data.known.transform.statistics.vocabularies[USER_VOCABULARY]]
    user_rows = old_rows(users, list(base.user_ids))  # type: ignore[arg-type]  # bytes are ids too
    say(
        f"{int(new.sum()):,} new interactions and {int((kept & ~new).sum()):,} older ones;"
        f" {int((item_rows < 0).sum()):,} new items, {int((user_rows < 0).sum()):,} new users"
    )
    retrieval = config.retrieval
    training = dataclasses.replace(retrieval.training, epochs=min(epochs, retrieval.training.epochs))
    parts = {"train": data.train, "validation": data.validation}
    trained = continue_retrieval(
        TrainingData(
            data.space,
            data.catalogue,
            lambda split, size, shuffle: batches(parts[split], size, shuffle),
            data.labels,
            config.text,
        ),
        dataclasses.replace(retrieval, training=training),
        lambda model: _start(model, base, item_rows, user_rows),
        batches(recent, training.batch_size, training.seed),
    )
    say("compares both models on the newest window")
    comparison = compare(base.model, trained.model, data, item_rows, user_rows)
    fitted = Fitted(
        dataclasses.replace(config, ranking=None),
        data.space,
        data.labels,
        data.known,
        trained.model,
        None,
        {"retrieval": trained.catalogue},
        held_out=HeldOut(data.test, data.users, data.seen),
    )
    return Updated(
        fitted,
        int(times.max()),
        int(new.sum()),
        int((kept & ~new).sum()),
        int((item_rows < 0).sum()),
        int((user_rows < 0).sum()),
        comparison,
        data,
    )


def _start(model: TwoTower, base: Base, item_rows: np.ndarray, user_rows: np.ndarray) -> None:
    try:
        warm_start(model, base.model, item_rows, user_rows, solved=False)
    except ValueError as error:
        raise ConfigError(
            "An update needs the columns and settings that the earlier model was made with. Received: others"
            f" ({error}) Train anew with `tfrec run`."
        ) from error


def compare(
    old: TwoTower, new: TwoTower, data: Prepared, item_rows: np.ndarray, user_rows: np.ndarray, k: int = 10
) -> Comparison:
    """NDCG of both on the test interactions, items that a user chose before left out.

    Args:
        old, new: the models.
        data: as the new model takes it.
        item_rows, user_rows: where each of its items and users stood in the old one; -1 where it did not.
        k: the cutoff.
    """
    items, users = np.maximum(item_rows, 0), np.maximum(user_rows, 0)
    asked = {name: values for name, values in data.test.items() if name not in ("chosen", "exposure")}
    before = {**asked, "user_index": users[asked["user_index"]].astype(np.int32),
              "history": items[asked["history"]].astype(np.int32)}  # fmt: skip
    # A history that is shorter for want of an item is padded on the left again.
    order = np.argsort(before["history"] > 0, axis=1, kind="stable")
    before["history"] = np.take_along_axis(before["history"], order, 1)
    ranks = [
        _ranks(new, asked, asked["item_index"], data.seen, np.arange(len(item_rows))),
        _ranks(old, before, asked["item_index"], data.seen, item_rows),
    ]
    usable = np.isfinite(ranks[0]) | np.isfinite(ranks[1])
    target, owners = asked["item_index"][usable], data.users[usable]
    values = [per_user_figures(owners, rank[usable], [k], target)[f"ndcg@{k}"] for rank in ranks]
    difference = values[0] - values[1]
    counts = np.arange(len(difference))
    sums = group_sums(counts, np.stack([difference, np.ones(len(difference))], 1))
    drawn = resample(sums)
    low, high = interval(drawn[:, 0] / np.maximum(drawn[:, 1], 1e-9))
    return Comparison(len(difference), float(values[1].mean()), float(values[0].mean()), low, high, k)


def _ranks(
    model: TwoTower,
    columns: Mapping[str, np.ndarray],
    targets: np.ndarray,
    seen: Sequence[np.ndarray],
    rows: np.ndarray,
) -> np.ndarray:
    """The rank of each target among all items of the new catalogue that its user did not choose before; of
    equal scores the middle one, rounded up. Infinite where the model does not know the item or it was seen.

    Args:
        model: asked.
        columns: its inputs.
        targets: int32 `[n]`, rows of the new catalogue.
        seen: per row the items chosen before, likewise.
        rows: of each item of the new catalogue its row in the model; -1 where it has none.
    """
    vectors = model.candidate_embeddings(tf.constant(np.maximum(rows, 0), tf.int32)).numpy()
    ranks = np.full(len(targets), np.inf)
    for start in range(0, len(targets), ROWS):
        part = slice(start, start + ROWS)
        queries = model.query_embeddings(
            {name: tf.constant(values[part]) for name, values in columns.items()}
        )
        scores = queries.numpy() @ vectors.T
        scores[:, rows < 1] = -np.inf
        for row, items in enumerate(seen[part]):
            scores[row, items] = -np.inf
        own = scores[np.arange(len(scores)), targets[part]]
        above = (scores > own[:, None]).sum(1)
        level = (scores == own[:, None]).sum(1)
        found = np.where(np.isfinite(own), above + np.ceil((level + 1) / 2), np.inf)
        ranks[part] = found
    return ranks


def _chosen_times(data: Prepared) -> np.ndarray:
    assert data.times is not None
    return data.times[data.train["chosen"] > 0] if "chosen" in data.train else data.times
