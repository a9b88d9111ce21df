"""Both models fitted to tables, with everything that an answer needs beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.config import FeatureSpace, LabelKind, check_labels
from tfrec_fusion.config.pretrained import check_start
from tfrec_fusion.config.privacy import check_catalogue
from tfrec_fusion.config.recommender import RecommenderConfig
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.export.base import Signatures, TextTower, concrete, graph
from tfrec_fusion.export.parts import (
    ranking_by_validation,
    searchable_index,
    trained_text_tower,
)
from tfrec_fusion.export.ranking import RankingSignatures
from tfrec_fusion.export.recommender import RecommenderSignatures
from tfrec_fusion.export.retrieval import RetrievalSignatures
from tfrec_fusion.features.graph import request_spec
from tfrec_fusion.features.preparing import Known, prepare
from tfrec_fusion.features.reviews import check_reviews
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.training.batches import batches
from tfrec_fusion.training.history import History
from tfrec_fusion.training.privacy.report import PrivacyReport, as_json, said
from tfrec_fusion.training.recipes import (
    Trained,
    TrainingData,
    check_given,
    train_ranking,
    train_retrieval,
)
from tfrec_fusion.training.refitting import Refit, refit_ranking, refit_retrieval

__all__ = ["Fitted", "HeldOut", "fit_models"]

Say = Callable[[str], None]
Progress = bool | Callable[[dict[str, float]], None]


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Interactions to judge by.

    Attributes:
        columns: as models take them, `[n, ...]`, with `item_index` and, where there are any, labels.
        users: int64 `[n]`, equal where two rows are of one user.
        seen: per row int32, the items that its user chose before.
    """

    columns: Mapping[str, np.ndarray]
    users: np.ndarray
    seen: list[np.ndarray]


@dataclasses.dataclass
class Fitted:
    """Fitted models.

    Attributes:
        config: how they were made.
        space: sizes and features.
        labels: of the ranking model.
        known: tables' columns, users, and what becomes of a request.
        retrieval: the two-tower model.
        ranking: the ranking model; None where it was left out.
        catalogues: the items as each model learned their texts.
        head, rank_weight: the label that orders items, and how much that counts beside the retrieval.
        held_out: the test split; None where it was not kept.
        judged: the models as they were before they were fitted to all rows, by which `held_out` is answered;
            None where these are the same.
        privacy: what private training of each model spent; empty where it was not private.
    """

    config: RecommenderConfig
    space: FeatureSpace
    labels: dict[str, LabelKind]
    known: Known
    retrieval: TwoTower
    ranking: Ranking | None
    catalogues: dict[str, Catalogue]
    head: str = ""
    rank_weight: float = 0.0
    held_out: HeldOut | None = None
    judged: Fitted | None = None
    privacy: dict[str, PrivacyReport] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._signatures: dict[str, Signatures] = {}
        self._towers: dict[str, TextTower | None] = {}
        self._functions: dict[tuple[str, str], Callable[..., dict[str, tf.Tensor]]] = {}

    @property
    def catalogue(self) -> Catalogue:
        """The items as the retrieval model knows them."""
        return self.catalogues["retrieval"]

    @property
    def spent(self) -> dict[str, dict[str, Any]]:
        """What private training spent, in plain values (`training.privacy.report.as_json`)."""
        return as_json(self.privacy)

    @property
    def kinds(self) -> list[str]:
        """What can be exported: `recommender` first where both models become one."""
        kinds = ["retrieval", *(["ranking"] if self.ranking is not None else [])]
        return ["recommender", *kinds] if self.config.builds_recommender else kinds

    def serving(self, kind: str) -> Any:
        """The signatures of a model, made when they are first asked for."""
        if kind not in self._signatures:
            self._signatures[kind] = self._made(kind)
        return self._signatures[kind]

    def spec(self, kind: str, signature: str) -> dict[str, tf.TensorSpec]:
        """The inputs of one signature."""
        serving = self.serving(kind)
        own = getattr(serving, f"{signature}_spec", None)
        return own() if own else serving.input_spec(signature)

    def function(self, kind: str, signature: str) -> Callable[..., dict[str, tf.Tensor]]:
        """One signature of a model: `recommend`, `rank`, `similar` or `explain`."""
        if (kind, signature) not in self._functions:
            asked = graph(getattr(self.serving(kind), signature))
            self._functions[kind, signature] = concrete(asked, **self.spec(kind, signature))
        return self._functions[kind, signature]

    def _made(self, kind: str) -> Signatures:
        index = self.config.index
        if kind == "ranking":
            assert self.ranking is not None  # it is one of `kinds`
            return RankingSignatures(self.ranking, *self._arguments(kind, self.ranking))
        searched = searchable_index(self.retrieval, self.catalogue, index)
        arguments = self._arguments("retrieval", self.retrieval)
        if kind == "retrieval":
            return RetrievalSignatures(self.retrieval, *arguments, index=searched, max_k=index.max_k)
        assert self.ranking is not None  # `builds_recommender`
        return RecommenderSignatures(
            self.retrieval,
            *arguments,
            index=searched,
            max_k=index.max_k,
            ranking=self.ranking,
            head=self.head,
            rank_weight=self.rank_weight,
        )

    def _arguments(self, kind: str, model: Any) -> tuple:
        tower = kind if self.config.text and self.config.text.trained else "both"
        if tower not in self._towers:
            self._towers[tower] = trained_text_tower(model, self.config.text)
        return (
            self.catalogues[kind],
            self.known.profiles,
            self.space.item_features,
            self.space.context_features,
            self._towers[tower],
            self.known.transform,
            request_spec(self.known.tables),
        )


