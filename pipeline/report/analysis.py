"""Analysis of the models beyond the Evaluators' figures, from a sample of test users."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.stats
import tensorflow as tf

from pipeline.data.examples import read
from pipeline.report.asking import Model, SampledUser, context_of, sample_users
from pipeline.report.explaining import PartShare, Question, explained, of_users, part_shares
from pipeline.report.run_files import Item, RunFiles
from tfrec_fusion.metrics import accuracy, beyond_accuracy
from tfrec_fusion.serving.client.explanations import Explanation

USERS, CANDIDATES, K = 300, 50, 10
WEIGHTS = tuple(round(0.1 * step, 1) for step in range(11))
EVERY_CELL = 2**30
WORST_OF = 20_000
USERS_ASKED, ITEMS_ASKED = 100, 5
"""Users of the sample whose recommendations are explained, and how many of each."""


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """One re-ranking weight: NDCG, mean distance within lists and share of the catalogue at `K`."""

    weight: float
    ndcg: float
    diversity: float
    coverage: float


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How the two models order one user's candidates: Spearman's rho, and the favourites of both."""

    user: SampledUser
    correlation: float
    retrieval: list[str]
    ranking: list[str]


@dataclasses.dataclass(frozen=True)
class Failure:
    """A held-out item that the model ranked low."""

    user: str
    history: list[str]
    seen: list[str]
    context: dict[str, str]
    item: str
    rank: float
    popularity_rank: float
    explanation: Explanation | None = None


@dataclasses.dataclass(frozen=True)
class Analysis:
    """All of it.

    Attributes:
        users: the sample.
        recommended: item ids for each of them.
        popular: what popularity would show them.
        curve: accuracy against diversity.
        exposure: share of interactions, of recommendations and of popularity's recommendations by tenth of
            the catalogue, the most popular tenth first; `[3, 10]`.
        index: `recall`, share of the exact top `K` that the index finds; milliseconds of one request as it is
            tuned and with every cell read.
        agreement: one entry a user; empty without a ranking model.
        failures: the worst first.
        explanations: of the first `ITEMS_ASKED` recommendations of each of the first `USERS_ASKED` users;
            empty for a model of before.
        part_shares: what recommendations live from.
    """

    users: list[SampledUser]
    recommended: list[list[str]]
    popular: list[list[str]]
    curve: list[CurvePoint]
    exposure: np.ndarray
    index: dict[str, float]
    agreement: list[Agreement]
    failures: list[Failure]
    explanations: list[list[Explanation]]
    part_shares: list[PartShare]


def analyse(
    run: RunFiles, items: dict[str, Item], say: Callable[[str], object] = lambda text: None
) -> Analysis:
    """Loads both models and asks them.

    Args:
        run: the run.
        items: its catalogue.
        say: is told what is being done.
    """
    say("reads the test interactions")
    examples = run.test_examples()
    users = sample_users(examples, USERS)
    say("loads the retrieval model")
    retrieval = Model(run.model("retrieval"))
    say("asks for recommendations")
    recommended, _ = retrieval.recommend(users, K)
    popular = popular_lists(users, items)
    say("varies the diversity weight")
    curve = diversity_curve(retrieval, users, len(items))
    say("measures the index")
    index = index_figures(retrieval, users)
    candidates, _ = retrieval.recommend(users, CANDIDATES)
    say("looks for the worst failures")
    failures = worst_failures(retrieval, examples)
    say("explains")
    questions = of_users(users[:USERS_ASKED], recommended[:USERS_ASKED], ITEMS_ASKED)
    explanations = explained(retrieval, questions, K)
    failures = with_reasons(retrieval, failures)
    agreement: list[Agreement] = []
    if "ranking" in run.kinds:
        say("loads the ranking model")
        agreement = agreements(Model(run.model("ranking")), users, candidates)
    exposure = np.stack(
        [
            interactions_by_tenth(items),
            exposure_by_tenth(recommended, items),
            exposure_by_tenth(popular, items),
        ]
    )
    return Analysis(
        users,
        recommended,
        popular,
        curve,
        exposure,
        index,
        agreement,
        failures,
        explanations,
        part_shares(explanations, items),
    )


def with_reasons(model: Model, failures: list[Failure]) -> list[Failure]:
    """The failures, each with the explanation of why the item was missed."""
    questions = [Question(one.user, one.history, [one.item], one.seen, one.context) for one in failures]
    answers = explained(model, questions, K)
    return [
        dataclasses.replace(failure, explanation=answer[0]) if answer else failure
        for failure, answer in zip(failures, answers, strict=True)
    ]


def popular_lists(users: list[SampledUser], items: dict[str, Item]) -> list[list[str]]:
    """The most popular items that each user has not met."""
    shuffle = np.random.default_rng(0).random(len(items))
    order = [
        name
        for _, _, name in sorted(
            (-item.train_count, tie, name) for (name, item), tie in zip(items.items(), shuffle, strict=True)
        )
    ]
    lists = []
    for user in users:
        seen = set(user.seen)
        lists.append([name for name in order[: K + len(seen)] if name not in seen][:K])
    return lists


