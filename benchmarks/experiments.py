"""Live experiments simulated: coverage of intervals, error rates under peeking, power, interleaving, regret.

    python -m benchmarks.experiments
    python -m benchmarks.experiments --seeds 2000

Users come one after the other, have rates of their own and see different numbers of items, so that
impressions are not independent. Printed are how often 95 % intervals hold the true difference; how often an
experiment without a difference is called at any of many looks; how often one with the planned difference is
found; how many users arms and interleaving need; and what exploration costs and gains in a catalogue that
gets new items.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import platform

import numpy as np

from tfrec_fusion.experiments.comparing import compare
from tfrec_fusion.experiments.exploring import Exploration, explore
from tfrec_fusion.experiments.interleaving import team_draft
from tfrec_fusion.experiments.planning import minimum_effect
from tfrec_fusion.experiments.preferences import preference

Side = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Intervals of one kind of metric over seeds: how often they hold the truth, and their mean width."""

    name: str
    coverage: float
    width: float


@dataclasses.dataclass(frozen=True)
class Peeking:
    """Shares of experiments.

    Attributes:
        single_false, always_false: without a difference, called at any look by single-look and by
            always-valid intervals.
        always_found, final_found: with the planned difference, found at any look by always-valid intervals,
            and at the last look by the single one.
        stopped: units seen when the always-valid interval first excluded 0, as a share of all (mean over
            those that were found).
    """

    single_false: float
    always_false: float
    always_found: float
    final_found: float
    stopped: float


def users(rng: np.random.Generator, count: int, lift: float = 0.0) -> tuple[Side, np.ndarray]:
    """Clicks and impressions of users, and clicks of the same users before.

    Args:
        rng: draws.
        count: users.
        lift: added to each user's click rate.
    """
    rates = rng.beta(2, 18, count)
    shown = 1 + rng.poisson(9, count)
    past = rng.binomial(60, rates)
    return (rng.binomial(shown, rates + lift).astype(float), shown.astype(float)), past.astype(float)


def coverage(seeds: int = 500, units: int = 1000, lift: float = 0.01) -> list[Coverage]:
    """How often intervals hold the true difference."""
    found: dict[str, list[tuple[bool, float]]] = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        (first, past), (second, later) = users(rng, units), users(rng, units, lift)
        kinds = {
            "clicks by impression": compare(first, second),
            "clicks by impression, CUPED": compare(first, second, covariates=(past, later)),
            "clicks by user": compare((first[0], np.ones(units)), (second[0], np.ones(units))),
        }
        for name, one in kinds.items():
            truth = lift * (10.0 if name == "clicks by user" else 1.0)  # 10 impressions a user on average
            found.setdefault(name, []).append((one.low <= truth <= one.high, one.high - one.low))
        # What it would be if impressions were independent.
        rates = [side[0].sum() / side[1].sum() for side in (first, second)]
        error = np.sqrt(sum(p * (1 - p) / s[1].sum() for p, s in zip(rates, (first, second), strict=True)))
        naive = abs(rates[1] - rates[0] - lift) <= 1.96 * error
        found.setdefault("(impressions taken as independent)", []).append((naive, 3.92 * error))
    return [
        Coverage(name, float(np.mean([hit for hit, _ in ones])), float(np.mean([width for _, width in ones])))
        for name, ones in found.items()
        if not name.startswith("(") or seeds > 200
    ]


