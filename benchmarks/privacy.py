"""Accuracy against ε, and what an attack on membership learns, on the same models.

    python -m benchmarks.privacy [--data planted] [--users 300] [--epochs 12] [--models 4] [--json FILE]
    python -m benchmarks.privacy --data movielens --epochs 20 --models 3

For each ε, `--models` retrieval models are trained, each on another half of the users. Each is asked for the
held-out last choice of its own users (NDCG@10, the whole catalogue ranked without what they chose before),
and attacked: who of all users was it trained on?

- `threshold`: whose loss is low (Yeom et al., 2018, https://arxiv.org/abs/1709.01604). The threshold is the
  best one of half of the users and judged on the other half, both ways round.
- `ratio`: whose loss is likelier under normal distributions of that user's losses in the other models, those
  that trained on the user against those that did not (Carlini et al., 2022,
  https://arxiv.org/abs/2112.03570), with one variance for all since there are few models.

The advantage is the true positive rate minus the false positive rate: 0 for a guess, 1 for certainty, at most
`(e^ε - 1 + 2δ) / (e^ε + 1)` for any attack on an (ε, δ)-private model (Humphries et al., 2023,
https://arxiv.org/abs/2010.12112). ε ∞ is the same model and the same steps, with neither clipping nor noise;
`popularity` ranks by how often items were chosen, without privacy.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import pathlib
import time

import numpy as np
import tensorflow as tf

from tfrec_fusion import files
from tfrec_fusion.config import FeatureSpace, PrivacyConfig, RetrievalConfig, TowerConfig, TrainingConfig
from tfrec_fusion.metrics.ranks import gain, next_item_ranks, tie_order
from tfrec_fusion.models.build import build_two_tower
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.training.batches import batches
from tfrec_fusion.training.fitting import fit
from tfrec_fusion.training.privacy.fitting import fit_private
from tfrec_fusion.training.privacy.gradients import NoisySteps
from tfrec_fusion.training.privacy.user_batches import UserBatches

K, LENGTH = 10, 10
Columns = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Data:
    """Users' choices: all but the last to train on, the last to ask for."""

    space: FeatureSpace
    catalogue: Catalogue
    train: Columns
    test: Columns


def planted_data(users: int, seed: int = 0, random_share: float = 0.4) -> Data:
    """Users who go round one of 12 circles of 10 items and choose at random every few steps: what can be
    learned of all of them, and what only a memory of one of them can know."""
    rng, circles, size = np.random.default_rng(seed), 12, 10
    items = circles * size
    rows: dict[str, list] = {"train": [], "test": []}
    for user in range(1, users + 1):
        walk = rng.integers(circles) * size + (rng.integers(size) + np.arange(LENGTH)) % size + 1
        strays = rng.random(LENGTH) < random_share
        walk[strays] = rng.permutation(np.setdiff1d(np.arange(1, items + 1), walk))[: strays.sum()]
        for step, item in enumerate(walk):
            history = np.zeros(LENGTH, np.int32)
            history[LENGTH - step :] = walk[:step]
            rows["test" if step == LENGTH - 1 else "train"].append((user, history, item))
    train, test = (columns(rows[part]) for part in ("train", "test"))
    ids = np.array(["", *(f"i{item}" for item in range(1, items + 1))])
    counts = np.bincount(train["item_index"], minlength=items + 1)
    space = FeatureSpace(num_users=users + 1, num_items=items + 1, history_length=LENGTH)
    return Data(space, Catalogue(ids, ids, {}, None, counts), train, test)


def columns(rows: list[tuple]) -> Columns:
    """Rows of user, history and item as the models take them."""
    users, histories, items = (np.array(column, np.int32) for column in zip(*rows, strict=True))
    return {"user_index": users, "history": histories, "item_index": items}


def movielens_data() -> Data:
    """MovieLens 100K without text, each user's last film held out."""
    from benchmarks.quality_data import movielens_tables
    from tfrec_fusion.config import SplitConfig
    from tfrec_fusion.features.preparing import prepare

    data = prepare(movielens_tables(), SplitConfig(method="leave_last_out"), text=None)
    names = ("user_index", "history", "item_index")
    # Validation is each user's last but one, and no use here: nothing is chosen by it.
    width = data.space.history_length
    parts = ({name: part[name] for name in names} for part in (data.train, data.test))
    train, test = ({**part, "history": part["history"][:, -width:]} for part in parts)
    return Data(data.space, data.catalogue, train, test)


