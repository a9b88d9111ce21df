"""Off-policy estimates held to what is known: a simulator, and two policies' logs of the Open Bandit Dataset.

    python -m benchmarks.off_policy                        # both, where the data are there
    python -m benchmarks.off_policy --seeds 200 --rows 5000
    python -m benchmarks.off_policy --obp obp/bin/python   # the same estimates by Open Bandit Pipeline

The simulator draws contexts, shows one of ten items by a known policy, and clicks by a known model; another
policy's value is known exactly. Printed are bias (with its standard error) and how often 95 % intervals hold
the truth, over seeds.

The Open Bandit sample (campaign "men", https://research.zozo.com/data.html, CC BY 4.0; `--data FOLDER`) has
10,000 impressions of a uniformly random policy and 10,000 of Thompson sampling. Each one's click rate is
estimated from the other's log and stands beside what was measured. Thompson sampling's probabilities in the
random log are how often its own log shows an item at a position.

`--obp PYTHON` names an interpreter that has `obp` 0.5.7, scikit-learn below 1.2 and pandas below 2 (Python
3.9; `pip install --no-deps obp==0.5.7`, then those two, PyYAML and tqdm). PyTorch and the plotting libraries,
which it imports and these estimators do not use, are put aside.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import pathlib
import platform
import subprocess
import tempfile
from collections.abc import Iterator

import numpy as np
import pandas as pd

from tfrec_fusion.experiments.checks import ExperimentError
from tfrec_fusion.experiments.off_policy import (
    OffPolicyEstimate,
    cross_fitted_means,
    doubly_robust,
    ips,
    snips,
)

DATA = pathlib.Path(__file__).parent.parent / "../shared/data/open-bandit-men"
CONTEXTS, ITEMS = 5, 10
CLIP = 3.0
Columns = tuple[np.ndarray, np.ndarray, np.ndarray]
PEER = """
import sys
from unittest.mock import MagicMock

for name in ("torch", "torch.nn", "torch.nn.functional", "torch.optim", "torch.utils", "torch.utils.data",
             "seaborn", "matplotlib", "matplotlib.pyplot", "pingouin", "pyieoe", "mypy_extensions"):
    try:
        __import__(name)
    except ImportError:
        sys.modules[name] = MagicMock()
sys.modules["torch"].utils.data.Dataset = sys.modules["torch"].nn.Module = object
import json
import numpy as np
import obp
from obp.ope import DoublyRobust, InverseProbabilityWeighting, SelfNormalizedInverseProbabilityWeighting

log = np.load(sys.argv[1])
common = dict(
    reward=log["reward"], action=log["action"], pscore=log["pscore"], action_dist=log["dist"][:, :, None]
)
print(json.dumps({
    "version": obp.__version__,
    "IPS": InverseProbabilityWeighting().estimate_policy_value(**common),
    "SNIPS": SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**common),
    "doubly robust": DoublyRobust().estimate_policy_value(
        **common, estimated_rewards_by_reg_model=log["predicted"][:, :, None]),
    "IPS, clipped": InverseProbabilityWeighting(lambda_=float(sys.argv[2])).estimate_policy_value(**common),
}))
"""


@dataclasses.dataclass(frozen=True)
class Simulated:
    """One estimator over all seeds.

    Attributes:
        estimator, clip: which.
        bias, bias_error: mean of estimate less truth, and its standard error.
        spread: root mean squared error.
        coverage: share of the intervals that hold the truth.
        refused: share of the logs that were refused.
    """

    estimator: str
    clip: float | None
    bias: float
    bias_error: float
    spread: float
    coverage: float
    refused: float


@dataclasses.dataclass(frozen=True)
class Question:
    """A policy's click rate, asked of another policy's log.

    Attributes:
        name: which way round.
        rewards, actions, logging: the log; integer items.
        target: float `[n, items]`, probabilities of the policy that is asked about, for each row's position.
        truth, truth_low, truth_high: what its own log says.
    """

    name: str
    rewards: np.ndarray
    actions: np.ndarray
    logging: np.ndarray
    target: np.ndarray
    truth: float
    truth_low: float
    truth_high: float

    def predicted(self) -> np.ndarray:
        """float `[n, items]`: cross-fitted click rates."""
        return cross_fitted_means(self.rewards, self.actions, self.target.shape[1], prior=100.0)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def estimates(question: Question) -> dict[str, OffPolicyEstimate]:
    """Each estimator's answer."""
    rows = np.arange(len(question.actions))
    shown = question.target[rows, question.actions]
    log = (question.rewards, question.logging, shown)
    predicted = question.predicted()
    return {
        "IPS": ips(*log),
        "SNIPS": snips(*log),
        "doubly robust": doubly_robust(
            *log, predicted[rows, question.actions], (question.target * predicted).sum(1)
        ),
        "IPS, clipped": ips(*log, clip=CLIP),
    }


def _asked(
    log: Columns, models: tuple[np.ndarray, np.ndarray], clip: float | None, name: str
) -> OffPolicyEstimate:
    if name == "doubly robust":
        return doubly_robust(*log, *models, clip=clip)
    return {"IPS": ips, "SNIPS": snips}[name](*log, clip=clip)