def peeking(
    seeds: int = 500, units: int = 4000, looks: int = 20, level: float = 0.1, sequential: bool = False
) -> Peeking:
    """Experiments that are looked at again and again.

    Args:
        seeds: how many, with and without a difference each.
        units: of both arms together at the end.
        looks: equally far apart.
        level: the control's conversion rate; one outcome a unit.
        sequential: whether the difference is the one that always-valid intervals find at the end in 80 %.
    """
    effect = minimum_effect(units, float(np.sqrt(level * (1 - level))), sequential=sequential)
    ends = np.linspace(units / 2 / looks, units / 2, looks).astype(int)
    calls = {}
    for lift in (0.0, effect):
        single, always, last, stops = [], [], [], []
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            first = (rng.random(units // 2) < level).astype(float)
            second = (rng.random(units // 2) < level + lift).astype(float)
            ones = [
                compare((first[:end], np.ones(end)), (second[:end], np.ones(end)), scale=effect)
                for end in ends
            ]
            single.append(any(one.low > 0 or one.high < 0 for one in ones))
            valid = [
                one.always_low is not None and (one.always_low > 0 or one.always_high < 0) for one in ones
            ]
            always.append(any(valid))
            last.append(ones[-1].low > 0)
            if any(valid):
                stops.append(2 * ends[valid.index(True)] / units)
        calls[lift] = (float(np.mean(single)), float(np.mean(always)), float(np.mean(last)), stops)
    null, planned = calls[0.0], calls[effect]
    stopped = float(np.mean(planned[3])) if planned[3] else float("nan")
    return Peeking(null[0], null[1], planned[1], planned[2], stopped)


def interleaving(seeds: int = 300, units: int = 200, k: int = 10) -> tuple[float, float]:
    """How often so many users show that one ranking is better: by arms, and by interleaving.

    Clicks come with 0.3 on relevant items and 0.05 on others, thinned by position; the second ranking has the
    relevant items a little higher.
    """
    seen = np.arange(1, k + 1) ** -0.5
    found = [0, 0]
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        by_arm: list[list[float]] = [[], []]
        clicks = np.zeros((units, 2))
        for unit in range(units):
            relevant = rng.random(30) < 0.3
            rankings = [np.argsort(-(relevant + noise * rng.normal(size=30))) for noise in (1.5, 1.0)]
            arm = unit % 2
            chances = np.where(relevant[rankings[arm][:k]], 0.3, 0.05) * seen
            by_arm[arm].append(float((rng.random(k) < chances).sum()))
            both = team_draft(rankings[0].tolist(), rankings[1].tolist(), k, rng)
            hits = rng.random(k) < np.where(relevant[list(both.items)], 0.3, 0.05) * seen
            np.add.at(clicks[unit], np.asarray(both.teams), hits)
        sides = [(np.asarray(values), np.ones(len(values))) for values in by_arm]
        found[0] += compare(sides[0], sides[1]).low > 0
        found[1] += preference(clicks[:, 0], clicks[:, 1]).low > 0
    return found[0] / seeds, found[1] / seeds


@dataclasses.dataclass(frozen=True)
class Regret:
    """What a policy earned in a catalogue with new items, as shares of what the best list would have.

    Attributes:
        first, last: share of the best list's clicks that was missed in the first and in the last quarter.
        total: over all requests.
        seen: share of the new items that were shown at least 20 times.
    """

    first: float
    last: float
    total: float
    seen: float


def regret(
    exploration: Exploration | None, requests: int = 2000, items: int = 40, k: int = 5, seed: int = 0
) -> Regret:
    """Plays requests against a catalogue half of which is new: its scores are the model's guesses.

    Scores are the mean of clicks seen and of a prior guess worth ten impressions; the guesses of new items
    are the overall rate.
    """
    rng = np.random.default_rng(seed)
    truth = rng.beta(1.5, 13.5, items)
    new = np.arange(items) >= items // 2
    shown = np.where(new, 0.0, 200.0)
    clicks = np.where(new, 0.0, rng.binomial(200, truth)).astype(float)
    overall = 0.1
    best = np.sort(truth)[-k:].sum()
    missed, seen = np.empty(requests), np.zeros(items)
    for request in range(requests):
        scores = (clicks + 10 * overall) / (shown + 10)
        if exploration is None:
            order = np.argsort(-scores, kind="stable")[:k]
        else:
            order = explore(scores, k, exploration, rng, shown).order
        hits = rng.random(k) < truth[order]
        shown[order] += 1
        seen[order] += 1
        clicks[order] += hits
        missed[request] = 1 - truth[order].sum() / best
    quarter = requests // 4
    return Regret(
        float(missed[:quarter].mean()),
        float(missed[-quarter:].mean()),
        float(missed.mean()),
        float((seen[new] >= 20).mean()),
    )


def mean_regret(exploration: Exploration | None, seeds: int, requests: int) -> Regret:
    """The mean over catalogues."""
    ones = [dataclasses.astuple(regret(exploration, requests, seed=seed)) for seed in range(seeds)]
    return Regret(*map(float, np.mean(ones, 0)))


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=500)
    given = parser.parse_args()
    print(
        f"{platform.machine()}, Python {platform.python_version()}, {datetime.date.today()}, {given.seeds}"
        " seeds\n"
    )
    print("Intervals of 95 % on 1,000 users an arm, a true difference of one point")
    for row in coverage(given.seeds):
        print(f"  {row.name:36} hold it {row.coverage:6.1%}   width {row.width:.4f}")
    for units, sequential in ((2000, False), (10_000, False), (2000, True)):
        one = peeking(given.seeds, units, sequential=sequential)
        print(
            f"\nConversion of 10 %, {units:,} users, 20 looks; effect and scale: what"
            f" {'always-valid intervals' if sequential else 'one look at the end'} should find in 80 %"
        )
        print(
            f"  no difference, called at any look: single-look {one.single_false:.1%}, always-valid"
            f" {one.always_false:.1%}"
        )
        print(
            f"  the planned difference: always-valid finds {one.always_found:.1%} (on average after"
            f" {one.stopped:.0%} of the users), a single look at the end {one.final_found:.1%}"
        )
    arms, both = interleaving(max(20, given.seeds // 5))
    print(f"\n200 users, the second ranking better: arms show it in {arms:.0%}, interleaving in {both:.0%}")
    print(
        "\nA catalogue half of which is new, 4,000 requests: share of the best list's clicks that is missed"
    )
    seeds = max(3, given.seeds // 50)
    for name, exploration in (
        ("greedy", None),
        ("Thompson, cost at most 2 %", Exploration(max_cost=0.02)),
        ("Thompson, cost at most 5 %", Exploration(max_cost=0.05)),
        ("Thompson, cost not bounded", Exploration(max_cost=1.0)),
        ("UCB, cost at most 2 %", Exploration(max_cost=0.02, method="ucb")),
        ("UCB, cost at most 5 %", Exploration(max_cost=0.05, method="ucb")),
    ):
        one = mean_regret(exploration, seeds, 4000)
        print(
            f"  {name:28} first quarter {one.first:6.1%}   last {one.last:6.1%}   all {one.total:6.1%}   new"
            " items seen"
            f" {one.seen:.0%}"
        )


if __name__ == "__main__":
    main()