def diversity_curve(model: Model, users: list[SampledUser], num_items: int) -> list[CurvePoint]:
    """NDCG, diversity and coverage for each weight of the re-ranking that `recommend` offers."""
    lists = {weight: model.recommend(users, K, diversity=weight)[0] for weight in WEIGHTS}
    ids = sorted(
        {item for of_weight in lists.values() for row in of_weight for item in row}
        | {item for user in users for item in user.held_out}
    )
    rows = {name: row for row, name in enumerate(ids)}
    vectors = model.item_vectors(ids)
    relevant = [
        np.unique([rows[item] for item in user.held_out if item not in user.seen]).astype(int)
        for user in users
    ]
    points = []
    for weight, of_weight in lists.items():
        ranked = as_rows(of_weight, rows)
        points.append(
            CurvePoint(
                weight,
                accuracy.evaluate(ranked, relevant, (K,))[f"ndcg@{K}"],
                beyond_accuracy.intra_list_diversity(ranked, vectors),
                beyond_accuracy.coverage(ranked, num_items),
            )
        )
    return points


def as_rows(lists: list[list[str]], rows: dict[str, int]) -> np.ndarray:
    """int64 `[lists, K]`, -1 where a list is shorter."""
    ranked = np.full((len(lists), K), -1, np.int64)
    for position, items in enumerate(lists):
        ranked[position, : len(items)] = [rows[item] for item in items]
    return ranked


def index_figures(model: Model, users: list[SampledUser]) -> dict[str, float]:
    """What the index finds of the exact answer, and how long one request takes."""

    def timed(**options: Any) -> float:
        taken = []
        for user in users[:20]:
            start = time.perf_counter()
            model.recommend([user], K, **options)
            taken.append(time.perf_counter() - start)
        return 1000 * float(np.median(taken))

    tuned, exact = (model.recommend(users, K, probes=probes)[0] for probes in (0, EVERY_CELL))
    shared = [
        len(set(one) & set(other)) / max(1, len(other)) for one, other in zip(tuned, exact, strict=True)
    ]
    return {
        "recall": float(np.mean(shared)),
        "milliseconds": timed(probes=0),
        "milliseconds_exact": timed(probes=EVERY_CELL),
    }


def agreements(model: Model, users: list[SampledUser], candidates: list[list[str]]) -> list[Agreement]:
    """Rank correlation of both models' orders over the retrieval model's candidates, the least agreeing
    first."""
    agreements = []
    scores = model.rank(users, candidates)
    for user, items, heads in zip(users, candidates, scores, strict=True):
        score = heads["rating"] if "rating" in heads else heads["click"]
        if len(items) > 2 and np.ptp(score) > 0:
            rho = float(scipy.stats.spearmanr(-np.arange(len(items)), score).statistic)
            order = np.argsort(-score, kind="stable")
            agreements.append(Agreement(user, rho, items[:K], [items[position] for position in order[:K]]))
    return sorted(agreements, key=lambda entry: entry.correlation)


def worst_failures(model: Model, examples: list[tf.train.Example], count: int = 12) -> list[Failure]:
    """The held-out items of test interactions that rank lowest, one a user; of many interactions a sample
    is asked."""
    chosen = np.random.default_rng(0).permutation(len(examples))[:WORST_OF]
    asked = [examples[position] for position in chosen]
    ranks = model.ranks(asked)
    order = [
        position
        for position in np.argsort(-np.nan_to_num(ranks, nan=0.0), kind="stable")
        if ranks[position] > 0
    ]
    failures: dict[str, Failure] = {}
    for position in order:
        example = asked[position]
        user = read(example, "user_id")[0]
        popularity = (read(example, "baseline_popularity_rank") or [float("nan")])[0]
        failure = Failure(
            user,
            read(example, "history"),
            read(example, "seen"),
            context_of(example),
            read(example, "item_id")[0],
            float(ranks[position]),
            popularity,
        )
        failures.setdefault(user, failure)
        if len(failures) == count:
            break
    return list(failures.values())


def tenths(items: dict[str, Item]) -> dict[str, int]:
    """Item → its tenth of the catalogue by popularity, 0 for the most popular."""
    order = sorted(items, key=lambda name: (-items[name].train_count, name))
    return {name: min(9, 10 * position // len(order)) for position, name in enumerate(order)}


def interactions_by_tenth(items: dict[str, Item]) -> np.ndarray:
    """Share of the training interactions that fall on each tenth."""
    tenth = tenths(items)
    totals = np.zeros(10)
    for name, item in items.items():
        totals[tenth[name]] += item.train_count
    return totals / max(1.0, totals.sum())


def exposure_by_tenth(lists: list[list[str]], items: dict[str, Item]) -> np.ndarray:
    """Share of recommendations that fall on each tenth."""
    tenth = tenths(items)
    totals = np.bincount(
        [tenth[name] for row in lists for name in row if name in tenth], minlength=10
    ).astype(float)
    return totals / max(1.0, totals.sum())