def fit_models(
    tables: Tables,
    config: RecommenderConfig,
    vectors: str | None = None,
    say: Say = lambda line: None,
    progress: Callable[[str], Progress] = lambda kind: False,
) -> Fitted:
    """Reads tables, and trains both models on them as the pipeline does.

    Args:
        tables: the three tables.
        config: how.
        vectors: folder that keeps text vectors for the next time.
        say: is called with each step.
        progress: `fit`'s argument of that name for `retrieval` and `ranking`.

    Raises:
        ConfigError: for tables that cannot be used.
    """
    check_catalogue(config.private, tables.items.path == tables.interactions.path or tables.items.distinct)
    check_reviews(tables, config.text, config.ranking is not None, config.private)
    start = check_start(config.retrieval, config.text, config.split.history_length)
    if start is not None:
        say(f"retrieval starts from {config.retrieval.warm_start}: {start.words}")
    data = prepare(
        tables,
        config.split,
        config.transform,
        config.text,
        click_threshold=config.data.click_threshold,
        max_reject_share=config.data.max_reject_share,
        vectors=vectors,
    )
    assert data.known is not None
    if config.ranking is not None:
        check_labels(config.ranking, data.labels)
    sizes = ", ".join(
        f"{len(getattr(data, part)['item_index']):,} {part}" for part in ("train", "validation", "test")
    )
    say(
        f"{len(data.catalogue) - 1:,} items, {len(data.known.profiles.ids) - 1:,} users; interactions:"
        f" {sizes}"
    )
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    training = TrainingData(
        data.space,
        data.catalogue,
        lambda split, size, shuffle: batches(parts[split], size, shuffle),
        data.labels,
        config.text,
        data.known.profiles,
    )
    if config.ranking is not None:
        check_given(training, config.ranking)
    retrieval = train_retrieval(training, config.retrieval, progress=progress("retrieval"))
    catalogues = {"retrieval": retrieval.catalogue}
    spent = {"retrieval": retrieval.privacy} if retrieval.privacy else {}
    ranking, head, weight = None, "", 0.0
    if config.ranking is not None:
        ranked = train_ranking(training, config.ranking, progress=progress("ranking"))
        catalogues["ranking"], ranking = ranked.catalogue, ranked.model
        head = next(iter(data.labels))
        spent |= {"ranking": ranked.privacy} if ranked.privacy else {}
        # Validation would tell of its users: a private recommender ranks where a request asks for it.
        if config.builds_recommender and not config.private:
            head, weight, _ = ranking_by_validation(
                retrieval.model, ranking, data.catalogue, training.batches
            )
    for line in said(spent):
        say(line)
    held_out = HeldOut(data.test, data.users, data.seen)
    judged = Fitted(
        config,
        data.space,
        data.labels,
        data.known,
        retrieval.model,
        ranking,
        catalogues,
        head,
        weight,
        held_out,
        privacy=spent,
    )
    return refitted(judged, training, say)


def refitted(judged: Fitted, data: TrainingData, say: Say = lambda line: None) -> Fitted:
    """The models fitted to all rows, as a run does before it pushes.

    Args:
        judged: the models, which go on answering for what was held out.
        data: what they were trained on.
        say: is told what became of each.
    """
    config, catalogues = judged.config, dict(judged.catalogues)
    results: dict[str, Refit] = {}
    if config.retrieval.training.refits:
        model = Trained(judged.retrieval, History(), catalogues["retrieval"])
        results["retrieval"] = refit_retrieval(model, data, config.retrieval)
    if config.ranking is not None and judged.ranking is not None and config.ranking.training.refits:
        ranking = Trained(judged.ranking, History(), catalogues["ranking"])
        results["ranking"] = refit_ranking(ranking, data, config.ranking)
    models = {}
    for kind, result in results.items():
        if result.report["used"]:
            catalogues[kind], models[kind] = result.catalogue, result.model
        else:
            say(f"{kind} stays as it was judged: {result.report['reason']}")
    if not models:
        return judged
    say(f"fitted to all rows: {' and '.join(models)}")
    return dataclasses.replace(judged, **models, catalogues=catalogues, judged=judged)