def settings(options: argparse.Namespace, epsilon: float, delta: float, seed: int) -> RetrievalConfig:
    """The retrieval model of one ε; of ∞ too it is the one that privacy leaves."""
    privacy = PrivacyConfig(
        epsilon=min(epsilon, 1000.0), delta=delta, clip=options.clip, user_rows=options.user_rows,
        accountant=options.accountant,
    )  # fmt: skip
    training = TrainingConfig(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        seed=seed,
        privacy=privacy,
    )
    tower = TowerConfig(dim=options.dim, history_encoder=options.history_encoder, dropout=0.0, id_dropout=0.0)
    return RetrievalConfig(tower=tower, training=training, negatives=options.negatives)


def train(data: Data, rows: Columns, config: RetrievalConfig, epsilon: float) -> tuple[TwoTower, float]:
    """A model of some users, and the ε that it spent."""
    model = build_two_tower(config, data.space, data.catalogue)
    training = config.training
    if math.isfinite(epsilon):
        _, spent = fit_private(model, batches(rows, 4096), training, progress=False)
        return model, spent.epsilon
    assert training.privacy is not None
    users = UserBatches(rows, training.batch_size, training.privacy.user_rows)
    model.private_step = NoisySteps(1e9, 0.0, users.expected_users)
    fit(model, users.epoch, None, training, callbacks=(), progress=False)
    return model, math.inf


def ndcg(model: TwoTower, test: Columns, counts: np.ndarray | None = None) -> float:
    """NDCG@10 of the held-out choices; of popularity where `counts` are given."""
    vectors = model.tower_candidates().numpy()
    queries = model.tower_queries({name: tf.constant(values) for name, values in test.items()}).numpy()
    scores = queries @ vectors.T if counts is None else np.tile(counts.astype(float), (len(queries), 1))
    scores[:, 0] = -np.inf
    ranks = next_item_ranks(scores, test["item_index"], test["history"], tie_order(len(vectors)))
    return float(gain(ranks, K).mean())


def user_losses(model: TwoTower, rows: Columns, users: int) -> np.ndarray:
    """Each user's mean loss over their rows, float64 `[users + 1]`; row 0 is nobody."""
    vectors, losses = model.tower_candidates(), []
    for start in range(0, len(rows["item_index"]), 4096):
        part = {name: tf.constant(values[start : start + 4096]) for name, values in rows.items()}
        logits = tf.matmul(model.tower_queries(part), vectors[1:], transpose_b=True) / model.temperature
        target = part["item_index"] - 1
        losses.append(tf.nn.sparse_softmax_cross_entropy_with_logits(target, logits).numpy())
    sums = np.bincount(rows["user_index"], np.concatenate(losses), users + 1)
    return sums / np.maximum(np.bincount(rows["user_index"], minlength=users + 1), 1)


def advantage(guessed: np.ndarray, member: np.ndarray) -> float:
    """True positive rate minus false positive rate; both bool `[users]`."""
    return float(guessed[member].mean() - guessed[~member].mean())


def threshold_attack(losses: np.ndarray, member: np.ndarray, rng: np.random.Generator) -> float:
    """The advantage of guessing those to be members whose loss is below a threshold.

    Args:
        losses: float `[users]`.
        member: bool `[users]`.
        rng: divides users into those that choose the threshold and those that judge it.
    """
    halves, found = np.array_split(rng.permutation(len(losses)), 2), []
    for chosen, judged in (halves, halves[::-1]):
        candidates = np.sort(losses[chosen])
        below = losses[chosen][None, :] <= candidates[:, None]
        gains = below[:, member[chosen]].mean(1) - below[:, ~member[chosen]].mean(1)
        found.append(advantage(losses[judged] <= candidates[gains.argmax()], member[judged]))
    return float(np.mean(found))


def ratio_attack(losses: np.ndarray, member: np.ndarray, target: int) -> float:
    """The advantage of the likelihood ratio on one model, the others telling what losses mean.

    Args:
        losses: float `[models, users]`.
        member: bool `[models, users]`.
        target: the model that is attacked.
    """
    others = np.arange(len(losses)) != target
    shadow, inside = losses[others], member[others]
    told = inside.any(0) & ~inside.all(0)
    means = [(shadow * part).sum(0) / np.maximum(part.sum(0), 1) for part in (inside, ~inside)]
    # With one variance the ratio is a matter of which mean is nearer.
    nearer = np.abs(losses[target] - means[0]) < np.abs(losses[target] - means[1])
    return advantage(nearer[told], member[target][told])