def simulate(seeds: int = 200, rows: int = 5000) -> list[Simulated]:
    """Bias and coverage over seeds.

    Args:
        seeds: how many logs.
        rows: of each.
    """
    world = np.random.default_rng(12)
    clicks = 1 / (1 + np.exp(2.5 - world.normal(size=(CONTEXTS, ITEMS))))
    logged = softmax(world.normal(size=(CONTEXTS, ITEMS)))
    asked = softmax(world.normal(size=(CONTEXTS, ITEMS)))
    truth = float((asked * clicks).sum(1).mean())
    found: dict[tuple[str, float | None], list[OffPolicyEstimate]] = {}
    refused: dict[tuple[str, float | None], int] = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        context = rng.integers(CONTEXTS, size=rows)
        actions = (logged.cumsum(1)[context] > rng.random((rows, 1))).argmax(1)
        rewards = (rng.random(rows) < clicks[context, actions]).astype(np.float64)
        log = (rewards, logged[context, actions], asked[context, actions])
        cells = cross_fitted_means(rewards, context * ITEMS + actions, CONTEXTS * ITEMS, seed=seed)
        predicted = cells.reshape(rows, CONTEXTS, ITEMS)[np.arange(rows), context]
        models = (predicted[np.arange(rows), actions], (asked[context] * predicted).sum(1))
        for clip in (None, CLIP):
            for name in ("IPS", "SNIPS", "doubly robust"):
                try:
                    found.setdefault((name, clip), []).append(_asked(log, models, clip, name))
                except ExperimentError:
                    refused[name, clip] = refused.get((name, clip), 0) + 1
    return [
        _simulated(name, clip, ones, truth, refused.get((name, clip), 0))
        for (name, clip), ones in found.items()
    ]


def _simulated(
    name: str, clip: float | None, ones: list[OffPolicyEstimate], truth: float, refused: int
) -> Simulated:
    errors = np.array([one.value for one in ones]) - truth
    return Simulated(
        name,
        clip,
        float(errors.mean()),
        float(errors.std(ddof=1) / np.sqrt(len(errors))),
        float(np.sqrt(np.square(errors).mean())),
        float(np.mean([one.low <= truth <= one.high for one in ones])),
        refused / (len(ones) + refused),
    )


def questions(folder: pathlib.Path) -> Iterator[Question]:
    """Both ways round."""
    names = {"random": "random_men.csv.gz", "Thompson sampling": "bts_men.csv.gz"}
    columns = ["item_id", "position", "click", "propensity_score"]
    logs = {name: pd.read_csv(folder / file, usecols=columns) for name, file in names.items()}
    items = 1 + max(int(log.item_id.max()) for log in logs.values())
    for logged, asked in (("Thompson sampling", "random"), ("random", "Thompson sampling")):
        log, own = logs[logged], logs[asked]
        if asked == "random":
            target = np.full((len(log), items), 1 / items)
        else:
            shares = pd.crosstab(own.position, own.item_id, normalize="index").reindex(
                columns=range(items), fill_value=0
            )
            target = shares.to_numpy()[shares.index.get_indexer(log.position)]
        rate = float(own.click.mean())
        reach = 1.96 * np.sqrt(rate * (1 - rate) / len(own))
        yield Question(
            f"{asked}, from the log of {logged}",
            log.click.to_numpy(np.float64),
            log.item_id.to_numpy(),
            log.propensity_score.to_numpy(),
            target,
            rate,
            rate - reach,
            rate + reach,
        )


def by_peer(question: Question, python: str) -> dict[str, float | str]:
    """The same estimates by Open Bandit Pipeline, in an interpreter of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "log.npz"
        np.savez(
            path,
            reward=question.rewards,
            action=question.actions,
            pscore=question.logging,
            dist=question.target,
            predicted=question.predicted(),
        )
        done = subprocess.run(
            [python, "-c", PEER, str(path), str(CLIP)], capture_output=True, text=True, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument(
        "--data", type=pathlib.Path, default=DATA, help="the folder of the Open Bandit sample"
    )
    parser.add_argument("--obp", metavar="PYTHON", help="an interpreter with Open Bandit Pipeline")
    given = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, {datetime.date.today()}\n")
    print(f"Simulated: {given.seeds} logs of {given.rows:,} rows")
    print(
        f"{'estimator':15} {'clip':>5} {'bias':>9} {'± error':>9} {'rmse':>8} {'coverage':>9} {'refused':>8}"
    )
    for row in simulate(given.seeds, given.rows):
        clip = "–" if row.clip is None else f"{row.clip:g}"
        print(
            f"{row.estimator:15} {clip:>5} {row.bias:+9.5f} {row.bias_error:9.5f} {row.spread:8.5f}"
            f" {row.coverage:9.1%} {row.refused:8.1%}"
        )
    if not given.data.is_dir():
        print("\nThe Open Bandit sample is not here; name its folder with --data.")
        return
    for question in questions(given.data):
        print(f"\nOpen Bandit, men: click rate of {question.name}")
        print(f"{'measured':15} {question.truth:.4%}  [{question.truth_low:.4%}, {question.truth_high:.4%}]")
        peer = by_peer(question, given.obp) if given.obp else {}
        for name, one in estimates(question).items():
            beside = f"  obp {peer['version']}: {peer[name]:.4%}" if peer else ""
            print(
                f"{name:15} {one.value:.4%}  [{one.low:.4%}, {one.high:.4%}]  effective rows"
                f" {one.effective_rows:,.0f}, mean weight {one.mean_weight:.3f}, clipped"
                f" {one.clipped:.1%}{beside}"
            )


if __name__ == "__main__":
    main()
