"""Models that learn on from earlier ones, which they are compared with on the newest window.

What came since is learned with some of what was there before (replay), from the earlier weights:
choices, what was shown and not chosen by the ranking model, dislikes where they count. Factors and the
content part are solved again from everything; texts are encoded where they are new.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from tfrec_fusion.config import ConfigError, RankingConfig, RetrievalConfig
from tfrec_fusion.config.recommender import RecommenderConfig
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.export.parts import ranking_by_validation
from tfrec_fusion.features.columns import USER_VOCABULARY, context_features, item_features, user_features
from tfrec_fusion.features.preparing import Prepared, prepare
from tfrec_fusion.in_memory.comparing import Comparison, compare, compare_ranking
from tfrec_fusion.in_memory.fitted import Fitted, HeldOut
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.models.warm_starting import old_rows, warm_start
from tfrec_fusion.training.batches import batches
from tfrec_fusion.training.recipes import TrainingData, continue_ranking, continue_retrieval

__all__ = ["Base", "NothingNew", "Updated", "base_of", "update"]


AnyConfig = TypeVar("AnyConfig", RetrievalConfig, RankingConfig)


class NothingNew(ConfigError):
    """There is nothing that the earlier model was not trained on."""


@dataclasses.dataclass(frozen=True)
class Base:
    """What an update starts from.

    Attributes:
        model: the earlier retrieval model.
        item_ids: by its index, 0 none.
        user_ids: likewise, as bytes.
        vocabularies: its values of categorical features, by vocabulary.
        until: nanoseconds since 1970 of the newest interaction that it was trained on.
        ranking: the earlier ranking model, of the same items, users and vocabularies; None where there is
            none, or it is not to learn.
    """

    model: TwoTower
    item_ids: Sequence[str]
    user_ids: Sequence[bytes]
    vocabularies: Mapping[str, Sequence[bytes]]
    until: int
    ranking: Ranking | None = None


@dataclasses.dataclass(frozen=True)
class Updated:
    """What an update made.

    Attributes:
        fitted: the new models, with what they are served beside.
        until: as in `Base`, of the new models.
        new_rows, replayed_rows: choices that the towers were trained on.
        new_items, new_users: that the earlier models did not know.
        comparison: of the retrieval models.
        data: what they were trained and judged on.
        ranking: comparison of the ranking models; None without.
    """

    fitted: Fitted
    until: int
    new_rows: int
    replayed_rows: int
    new_items: int
    new_users: int
    comparison: Comparison
    data: Prepared
    ranking: Comparison | None = None

    def reasons(self, max_drop: float | None) -> list[str]:
        """Why the new models must not take the earlier ones' place: both do, or neither, since they answer
        together and the next update starts from both."""
        compared = [self.comparison, *([self.ranking] if self.ranking is not None else [])]
        return [reason for one in compared for reason in one.reasons(max_drop)]


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
        fitted.ranking,
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
        config: as the earlier models were made. Without `ranking`, or a ranking model in `base`, retrieval
            alone learns.
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
    if config.private:
        raise ConfigError(
            "An update needs training without `privacy`: what is learned on top of an earlier model would"
            " spend more than was counted. Received: `training.privacy`. Train anew with `tfrec run`."
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
    rows, learned, replayed = _to_learn(data, base.until, replay, config.retrieval.training.seed)
    item_rows = old_rows([str(item) for item in data.catalogue.ids], list(base.item_ids))
    users = [b"", *data.known.transform.statistics.vocabularies[USER_VOCABULARY]]
    user_rows = old_rows(users, list(base.user_ids))  # type: ignore[arg-type]  # bytes are ids too
    new_items, new_users = (int((found < 0).sum()) for found in (item_rows, user_rows))
    say(
        f"{learned:,} new interactions and {replayed:,} older ones; {new_items:,} new items, {new_users:,}"
        " new users"
    )
    everything = _training_data(data, data.train, config)
    recent = _training_data(data, rows, config)

    def start(earlier: Model) -> Callable[[Model], None]:
        return lambda model: _start(model, earlier, item_rows, user_rows)

    trained = continue_retrieval(everything, _fewer(config.retrieval, epochs), start(base.model), recent)
    say("compares the retrieval models on the newest window")
    comparison = compare(base.model, trained.model, data, item_rows, user_rows)
    catalogues, ranking, ranked, head, weight = {"retrieval": trained.catalogue}, None, None, "", 0.0
    if (earlier := base.ranking) is not None and config.ranking is not None:
        say("the ranking model learns too, and is compared")
        continued = continue_ranking(everything, _fewer(config.ranking, epochs), start(earlier), recent)
        catalogues["ranking"], ranking = continued.catalogue, continued.model
        ranked = compare_ranking(earlier, ranking, data, item_rows, user_rows)
        head, weight, _ = ranking_by_validation(trained.model, ranking, data.catalogue, everything.batches)
    fitted = Fitted(
        config if ranking is not None else dataclasses.replace(config, ranking=None),
        data.space,
        data.labels,
        data.known,
        trained.model,
        ranking,
        catalogues,
        head,
        weight,
        held_out=HeldOut(data.test, data.users, data.seen),
    )
    until = int(data.times[_chosen(data)].max())
    return Updated(fitted, until, learned, replayed, new_items, new_users, comparison, data, ranked)


def _chosen(data: Prepared) -> np.ndarray:
    """bool, which rows of training are choices."""
    rows = data.train["item_index"]
    return np.asarray(data.train.get("chosen", np.ones(len(rows)))) > 0


def _to_learn(data: Prepared, until: int, replay: float, seed: int) -> tuple[dict[str, np.ndarray], int, int]:
    """The rows of training after a moment and a share of those before, and how many of either are choices."""
    assert data.times is not None
    new, chosen = data.times > until, _chosen(data)
    if not (new & chosen).any():
        raise NothingNew(
            "An update needs interactions of training that are newer than the earlier model's. Received:"
            " none. Append some; those of the newest windows are held out to judge by."
        )
    kept = new | (np.random.default_rng(seed).random(len(new)) < replay)
    rows = {name: values[kept] for name, values in data.train.items()}
    return rows, int((chosen & new).sum()), int((chosen & kept & ~new).sum())


def _start(model: Model, earlier: Model, item_rows: np.ndarray, user_rows: np.ndarray) -> None:
    """Gives a new model what an earlier one learned."""
    try:
        warm_start(model, earlier, item_rows, user_rows, solved=False)
    except ValueError as error:
        raise ConfigError(
            "An update needs the columns and settings that the earlier model was made with. Received:"
            f" others ({error}) Train anew with `tfrec run`."
        ) from error


def _training_data(data: Prepared, rows: Mapping[str, np.ndarray], config: RecommenderConfig) -> TrainingData:
    parts = {"train": rows, "validation": data.validation}
    return TrainingData(
        data.space,
        data.catalogue,
        lambda split, size, shuffle: batches(parts[split], size, shuffle),
        data.labels,
        config.text,
    )


def _fewer(config: AnyConfig, epochs: int) -> AnyConfig:
    training = dataclasses.replace(config.training, epochs=min(epochs, config.training.epochs))
    return dataclasses.replace(config, training=training)