def measure(data: Data, options: argparse.Namespace, epsilon: float) -> dict[str, float]:
    """Figures of one ε, means over its models, with their standard deviations."""
    users = data.space.num_users - 1
    delta = 10.0 ** -math.ceil(math.log10(5 * users))
    losses, member, gains, spent = [], [], [], 0.0
    started = time.perf_counter()
    for seed in range(options.models):
        rng = np.random.default_rng(seed)
        inside = np.zeros(users + 1, bool)
        inside[rng.permutation(users)[: users // 2] + 1] = True
        rows, asked = ({name: values[inside[part["user_index"]]] for name, values in part.items()}
                       for part in (data.train, data.test))  # fmt: skip
        config = settings(options, epsilon, delta, seed + 1)
        model, spent = train(data, rows, config, epsilon)
        gains.append(ndcg(model, asked))
        losses.append(user_losses(model, data.train, users)[1:])
        member.append(inside[1:])
    seconds = (time.perf_counter() - started) / options.models
    all_losses, all_members = np.array(losses), np.array(member)
    rng = np.random.default_rng([0, users])  # not that of the members: its halves would be they
    thresholds = [threshold_attack(*pair, rng) for pair in zip(all_losses, all_members, strict=True)]
    found = {"ndcg@10": gains, "threshold": thresholds}
    if options.models > 2:
        found["ratio"] = [ratio_attack(all_losses, all_members, each) for each in range(options.models)]
    bound = 1.0 if math.isinf(spent) else (math.expm1(spent) + 2 * delta) / (math.exp(spent) + 1)
    figures = {"spent": spent, "delta": delta, "bound": bound, "seconds": seconds}
    for name, values in found.items():
        figures |= {name: float(np.mean(values)), f"{name}_sd": float(np.std(values))}
    return figures


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks.privacy", description=__doc__.split("\n")[0])
    result.add_argument("--data", choices=("planted", "movielens"), default="planted")
    result.add_argument("--users", type=int, default=300, help="of the planted data, half of them trained on")
    result.add_argument("--epsilons", type=float, nargs="+", default=[math.inf, 8.0, 4.0, 1.0])
    result.add_argument("--models", type=int, default=4, help="for each ε, each on another half of the users")
    result.add_argument("--epochs", type=int, default=12)
    result.add_argument("--batch-size", type=int, default=50, help="users of a step")
    result.add_argument("--learning-rate", type=float, default=1e-2)
    result.add_argument("--clip", type=float, default=1.0)
    result.add_argument("--user-rows", type=int, default=8)
    result.add_argument("--dim", type=int, default=16)
    result.add_argument("--history-encoder", default="mean")
    result.add_argument("--negatives", type=int, default=512)
    result.add_argument("--accountant", choices=("pld", "rdp"), default="pld")
    result.add_argument("--json", type=pathlib.Path)
    return result


def main() -> None:
    """Prints the table, a row an ε."""
    options = parser().parse_args()
    data = planted_data(options.users) if options.data == "planted" else movielens_data()
    users = data.space.num_users - 1
    print(f"{options.data}: {users:,} users, {len(data.catalogue) - 1:,} items,"
          f" {len(data.train['item_index']):,} rows; {options.models} models for each ε")  # fmt: skip
    heads = " ".join(f"{name:>16}" for name in ("NDCG@10", "threshold", "ratio"))
    print(f"{'ε':>6} {'spent':>6} {heads} {'bound':>6} {'s/model':>8}")
    results = {}
    for epsilon in options.epsilons:
        found = results[f"{epsilon:g}"] = measure(data, options, epsilon)
        cells = [f"{found[name]:.3f} ± {found[f'{name}_sd']:.3f}" if name in found else "-"
                 for name in ("ndcg@10", "threshold", "ratio")]  # fmt: skip
        shown = " ".join(f"{cell:>16}" for cell in cells)
        print(f"{epsilon:>6g} {found['spent']:>6.3g} {shown} {found['bound']:>6.3f} {found['seconds']:>8.1f}",
              flush=True)  # fmt: skip
    model = build_two_tower(settings(options, 1.0, 1e-9, 1), data.space, data.catalogue)
    popular = ndcg(model, data.test, data.catalogue.counts)
    print(f"popularity, of all users, without privacy: NDCG@10 {popular:.3f}")
    if options.json:
        files.write_json(options.json, {"options": vars(options) | {"json": None}, "results": results})


if __name__ == "__main__":
    main()
